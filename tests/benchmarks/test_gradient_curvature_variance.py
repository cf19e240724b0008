"""Means and variances between mini-batches, against all mini-batches there are."""

import itertools

import pytest
import torch
from oracle import ggn as dense_ggn
from oracle import gradient as dense_gradient

from benchmarks.experiments.gradient_curvature_variance import _measured, along, variance_of_means
from vivit import GGN


@pytest.mark.parametrize("size", [2, 3, 5])
def test_the_prediction_is_right_on_average(size):
    """Over all mini-batches of a small population, it is the variance of their means."""
    generator = torch.Generator().manual_seed(0)
    population = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    batches = [population[[*chosen]] for chosen in itertools.combinations(range(5), size)]
    means = torch.stack([batch.mean(0) for batch in batches])
    predicted = torch.stack([variance_of_means(batch, size / 5) for batch in batches]).mean(0)
    torch.testing.assert_close(predicted, means.var(0, correction=0))


def test_slope_and_curvature_along_directions_against_dense_ones():
    generator = torch.Generator().manual_seed(0)
    model, loss = torch.nn.Linear(3, 4).double(), torch.nn.CrossEntropyLoss()
    inputs = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    vectors = torch.randn(16, 2, generator=generator, dtype=torch.float64)
    slopes, curvatures = along(GGN(model, loss, (inputs, y)), vectors)
    names = [name for name, _ in model.named_parameters()]
    gradient = dense_gradient(model, loss, inputs, y, names)
    torch.testing.assert_close(slopes, gradient @ vectors)
    matrix = dense_ggn(model, loss, inputs, y, names)
    torch.testing.assert_close(curvatures, (vectors * (matrix @ vectors)).sum(0))


def test_what_mini_batches_show():
    seen = [(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 5.0])), (torch.ones(2), torch.ones(2))]
    answer = _measured(seen)
    assert answer["samples"] == [1.5, 3.0]
    assert answer["details"] == {
        "slopes": [1.0, 0.5],
        "slope_variances": [0.0, 0.5],
        "curvature_variances": [0.5, 8.0],
    }
