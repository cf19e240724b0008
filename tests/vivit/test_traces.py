"""Traces of the parameters' diagonal blocks, against the diagonal of a dense GGN."""

import oracle
import pytest
import torch
from cases import CASES
from torch import nn

import vivit
from vivit.errors import InputError

NAMED = {case.name: case for case in CASES}


def diagonals(case):
    """Those of the blocks of all selected parameters."""
    model, loss_func, x, y = case.make()
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    sizes = [p.numel() for p in model.parameters() if p.requires_grad]
    diagonal = oracle.ggn(model, loss_func, x, y, names).diagonal()
    return dict(zip(names, diagonal.split(sizes), strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_traces(case):
    model, loss_func, x, y = case.make()
    found, expected = vivit.GGN(model, loss_func, (x, y)).traces(), diagonals(case)
    assert [*found] == [*expected]
    whole = sum(diagonal.sum() for diagonal in expected.values())
    for name, diagonal in expected.items():
        assert abs(found[name] - diagonal.sum()) <= 1e-10 * whole


@pytest.mark.parametrize("name", ["conv2d", "mlp", "outside layers", "language model"])
@pytest.mark.parametrize(
    "options",
    [
        {"memory": 10**5},
        {"workspace": 100},
        {"subset": [2, 0]},
        {"approximation": vivit.MonteCarlo(2)},
        {"params": ["*bias*"]},
    ],
    ids=str,
)
def test_what_is_traced_is_what_is_decomposed(name, options):
    model, loss_func, x, y = NAMED[name].make()
    ggn = vivit.GGN(model, loss_func, (x, y), **options)
    same = vivit.GGN(model, loss_func, (x, y), **options | {"memory": None, "workspace": None})
    assert sum(ggn.traces().values()).item() == pytest.approx(same.eigvalsh().sum().item())


@pytest.mark.parametrize("by_pairs", [True, False], ids=["pairs", "columns"])
@pytest.mark.parametrize("workspace", [100, 10**6])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_both_ways_to_norms_of_factors(case, by_pairs, workspace, monkeypatch):
    monkeypatch.setattr("vivit.layers.factor_store.pays_by_pairs", lambda shape: by_pairs)
    monkeypatch.setattr("vivit.layers.smaller.keeps_columns", lambda *arguments: False)
    model, loss_func, x, y = case.make()
    found = vivit.GGN(model, loss_func, (x, y), workspace=workspace).traces()
    expected = {name: diagonal.sum() for name, diagonal in diagonals(case).items()}
    for name, trace in expected.items():
        assert abs(found[name] - trace) <= 1e-10 * sum(expected.values())


def test_batches_and_blocks():
    model, loss_func, x, y = NAMED["conv2d"].make()
    expected = vivit.GGN(model, loss_func, (x, y)).traces()
    batches = [(x[:3], y[:3]), (x[3:], y[3:])]
    for block in vivit.block_diagonal(model, loss_func, batches).values():
        for name, trace in block.traces().items():
            assert trace.item() == pytest.approx(expected[name].item())


def test_columns_that_are_not_finite():
    x, y = torch.full((4, 2), 1e200, dtype=torch.float64), torch.zeros(4, 3).double()
    ggn = vivit.GGN(nn.Linear(2, 3).double(), nn.MSELoss(), (x, y))
    with pytest.raises(InputError, match="NaN or infinite: look for"):
        ggn.traces()


def test_parameters_that_have_changed():
    model, loss_func, x, y = NAMED["mlp"].make()
    ggn = vivit.GGN(model, loss_func, (x, y))
    with torch.no_grad():
        next(model.parameters()).add_(1)
    with pytest.raises(vivit.StaleError):
        ggn.traces()
