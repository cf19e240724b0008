"""Losses along directions, against losses that are known."""

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.experiments.eigenspaces import Network, flat
from benchmarks.experiments.loss_landscape import _answer, moved
from benchmarks.problems.problem import Instance
from benchmarks.training.data import Sets
from reports.sections.experiments.loss_landscape import Seen

STEPS = [-1.0, -0.5, 0.0, 0.5, 1.0]


def sets_of(model, loss, targets):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(len(targets), 3, generator=generator, dtype=torch.float64)
    instance = Instance(model.double(), loss, inputs, targets)
    return Sets(instance, instance.first(2))


@pytest.fixture
def quadratic():
    """A linear model with square loss, of which the GGN tells all."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return sets_of(nn.Linear(3, 2), nn.MSELoss(), torch.ones(7, 2, dtype=torch.float64))


def test_the_quadratic_of_a_quadratic_loss_is_the_loss(quadratic):
    """Along both directions and in their plane; slopes and curvatures are those of the library."""
    full = Network(quadratic.train).full()
    pairs, gradient = full.eigh(k=2), full.flatten(full.gradient())
    vectors = flat(pairs).flip(1).T
    slopes, curvatures = (vectors @ gradient).tolist(), pairs.values.flip(0).tolist()
    plane = Seen.of(_answer(quadratic, vectors.T, slopes, curvatures, STEPS))
    np.testing.assert_allclose(plane.losses, plane.model, rtol=1e-10)
    assert plane.accuracies == ()
    line = Seen.of(_answer(quadratic, vectors[:1].T, slopes[:1], curvatures[:1], STEPS))
    np.testing.assert_allclose(line.losses, line.model, rtol=1e-10)
    np.testing.assert_allclose(line.losses, plane.losses[:, 2], rtol=1e-10)
    assert line.second_difference == pytest.approx(curvatures[0])
    assert line.error(2) < 1e-9


def test_losses_and_accuracies_are_those_at_the_point():
    targets = torch.tensor([0, 1, 1, 0, 1])
    sets = sets_of(nn.Linear(3, 2), nn.CrossEntropyLoss(), targets)
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(8, 1, generator=generator, dtype=torch.float64)
    details = _answer(sets, direction, [0.0], [0.0], STEPS)["details"]
    samples = _answer(sets, direction, [0.0], [0.0], STEPS)["samples"]
    model = sets.train.model.requires_grad_(False)
    for number, step in enumerate(STEPS):
        weight = model.weight + step * direction[:6, 0].reshape(2, 3)
        outputs = sets.train.inputs @ weight.T + model.bias + step * direction[6:, 0]
        loss = nn.functional.cross_entropy(outputs, targets)
        assert samples[number] == pytest.approx(float(loss))
        right = (outputs.argmax(1) == targets).double()
        assert details["train_accuracy"][number] == pytest.approx(float(right.mean()))
        assert details["test_accuracy"][number] == pytest.approx(float(right[:2].mean()))


def test_parameters_are_back_where_they_were_even_if_something_fails():
    """Those that are not trained are not moved at all."""
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    before = {name: p.clone() for name, p in model.named_parameters()}

    def fail():
        with moved(model, torch.full((6,), 1e8)):
            assert torch.equal(model.bias, before["bias"])
            assert (model.weight > 1e7).all()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
