"""What is said before the work is what happens in it."""

import pytest
import torch
from cases import CASES
from torch import nn

import vivit

X, Y = torch.randn(4, 5), torch.tensor([0, 1, 2, 0])
CE = nn.CrossEntropyLoss()
ON_EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def fast_or_unused(served_by):
    return sum(way in ("affine", "parts", "unused") for way in served_by.values())


@ON_EVERY_CASE
def test_rules_and_costs(case):
    """Which rule serves each parameter, without a column; the plan is that of the work."""
    model, loss_func, x, y = case.make()
    found = vivit.check(model, loss_func, (x, y))
    assert found
    assert set(found.slow) == set(case.generic)
    ggn = vivit.GGN(model, loss_func, (x, y))
    ggn.gram()
    assert {*found.served_by} == {*ggn.parameter_names}
    if not case.generic:
        assert found.served_by == {**found.served_by, **ggn._curvature.served_by}
        assert fast_or_unused(found.served_by) == len(found.served_by)
    assert found.plan.num_columns == ggn.num_columns
    shown = str(found)
    fast = sum(way in ("affine", "parts") for way in found.served_by.values())
    assert f"{fast} of {len(found.served_by)} by fast rules" in shown
    assert all(name in shown for name in case.generic)
    assert f"{ggn.num_columns} columns, " in shown


def normed():
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Embedding(3, 3, max_norm=1.0))


def broken(model, x):
    raise KeyError("pixels")


REFUSED = {
    "error of the model": (
        lambda: vivit.check(nn.Linear(5, 3), CE, (X, Y), forward=broken),
        ["KeyError: 'pixels'"],
    ),
    "several at once": (
        lambda: vivit.check(normed(), nn.CrossEntropyLoss(reduction="none"), (X, Y)),
        ["reduction='none'", "BatchNorm1d '1' uses", "Embedding '2' has max_norm=1.0"],
    ),
    "inputs": (
        lambda: vivit.check(nn.Linear(5, 3), CE, (X.double(), Y)),
        ["Inputs have dtype torch.float64"],
    ),
    "model": (lambda: vivit.check(len, CE, (X, Y)), ["must be a torch.nn.Module"]),
    "data": (lambda: vivit.check(nn.Linear(5, 3), CE, X), ["data must be a batch"]),
    "memory": (
        lambda: vivit.check(nn.Linear(5, 3), CE, (X, Y), memory=100),
        ["but 100 B are available"],
    ),
    "mixed samples": (
        lambda: vivit.check(
            nn.Linear(5, 3), CE, (X, Y), forward=lambda m, x: m(x - x.mean(dim=0)).softmax(dim=0)
        ),
        ["mixes samples"],
    ),
}


@pytest.mark.parametrize(("call", "messages"), REFUSED.values(), ids=REFUSED)
def test_refusals(call, messages):
    """All of them, in order, and nothing is raised."""
    found = call()
    assert not found
    assert len(found.refused) == len(messages)
    for message, part in zip(found.refused, messages, strict=True):
        assert part in message
    assert found.plan is None
    assert f"refused ({len(messages)})" in str(found)
    assert "<th scope='row'>refused (1)</th>" in found._repr_html_()


def test_parameters_may_come_one_after_the_other():
    model = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    found = vivit.check(model, CE, (X, Y), params=model[1].parameters())
    assert [*found.served_by] == ["1.weight", "1.bias"]


def test_warnings():
    model = nn.ModuleDict({"used": nn.Linear(5, 3), "unused": nn.Linear(2, 2)})
    found = vivit.check(model, CE, (X, Y), forward=lambda m, x: m["used"](x))
    assert found
    assert "do not influence the model output" in found.warned[0]
    assert found.served_by["unused.weight"] == "unused"
    assert "warning (1)" in str(found)
