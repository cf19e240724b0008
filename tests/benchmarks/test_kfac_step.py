"""Angles of steps, against a dense solve in double precision."""

import pytest
import torch
from oracle import ggn as dense_ggn
from oracle import gradient as dense_gradient
from torch import nn

from benchmarks.experiments.base import Scale
from benchmarks.experiments.kfac_step import EXPERIMENT, METHODS, angle, angles, descent
from benchmarks.methods import find_method
from benchmarks.methods.kfac import DAMPING, known_parameters
from benchmarks.problems.problem import Instance
from benchmarks.records.record import Quantity
from benchmarks.records.tasks import Computed, Task


@pytest.fixture
def instance():
    """With a normalization that K-FAC does not know."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 3))
        inputs = torch.randn(8, 3, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 0, 1, 1, 2, 0])
    return Instance(model.double(), nn.CrossEntropyLoss(), inputs, y)


@pytest.mark.parametrize(
    ("first", "second", "degrees"),
    [
        ([1.0, 0.0], [2.0, 0.0], 0),
        ([1.0, 0.0], [0.0, 3.0], 90),
        ([1.0, 0.0], [-2.0, 0.0], 180),
        ([1.0, 0.0], [1.0, 1.0], 45),
        ([1.0, 0.0], [1.0, 1e-9], 5.7e-8),
    ],
)
def test_angles(first, second, degrees):
    """Also those that the cosine could not tell from zero."""
    found = angle(torch.tensor(first).double(), torch.tensor(second).double())
    assert found == pytest.approx(degrees, rel=1e-2, abs=1e-12)


def test_parameters_that_kfac_knows(instance):
    assert [*known_parameters(instance.model)] == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert [*known_parameters(nn.Linear(1, 1))] == ["weight", "bias"]


@pytest.fixture
def dense(instance):
    """Matrix and gradient of the parameters that K-FAC knows."""
    names = [*known_parameters(instance.model)]
    arguments = instance.model, instance.loss_func, instance.inputs, instance.targets, names
    return dense_ggn(*arguments), dense_gradient(*arguments)


def step(instance, method):
    return find_method(method).prepare(instance, Task(Computed.PRECONDITIONED))().values


def test_damped_newton_steps_against_dense_ones(instance, dense):
    matrix, gradient = dense
    identity = torch.eye(len(gradient)).double()
    exact = -torch.linalg.solve(matrix + DAMPING * identity, gradient)
    torch.testing.assert_close(step(instance, "damped_newton"), exact)
    values, vectors = torch.linalg.eigh(matrix)
    values, vectors = values[-10:], vectors[:, -10:]
    short = -vectors @ ((vectors.T @ gradient) / (values + DAMPING))
    torch.testing.assert_close(step(instance, "damped_newton_leading"), short)
    torch.testing.assert_close(descent(instance), -gradient)


def test_angles_are_those_to_the_exact_step(instance):
    cells = {name: EXPERIMENT.cell("own", name, Quantity.ANGLE, {}) for name in METHODS[1:]}
    found = {cell.method: answer for cell, answer in angles(instance, cells).items()}
    exact = step(instance, "damped_newton")
    steps = {name: step(instance, name) for name in METHODS[1:-1]} | {
        "gradient": descent(instance)
    }
    for name, other in steps.items():
        assert found[name]["samples"] == pytest.approx([angle(other, exact)]), name
        assert found[name]["samples"][0] > 1e-3


def test_a_method_may_fail_by_itself(instance):
    """As K-FAC on a network that it does not know."""
    cells = {name: EXPERIMENT.cell("own", name, Quantity.ANGLE, {}) for name in METHODS[1:]}
    cells["kfac_expand"] = EXPERIMENT.cell("own", "quadrature", Quantity.ANGLE, {})
    found = {cell.method: answer["status"] for cell, answer in angles(instance, cells).items()}
    assert found.pop("quadrature") == "skipped"
    assert {*found.values()} == {"ok"}


def test_costs_and_angles_are_about_the_same_steps():
    for scale in Scale:
        points = EXPERIMENT.points(scale)
        assert {p.task for p in points} == {Task(Computed.PRECONDITIONED)}
        assert len({p.batch_size for p in points}) == (1 if scale is Scale.SMOKE else 5)
        assert all({*p.methods} <= {*METHODS} for p in points)
