"""Backward passes that take several columns at once, as they do on a GPU, and its precision."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from cases import CASES, conv2d
from torch import nn

import vivit
from vivit import devices
from vivit.backprop.forward import full_precision, unfused_recurrence
from vivit.backprop.passes import Passes
from vivit.gram.costs import Costs
from vivit.gram.plan import LIVE_COTANGENTS

CE = nn.CrossEntropyLoss()


@pytest.fixture(autouse=True)
def one_at_a_time(monkeypatch):
    """As for a large network on a CPU."""
    monkeypatch.setitem(devices.KINDS, "cpu", replace(devices.CPU, busy=0.0))


@pytest.fixture
def together(monkeypatch):
    """Let passes take a number of columns, and tell whether they did."""
    taken = []
    visit = Passes.visit_together

    def observed(self, columns, *others):
        taken.append(visit(self, columns, *others))
        return taken[-1]

    def at_a_time(number):
        plan = Costs.plan
        monkeypatch.setattr(
            Costs, "plan", lambda self, *a: replace(plan(self, *a), columns_per_pass=number)
        )
        return taken

    monkeypatch.setattr(Passes, "visit_together", observed)
    return at_a_time


@pytest.mark.parametrize("number", [2, 100])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gram_matrix_is_the_same(case, number, together):
    model, loss_func, x, y = case.make()
    expected = vivit.GGN(model, loss_func, (x, y)).gram()
    taken = together(number)
    found = vivit.GGN(model, loss_func, (x, y)).gram()
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12 * float(expected.abs().max()))
    assert all(taken)


def test_subset_and_several_batches(together):
    model, (x, y) = conv2d().double(), (torch.randn(6, 2, 6, 7).double(), torch.arange(6) % 3)
    batches = [(x[:4], y[:4]), (x[4:], y[4:])]
    expected = vivit.GGN(model, CE, batches, subset=[0, 3, 5]).gram()
    assert together(2) == []
    found = vivit.GGN(model, CE, batches, subset=[0, 3, 5]).gram()
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-15)
    assert together(2) == [True, True]


class InNumpy(torch.autograd.Function):
    """The identity, by a library that knows nothing of several cotangents."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return torch.from_numpy(g.numpy().copy())


class WithNumpy(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 3)

    def forward(self, x):
        return InNumpy.apply(self.inner(x))


def test_operations_for_one_cotangent_only(together):
    model, data = WithNumpy().double(), (torch.randn(5, 4).double(), torch.arange(5) % 3)
    expected = vivit.GGN(model, CE, data).gram()
    taken = together(2)
    assert torch.equal(vivit.GGN(model, CE, data).gram(), expected)
    assert taken == [False]


def test_out_of_memory_is_not_taken_for_a_lack_of_rules(monkeypatch):
    model, data = nn.Linear(4, 3), (torch.randn(5, 4), torch.arange(5) % 3)
    passes = vivit.GGN(model, CE, data)._curvature._kept.linearization._passes

    def grad(*_, **__):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(torch.autograd, "grad", grad)
    edges = [torch.autograd.graph.get_gradient_edge(passes.output)]
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        passes.visit_together([torch.ones(5, 3)], edges, [])


@pytest.mark.parametrize(("columns", "expected"), [(0.5, 1), (1, 1), (2, 2), (100, 8)])
def test_as_many_columns_as_the_workspace_holds_cotangents_of(monkeypatch, columns, expected):
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 9))
    data = torch.randn(5, 4), torch.arange(5) % 9
    per_column = LIVE_COTANGENTS * 5 * 9 * 4
    workspace = int(columns * per_column)
    assert vivit.GGN(model, CE, data, workspace=workspace).plan().columns_per_pass == 1
    monkeypatch.setitem(devices.KINDS, "cpu", devices.GPU)
    plan = vivit.GGN(model, CE, data, workspace=workspace).plan()
    assert plan.columns_per_pass == expected


HAS_PRECISIONS = hasattr(torch.backends.cudnn, "conv")


@pytest.mark.skipif(not HAS_PRECISIONS, reason="since torch 2.9")
@pytest.mark.parametrize(
    ("device", "asked", "expected"),
    [
        ("cuda", "ieee", "ieee"),
        ("cuda", "none", "ieee"),
        ("cuda", "tf32", "tf32"),
        ("cpu", "ieee", "tf32"),
    ],
)
def test_tf32_only_if_it_was_asked_for(device, asked, expected):
    """The settings exist without a GPU as well; they are as before in the end."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.fp32_precision
    state = [cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision]
    try:
        matmul.fp32_precision = asked
        cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = "tf32"
        with full_precision(torch.device(device)):
            inside = cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
        assert inside == (expected, expected)
        assert (cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision) == ("tf32", "tf32")
    finally:
        matmul.fp32_precision = before
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = state


@pytest.mark.parametrize(
    ("device", "asked", "expected"),
    [("cuda", False, False), ("cuda", True, True), ("cpu", False, True)],
)
def test_tf32_before_torch_2_9(monkeypatch, device, asked, expected):
    """One setting for all that is not a matrix product."""
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(allow_tf32=asked))
    monkeypatch.setattr(torch.backends, "cudnn", SimpleNamespace(allow_tf32=True))
    with full_precision(torch.device(device)):
        assert torch.backends.cudnn.allow_tf32 is expected
    assert torch.backends.cudnn.allow_tf32


def test_unfused_recurrence_keeps_the_precision():
    cudnn = torch.backends.cudnn
    with full_precision(torch.device("cuda")), unfused_recurrence([nn.LSTM(2, 2)]):
        assert not cudnn.enabled
        if HAS_PRECISIONS:
            assert cudnn.conv.fp32_precision == "ieee"
        else:
            assert not cudnn.allow_tf32
    assert cudnn.enabled


def test_small_layers_do_not_keep_a_processor_busy(monkeypatch):
    """Of which several columns go together, on a CPU too, until a layer has work enough."""
    monkeypatch.setitem(devices.KINDS, "cpu", devices.CPU)
    for width, expected in ((6, 8), (2000, 1)):
        model = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 9))
        data = torch.randn(400, 4), torch.arange(400) % 9
        plan = vivit.GGN(model, CE, data).plan()
        assert plan.forward_flops / 2 < 1e7 if expected > 1 else plan.forward_flops / 2 > 1e7
        assert plan.columns_per_pass == expected
