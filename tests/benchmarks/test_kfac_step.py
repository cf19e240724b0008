"""Angles of steps, against a dense solve in double precision."""

import pytest
import torch
from oracle import ggn as dense_ggn
from oracle import gradient as dense_gradient
from torch import nn

from benchmarks.experiments.base import Scale
from benchmarks.experiments.kfac_step import EXPERIMENT, KFAC, angle, angles
from benchmarks.methods.kfac import DAMPING, kfac_step, known_parameters
from benchmarks.problems.problem import Instance
from benchmarks.records.record import Quantity
from benchmarks.records.tasks import Computed


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


def test_angles_are_those_to_the_dense_damped_step(instance):
    cells = {
        name: EXPERIMENT.cell("own", name, Quantity.ANGLE, {})
        for name in ("gram", *KFAC, "gradient")
    }
    found = {cell.method: answer for cell, answer in angles(instance, cells).items()}
    names = [*known_parameters(instance.model)]
    arguments = instance.model, instance.loss_func, instance.inputs, instance.targets, names
    matrix, gradient = dense_ggn(*arguments), dense_gradient(*arguments)
    exact = -torch.linalg.solve(matrix + DAMPING * torch.eye(len(gradient)), gradient)
    values, vectors = torch.linalg.eigh(matrix)
    values, vectors = values[-10:], vectors[:, -10:]
    short = -vectors @ ((vectors.T @ gradient) / (values + DAMPING))
    steps = {
        "gram": short,
        "gradient": -gradient,
        **{name: kfac_step(instance, kind) for name, kind in KFAC.items()},
    }
    for name, step in steps.items():
        assert found[name]["samples"] == pytest.approx([angle(step, exact)], rel=1e-4), name


def test_kfac_of_one_sample_without_a_hidden_layer_is_the_exact_matrix():
    """Its Kronecker factors are exact then; so is the direction, where damping is negligible."""
    inputs = torch.tensor([[1.0, -2.0, 0.5]]).double() * 100
    model = nn.Linear(3, 2, bias=False).double()
    instance = Instance(model, nn.MSELoss(), inputs, torch.ones(1, 2).double())
    gradient = dense_gradient(model, instance.loss_func, inputs, instance.targets, ["weight"])
    assert angle(kfac_step(instance, KFAC["kfac_expand"]), -gradient) < 0.1


def test_costs_and_angles_are_about_the_same_batches():
    for scale in Scale:
        points = EXPERIMENT.points(scale)
        assert {p.task.computed for p in points} == {
            Computed.PRECONDITIONED,
            Computed.NEWTON_STEP,
        }
        assert len({p.batch_size for p in points}) == (1 if scale is Scale.SMOKE else 5)
