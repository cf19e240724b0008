"""Loss Hessians against autograd."""

import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vivit.loss_hessian import loss_hessian

LOSSES = {
    f"{kind.__name__}, {reduction}": kind(reduction=reduction)
    for kind in (nn.CrossEntropyLoss, nn.MSELoss)
    for reduction in ("mean", "sum")
}


def example(loss_func, n, c, scale):
    generator = torch.Generator().manual_seed(n * 100 + c)
    f = scale * torch.randn(n, c, generator=generator, dtype=torch.float64)
    if isinstance(loss_func, nn.CrossEntropyLoss):
        return f, torch.randint(c, (n,), generator=generator)
    return f, torch.randn(n, c, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("loss_func", LOSSES.values(), ids=LOSSES.keys())
@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(1, 4), st.integers(2, 6), st.sampled_from([0.0, 1.0, 30.0]))
def test_factor_and_product(loss_func, n, c, scale):
    f, y = example(loss_func, n, c, scale)
    hessian = loss_hessian(loss_func, f, y)
    expected = oracle.loss_hessian(loss_func, f, y)
    factor = hessian.factor()
    assert factor.shape == (n, hessian.num_columns, c)
    blocks = torch.einsum("nci,ncj->nij", factor, factor)
    assert torch.allclose(torch.block_diag(*blocks), expected, rtol=1e-12, atol=1e-15)
    u = torch.randn(n, c, dtype=torch.float64)
    assert torch.allclose(hessian.product(u).flatten(), expected @ u.flatten(), rtol=1e-11)


def test_cross_entropy_has_one_column_less_than_classes():
    f, y = example(LOSSES["CrossEntropyLoss, mean"], 3, 5, 1.0)
    assert loss_hessian(nn.CrossEntropyLoss(), f, y).num_columns == 4


def test_certain_predictions_stay_finite():
    """A probability that underflows gives zeros, not NaN."""
    f = torch.tensor([[1e4, 0.0, -1e4], [0.0, 0.0, 1e4]])
    factor = loss_hessian(nn.CrossEntropyLoss(), f, torch.tensor([0, 2])).factor()
    assert torch.equal(factor, torch.zeros_like(factor))


def test_factor_of_an_image_has_its_shape():
    f = torch.randn(2, 3, 4)
    factor = loss_hessian(nn.MSELoss(), f, f).factor()
    assert factor.shape == (2, 12, 3, 4)
