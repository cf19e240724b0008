"""`V` as a linear map knows nothing of losses: here its columns are rows of the Jacobian."""

from dataclasses import dataclass

import pytest
import torch
from cases import mlp
from torch import Tensor

from vivit.backprop.autograd import Linearization
from vivit.backprop.random_state import RandomState
from vivit.factor import Factor, pullback
from vivit.gram.spectrum import GroupMatrix


@dataclass(frozen=True)
class Outputs:
    """A batch whose columns are the derivatives of its outputs."""

    linearization: Linearization
    rows: slice

    def spread(self, coefficients: Tensor) -> Tensor:
        return coefficients.reshape(self.linearization.output.shape)

    def contract(self, u: Tensor) -> Tensor:
        return u


@pytest.fixture
def problem():
    """The outputs of two batches as a factor, and its dense matrix ``[M, D]``."""
    model = mlp().double()
    x = torch.randn(5, 5).double()
    parameters = dict(model.named_parameters())

    def pieces():
        for first, last in ((0, 2), (2, 5)):
            state, rows = RandomState.current(model), slice(first * columns, last * columns)
            yield Outputs(Linearization(model, x[first:last], parameters, state), rows)

    outputs = model(x)
    columns = outputs.shape[1]
    dense = [
        torch.cat(
            [g.flatten() for g in torch.autograd.grad(f, model.parameters(), retain_graph=True)]
        )
        for f in outputs.flatten()
    ]
    return Factor(pieces, parameters, outputs.numel()), torch.stack(dense), pieces


def flat(v):
    return torch.cat([x.flatten(1) for x in v.values()], dim=1)


def test_products(problem):
    factor, dense, _ = problem
    assert factor.shape == dense.T.shape
    u = torch.randn(len(dense), 2).double()
    v = factor.spread(u)
    assert torch.allclose(flat(v), u.T @ dense)
    assert torch.allclose(factor.contract(v), dense @ (dense.T @ u))
    assert torch.allclose(factor.multiply_gram(u), dense @ (dense.T @ u))


def test_eigenvectors(problem):
    factor, dense, _ = problem
    pairs = GroupMatrix(None, dense @ dense.T, torch.float64).pairs(None)
    vectors = flat(factor.vectors(pairs, 2**20))
    assert torch.allclose(dense.T @ (dense @ vectors.T), vectors.T * pairs.values)
    assert torch.allclose(vectors @ vectors.T, torch.eye(len(vectors)).double(), atol=1e-8)
    weights = torch.randn(len(pairs.values)).double()
    total = torch.cat([x.flatten() for x in factor.combine(pairs, weights).values()])
    assert torch.allclose(total, weights @ vectors)


def test_pullback(problem):
    factor, dense, pieces = problem

    def cotangents(piece):
        return (torch.full_like(piece.linearization.output, k) for k in (1, 2))

    v = pullback(pieces(), cotangents, factor.parameters, 2)
    assert torch.allclose(flat(v), torch.stack([dense.sum(0), 2 * dense.sum(0)]))
