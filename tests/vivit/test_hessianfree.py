"""Matrix-free operators under their old names, against dense matrices."""

import numpy as np
import oracle
import pytest
import torch
from torch import nn

from vivit.hessianfree import GGNLinearOperator, HessianLinearOperator


@pytest.fixture
def problem():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        return model, torch.randn(6, 4).double(), torch.arange(6) % 3


def dense_hessian(model, x, y):
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]

    def loss(flat):
        pieces = flat.split([shape.numel() for shape in shapes])
        values = {n: p.reshape(s) for n, p, s in zip(names, pieces, shapes, strict=True)}
        return nn.CrossEntropyLoss()(torch.func.functional_call(model, values, (x,)), y)

    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    return torch.autograd.functional.hessian(loss, flat)


def dense_ggn(model, x, y):
    names = [name for name, _ in model.named_parameters()]
    jacobian = oracle.jacobian(model, x, names).flatten(0, 1)
    f = model(x).detach()
    hessian = oracle.loss_hessian(nn.CrossEntropyLoss(), f, y).reshape(len(jacobian), -1)
    return jacobian.T @ hessian @ jacobian


@pytest.mark.parametrize(
    ("kind", "dense"),
    [(GGNLinearOperator, dense_ggn), (HessianLinearOperator, dense_hessian)],
    ids=["ggn", "hessian"],
)
def test_products(problem, kind, dense):
    model, x, y = problem
    batches = [(x[:3], y[:3]), (x[3:], y[3:])]
    device = torch.device("cpu")
    operator = kind(model, nn.CrossEntropyLoss(), batches, device, dtype=np.float64)
    expected = dense(model, x, y).numpy()
    assert operator.shape == expected.shape
    assert operator.dtype == np.float64
    assert np.allclose(operator @ np.eye(len(expected)), expected, atol=1e-10)
    v = np.random.default_rng(0).standard_normal(len(expected))
    assert np.allclose(operator @ v, expected @ v, atol=1e-10)
    assert np.allclose(operator.T @ v, expected @ v, atol=1e-10)
