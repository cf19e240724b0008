"""Eigenspaces of networks, against dense matrices in double precision."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from oracle import ggn as dense_ggn

from benchmarks.experiments.eigenspaces import Network, errors, flat, overlap, signal_to_noise
from benchmarks.problems import PROBLEMS


@pytest.fixture
def network():
    instance = PROBLEMS["digits_mlp"].make(40, "cpu", torch.float32, 0)
    small = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3), torch.nn.Tanh())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        small = torch.nn.Sequential(small, torch.nn.Linear(3, 4))
    instance = replace(instance, model=small, targets=instance.targets % 4)
    return Network(instance.double())


def dense(network, chosen=slice(None)):
    train = network.train.samples(chosen)
    return oracle_of(train)


def oracle_of(instance):
    names = [name for name, _ in instance.model.named_parameters()]
    return dense_ggn(instance.model, instance.loss_func, instance.inputs, instance.targets, names)


def leading(matrix, count):
    values, vectors = torch.linalg.eigh(matrix)
    return values[-count:], vectors[:, -count:]


def test_eigenspaces_against_dense_matrices(network):
    """The full GGN, a mini-batch, their overlap, and the error of its curvatures."""
    chosen = network.drawn(3)[:8]
    assert network.outputs == 4
    (all_values, all_vectors), (values, vectors) = (
        leading(matrix, 4) for matrix in (dense(network), dense(network, chosen))
    )
    full, pairs = network.full(), network.ggn(chosen).eigh(k=4)
    torch.testing.assert_close(full.eigh(k=4).values, all_values)
    expected = float((all_vectors.T @ vectors).square().sum() / 4)
    assert overlap(flat(full.eigh(k=4)), flat(pairs), 4) == pytest.approx(expected)
    exact = torch.einsum("dk,de,ek->k", vectors, dense(network), vectors)
    found = torch.tensor(errors(pairs, full)).double()
    torch.testing.assert_close(found, (values - exact).abs() / exact, rtol=1e-5, atol=0)


def test_the_hessian_against_a_dense_one(network):
    train, parameters = network.train, dict(network.train.model.named_parameters())
    names, sizes = [*parameters], [p.numel() for p in parameters.values()]

    def loss(vector):
        parts = zip(names, vector.split(sizes), strict=True)
        given = {name: x.reshape(parameters[name].shape) for name, x in parts}
        outputs = torch.func.functional_call(train.model, given, train.inputs)
        return train.loss_func(outputs, train.targets)

    start = torch.cat([p.detach().flatten() for p in parameters.values()])
    values, vectors = torch.linalg.eigh(torch.func.hessian(loss)(start))
    largest = values.abs().argsort()[-4:]
    found, space = network.hessian_pairs()
    np.testing.assert_allclose(sorted(found), sorted(values[largest].tolist()), rtol=1e-4)
    assert overlap(space, vectors[:, largest], 4) == pytest.approx(1, abs=1e-4)


def test_approximations_of_a_mini_batch(network):
    """Options of the library: the first eighth, one Monte-Carlo sample per ten classes, both."""
    assert network.options("subset", 128, 0) == {"subset": range(16)}
    assert network.options("subset", 4, 0) == {"subset": range(1)}
    assert network.options("monte_carlo", 128, 7)["approximation"].samples == 1
    assert set(network.options("both", 128, 0)) == {"subset", "approximation"}


def test_signal_to_noise():
    """By hand; what does not vary has no ratio."""
    samples = torch.tensor([[1.0, 2.0, 5.0], [3.0, 2.0, -5.0]])
    assert signal_to_noise(samples) == [2.0**2 / 2.0, None, 0.0]
