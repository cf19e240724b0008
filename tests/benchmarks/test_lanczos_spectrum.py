"""Spectra by Lanczos and diagonals, against dense matrices in double precision."""

import numpy as np
import pytest
import torch
from oracle import ggn as dense_ggn

from benchmarks.experiments.lanczos_spectrum import (
    BINS,
    SMALLEST,
    Spectrum,
    _by_lanczos,
    _histogram,
    diagonal,
)
from vivit import GGN, MonteCarlo


class Operator:
    """A matrix as curvlinops has its operators."""

    def __init__(self, matrix):
        self.matrix, self.shape = matrix, matrix.shape
        self.device, self.dtype = matrix.device, matrix.dtype

    def __matmul__(self, v):
        return self.matrix @ v


def symmetric(values):
    values = torch.tensor(values, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    size = len(values)
    random = torch.randn(size, size, generator=generator, dtype=torch.float64)
    basis, _ = torch.linalg.qr(random)
    return basis @ values.diag() @ basis.T


def test_other_eigenvalues_of_a_matrix_are_zero():
    found = Spectrum.of(torch.tensor([1.0, 3.0]), 4)
    assert found.values.tolist() == [0, 1, 3]
    assert found.weights.tolist() == [0.5, 0.25, 0.25]
    assert Spectrum.of(torch.tensor([1.0, 3.0]), 2).values.tolist() == [1, 3]


def test_the_distance_is_what_has_to_be_moved():
    """Half of the mass by 1, a quarter by 3; nothing for the same spectrum."""
    found = Spectrum.of(torch.tensor([1.0, 1.0, 3.0]), 4)
    assert found.distance(Spectrum.of(torch.zeros(1), 4)) == pytest.approx(0.5 + 0.75)
    assert found.distance(found) == 0


def test_lanczos_on_a_small_matrix_finds_all_of_it():
    """As many steps as eigenvalues: Ritz values are eigenvalues, weights those of the vector."""
    values = [0.5, 1.0, 2.0, 7.0]
    exact = Spectrum.of(torch.tensor(values, dtype=torch.float64), 4)
    answer = _by_lanczos(Operator(symmetric(values)), 3, exact=exact, seed=1)
    np.testing.assert_allclose(answer["samples"], values)
    assert len(answer["details"]["distances"]) == 3
    weights = np.array(answer["details"]["weights"])
    assert weights.sum() == pytest.approx(1)
    expected = np.abs(np.cumsum(weights) - [0.25, 0.5, 0.75, 1])[:3] @ np.diff(values)
    assert answer["details"]["distances"][0] == pytest.approx(expected)


def test_the_first_vector_depends_on_the_seed_alone():
    exact = Spectrum.of(torch.ones(1), 4)
    operator = Operator(symmetric([0.5, 1.0, 2.0, 7.0]))
    torch.manual_seed(3)
    first = _by_lanczos(operator, 2, exact=exact, seed=1)
    state = torch.get_rng_state()
    second = _by_lanczos(operator, 2, exact=exact, seed=1)
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
    other = _by_lanczos(operator, 2, exact=exact, seed=2)
    assert other["details"]["distances"] != first["details"]["distances"]


def test_a_matrix_of_too_low_a_rank_is_told():
    with pytest.raises(ArithmeticError, match="broke down"):
        _by_lanczos(Operator(torch.zeros(4, 4)), 1, exact=Spectrum.of(torch.ones(1), 4), seed=0)


@pytest.mark.parametrize("count", [4, 20])
def test_the_diagonal_against_a_dense_matrix(count):
    """Of fewer columns than are sent at once, and of more."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    model, loss = model.double(), torch.nn.MSELoss()
    inputs = torch.randn(count // 2, 3, generator=generator, dtype=torch.float64)
    y = torch.zeros(count // 2, 2, dtype=torch.float64)
    ggn = GGN(model, loss, (inputs, y))
    assert ggn.num_columns == count
    names = [name for name, _ in model.named_parameters()]
    torch.testing.assert_close(diagonal(ggn), dense_ggn(model, loss, inputs, y, names).diagonal())


def test_the_trace_of_a_sampled_diagonal_is_that_of_the_sampled_matrix():
    model, loss = torch.nn.Linear(3, 4).double(), torch.nn.CrossEntropyLoss()
    inputs, y = torch.randn(5, 3, dtype=torch.float64), torch.zeros(5, dtype=torch.long)
    ggn = GGN(model, loss, (inputs, y), approximation=MonteCarlo(seed=1))
    assert float(diagonal(ggn).sum()) == pytest.approx(float(ggn.gram().trace()))


def test_a_histogram_counts_all_entries():
    """What is too small in the first bin, what is larger than any eigenvalue in the last."""
    entries = torch.tensor([0.0, SMALLEST / 10, 1e-3, 2.0, 9.0])
    exact = Spectrum.of(torch.tensor([3.0]), 5)
    answer = _histogram(entries, exact)
    counts = np.array(answer["samples"])
    edges = answer["details"].pop("edges")
    assert len(counts) == BINS == len(edges) - 1
    assert (edges[0], edges[-1]) == pytest.approx((SMALLEST, 3.0))
    assert (counts[0], counts[-1], counts.sum()) == (2, 1, 5)
    moved = (SMALLEST / 10 + 1e-3 + 2.0 + 9.0 - 3.0) / 5
    assert answer["details"] == {
        "above": 3,
        "largest": 9.0,
        "distances": [pytest.approx(moved)],
    }
    assert _histogram(torch.zeros(3), Spectrum.of(torch.zeros(1), 3))["samples"][0] == 3
