"""Experiments at a moment of a training: what is recorded, against dense matrices in float64."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from oracle import ggn as dense_ggn
from oracle import gradient as dense_gradient
from torch import nn

from benchmarks.experiments import (
    gradient_curvature_variance,
    lanczos_spectrum,
    loss_landscape,
)
from benchmarks.experiments.base import Scale
from benchmarks.experiments.eigenspaces import Network
from benchmarks.problems.problem import Instance
from benchmarks.training.data import Sets

SIZE = 6


@pytest.fixture
def sets():
    """A small network with 24 samples to train and 5 to test."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
        inputs = torch.randn(29, 3, dtype=torch.float64)
        targets = torch.randint(3, (29,))
    whole = Instance(model, nn.CrossEntropyLoss(), inputs, targets)
    return Sets(whole.first(24), whole.samples(slice(24, None)))


@pytest.fixture
def answers(sets, monkeypatch):
    """Runs an experiment at a moment; its answers in the order of its cells."""

    def run(module):
        if hasattr(module, "SIZE"):
            monkeypatch.setattr(module, "SIZE", SIZE)
        experiment = module.EXPERIMENT
        watched = SimpleNamespace(
            at=lambda epoch: sets,
            recipe=SimpleNamespace(seed=3),
            request=SimpleNamespace(scale=Scale.SMOKE),
            cell=lambda method, quantity, **given: experiment.cell("own", method, quantity, given),
        )
        cells = experiment.cells(watched, 1.0)
        found = experiment.answers(watched, 1.0, cells)
        assert {answer["status"] for answer in found.values()} == {"ok"}
        return {(cell.method, cell.parameters.get("index")): found[cell] for cell in cells}

    return run


def dense(instance, function=dense_ggn):
    names = [name for name, _ in instance.model.named_parameters()]
    return function(instance.model, instance.loss_func, instance.inputs, instance.targets, names)


def hessian(instance):
    parameters = dict(instance.model.named_parameters())
    sizes = [p.numel() for p in parameters.values()]

    def loss(vector):
        parts = zip(parameters, vector.split(sizes), strict=True)
        given = {name: x.reshape(parameters[name].shape) for name, x in parts}
        outputs = torch.func.functional_call(instance.model, given, instance.inputs)
        return instance.loss_func(outputs, instance.targets)

    return torch.func.hessian(loss)(torch.cat([p.detach().flatten() for p in parameters.values()]))


def test_spectra_are_those_of_the_mini_batch(answers, sets):
    """As many steps as parameters: Lanczos ends at the largest eigenvalue of each matrix."""
    found = answers(lanczos_spectrum)
    batch = sets.train.samples(Network(sets.train).drawn(3)[:SIZE])
    matrix = dense(batch)
    exact = found["gram", None]
    expected = torch.linalg.eigvalsh(matrix)[-len(exact["samples"]) :]
    np.testing.assert_allclose(exact["samples"], expected, atol=1e-10)
    assert exact["details"]["num_parameters"] == len(matrix)
    for method, of in (("lanczos_ggn", matrix), ("lanczos_hessian", hessian(batch))):
        largest = float(torch.linalg.eigvalsh(of)[-1])
        assert max(found[method, None]["samples"]) == pytest.approx(largest)
        assert sum(found[method, None]["details"]["weights"]) == pytest.approx(1)
    assert sum(found["diagonal", None]["samples"]) == len(matrix)


def test_lines_and_planes_go_along_the_leading_eigenvectors(answers, sets, monkeypatch):
    """Slopes and curvatures belong to the direction of the losses, and so do their signs."""
    monkeypatch.setattr(loss_landscape, "DISTANCE", 1e-3)
    found, train = answers(loss_landscape), sets.train
    values, vectors = torch.linalg.eigh(dense(train))
    gradient, second = dense(train, dense_gradient), hessian(train)
    plane = np.array(found["plane", None]["samples"]).reshape(21, 21)
    for index in (1, 2, 3):
        line = found["direction", index]
        details, losses = line["details"], np.array(line["samples"])
        assert details["curvatures"] == pytest.approx([float(values[-index])], rel=1e-4)
        vector = vectors[:, -index]
        assert abs(details["slopes"][0]) == pytest.approx(abs(float(vector @ gradient)), rel=1e-3)
        step = details["steps"][1] - details["steps"][0]
        slope = (losses[11] - losses[9]) / (2 * step)
        assert details["slopes"][0] == pytest.approx(slope, rel=1e-3)
        curvature = (losses[11] - 2 * losses[10] + losses[9]) / step**2
        assert curvature == pytest.approx(float(vector @ second @ vector), rel=1e-2)
        if index < 3:
            along = plane[:, 10] if index == 1 else plane[10]
            np.testing.assert_allclose(along, losses, rtol=1e-12)
    assert found["plane", None]["details"]["curvatures"] == pytest.approx(
        values[-2:].flip(0).tolist(), rel=1e-4
    )


def test_other_mini_batches_have_none_of_the_samples_of_the_first(answers, sets, monkeypatch):
    chosen = []
    real = Network.ggn

    def ggn(self, indices, **options):
        chosen.append(indices)
        return real(self, indices, **options)

    monkeypatch.setattr(Network, "ggn", ggn)
    found = answers(gradient_curvature_variance)
    first, *others = chosen
    assert len(others) == 3
    assert all(not {*first.tolist()} & {*other.tolist()} for other in others)
    assert len({tuple(other.tolist()) for other in others}) == 3
    values, vectors = torch.linalg.eigh(dense(sets.train.samples(first)))
    vectors = vectors[:, -3:]
    predicted, measured = found["gram", None], found["mini_batch", None]
    assert predicted["samples"] == pytest.approx(values[-3:].tolist())
    curvatures, slopes = (
        torch.stack([of(sets.train.samples(other)) for other in others])
        for of in (
            lambda batch: torch.einsum("dk,de,ek->k", vectors, dense(batch), vectors),
            lambda batch: dense(batch, dense_gradient) @ vectors,
        )
    )
    assert measured["samples"] == pytest.approx(curvatures.mean(0).tolist())
    details = measured["details"]
    assert details["curvature_variances"] == pytest.approx(curvatures.var(0).tolist())
    assert details["slope_variances"] == pytest.approx(slopes.var(0).tolist())
    single = [sets.train.samples(first[n : n + 1]) for n in range(SIZE)]
    of_samples = torch.stack([dense(one, dense_gradient) @ vectors for one in single])
    expected = of_samples.var(0) / SIZE * (1 - SIZE / 18)
    assert predicted["details"]["slope_variances"] == pytest.approx(expected.tolist())
