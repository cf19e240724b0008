"""The leading eigenpairs without a Gram matrix, and which way is chosen."""

from dataclasses import replace

import pytest
import torch
from cases import CASES, mlp
from torch import nn

import vivit
from vivit import FullGram, Lanczos, MonteCarlo, ggn
from vivit.solvers import cheapest_solver

CE = nn.CrossEntropyLoss()
BATCH = torch.randn(4, 5).double(), torch.tensor([0, 1, 2, 0])
VARIANTS = {
    "exact": {},
    "monte carlo": {"approximation": MonteCarlo(2, seed=1)},
    "subset": {"subset": [0, 2]},
}


def flat(vectors):
    return torch.cat([v[:, None].flatten(1) for v in vectors.values()], dim=1)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_lanczos_finds_what_the_gram_matrix_has(case, options):
    model, loss_func, x, y = case.make()
    if "subset" in options and len(x) < 3:
        pytest.skip("needs three samples")
    block = vivit.GGN(model, loss_func, (x, y), **options)
    values = block.eigh().values
    k = min(2, len(values), block.num_columns - 1, block.shape[0] - 1)
    if k < 1:
        pytest.skip("nothing to iterate on")
    exact = block.eigh(k=k, method=FullGram())
    found = block.eigh(k=k, method=Lanczos(1e-12))
    assert (found.values - exact.values).abs().max() <= 1e-10 * values[-1]
    residual = torch.stack([block @ v for v in flat(found.vectors)])
    assert (residual - found.values[:, None] * flat(found.vectors)).norm() <= 1e-8 * values[-1]
    assert torch.allclose(flat(found.vectors).norm(dim=1), torch.ones(k).double())


def test_what_follows_from_the_pairs():
    data = BATCH
    model = mlp().double()
    options = {"k": 3, "method": Lanczos(1e-12)}
    exact, found = vivit.GGN(model, CE, data), vivit.GGN(model, CE, data)
    expected, derivatives = (
        exact.directional_derivatives(k=3),
        found.directional_derivatives(**options),
    )
    assert torch.allclose(derivatives.gammas.abs(), expected.gammas.abs(), atol=1e-8)
    assert torch.allclose(derivatives.lambdas, expected.lambdas, atol=1e-8)
    step, other = exact.newton_step(k=3), found.newton_step(**options)
    assert all(torch.allclose(step[name], other[name], atol=1e-8) for name in step)
    assert not found._curvature.has_matrices


def test_few_nontrivial_pairs():
    """Eigenvalues that are rounding errors are left out, as with a Gram matrix."""
    model = nn.Linear(5, 2, bias=False).double()  # rank one per sample
    data = BATCH[0][:1].expand(4, 5).clone(), torch.tensor([0, 1, 1, 0])
    found = vivit.GGN(model, CE, data).eigh(k=3, method=Lanczos())
    assert len(found.values) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "k"), [(30, 10), (30, 5), (60, 12)])
def test_copies_of_an_eigenvalue(n, k, dtype):
    """An iteration from one vector finds one copy of each, for all tolerances."""
    torch.manual_seed(0)
    model, data = nn.Linear(20, 10), (torch.randn(n, 20), torch.zeros(n, 10))
    block = vivit.GGN(model.to(dtype), nn.MSELoss(), tuple(x.to(dtype) for x in data))
    exact = block.eigvalsh()
    found = block.eigh(k=k, method=Lanczos())
    assert (found.values - exact[-k:]).abs().max() <= 1e-5 * exact[-1]
    vectors = flat(found.vectors)
    assert (vectors @ vectors.T - torch.eye(k)).abs().max() <= 2e-3


def test_no_curvature():
    model = nn.Sequential(nn.Linear(5, 3), nn.Hardtanh(9, 10)).double()
    assert len(vivit.GGN(model, CE, BATCH).eigh(k=2, method=Lanczos()).values) == 0


def test_infinite_curvature():
    """As with a Gram matrix."""
    model = nn.Linear(5, 3).double()
    x = BATCH[0] * 1e200
    ggn = vivit.GGN(model, nn.MSELoss(), (x, torch.zeros(4, 3).double()))
    for method in (FullGram(), Lanczos()):
        with pytest.raises(vivit.InputError, match="curvature is NaN or infinite"):
            ggn.eigh(k=1, method=method)


def plan(**changes):
    return replace(vivit.GGN(mlp(), CE, (BATCH[0].float(), BATCH[1])).plan(), **changes)


@pytest.mark.parametrize(
    ("changes", "k", "available", "expected"),
    [
        ({}, 8, None, FullGram()),
        ({"sides": (10**4,), "forward_flops": 1e9}, 1, None, Lanczos()),
        (
            {"sides": (10**4,), "forward_flops": 1e13},
            10,
            None,
            FullGram(),
        ),
        ({"matrix_bytes": 2000, "forward_flops": 1e12}, 1, 1000, Lanczos()),
        ({"matrix_bytes": 2000, "forward_flops": 1e12}, 1, 10**9, FullGram()),
        ({"matrix_bytes": 2000, "forward_flops": 1e12}, 10, 1000, Lanczos()),
        ({"forward_flops": 100.0, "sides": (100,)}, 1, None, Lanczos()),
        ({"forward_flops": 100.0, "sides": (2, 2)}, 1, None, FullGram()),
    ],
)
def test_choice(changes, k, available, expected):
    """By predicted time, unless the Gram matrix does not fit."""
    assert cheapest_solver(plan(**changes), k, available) == expected


def test_choice_is_used(monkeypatch):
    """Without a method; but a Gram matrix that exists is used again."""
    monkeypatch.setattr(ggn, "cheapest_solver", lambda plan, k, available: Lanczos())
    block = vivit.GGN(mlp().double(), CE, BATCH)
    values = block.eigh(k=2).values
    assert not block._curvature.has_matrices
    assert torch.allclose(block.eigvalsh()[-2:], values)
    block.eigh(k=2)
    assert block._curvature.has_matrices


def test_no_convergence():
    data = torch.randn(60, 40).double(), torch.arange(60) % 3
    block = vivit.GGN(nn.Linear(40, 3).double(), CE, data)  # its eigenvalues are close together
    message = r"found \d of 3 eigenpairs with 5 products at tolerance 1.0e-15.*method=FullGram"
    with pytest.raises(vivit.ConvergenceError, match=message) as caught:
        block.eigh(k=3, method=Lanczos(1e-15, max_products=5))
    assert isinstance(caught.value, RuntimeError)


REFUSED = {
    "no k": (lambda g: g.eigh(method=Lanczos()), "k < 8, got k=None. Use method=FullGram"),
    "all": (lambda g: g.eigh(k=8, method=Lanczos()), "k < 8, got k=8. Use method=FullGram"),
    "a name": (
        lambda g: g.eigh(k=1, method="lanczos"),
        "must be FullGram.. or Lanczos.., got 'la",
    ),
    "tolerance": (lambda g: Lanczos(2.0), "tolerance in .0, 1., got 2.0"),
    "products": (lambda g: Lanczos(max_products=0), "at least one product, got 0"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(call, message):
    with pytest.raises(vivit.InputError, match=message):
        call(vivit.GGN(mlp().double(), CE, BATCH))
