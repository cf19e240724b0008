"""Which operations keep samples apart, as the autograd graph shows."""

import pytest
import torch
import torch.nn.functional as F
from cases import CASES
from torch import nn

import vivit
from vivit.backprop import autograd
from vivit.backprop.apart import rows_kept_apart
from vivit.backprop.sample_order import sample_orders
from vivit.layers.uses import SampleOrder

N = 3


class Behind(nn.Module):
    """A linear layer with something behind it."""

    def __init__(self, then):
        super().__init__()
        self.linear, self.then = nn.Linear(4, 6), then

    def forward(self, x):
        y = self.linear(x)
        self.node = y.grad_fn if x.ndim == 2 else y.grad_fn.next_functions[0][0]
        return self.then(y)


def is_known(then, shape=(N, 4)):
    """Whether the layer is known to keep samples apart."""
    torch.manual_seed(0)
    model = Behind(then)
    output = model(torch.randn(shape))
    assert model.node.name() == "AddmmBackward0"
    return model.node in rows_kept_apart(output.grad_fn, N)


TOKENS = (N, 2, 4)
KNOWN = {
    "nothing": (lambda y: y, (N, 4)),
    "activation": (lambda y: y.relu().tanh(), (N, 4)),
    "softmax": (lambda y: y.softmax(-1), (N, 4)),
    "tokens": (lambda y: y.mean(1), TOKENS),
    "attention": (lambda y: F.softmax(y @ y.mT, -1) @ y, TOKENS),
    "heads": (
        lambda y: y.view(N, 2, 2, 3).transpose(1, 2).reshape(2 * N, 2, 3).sum(1).view(N, 2, 3),
        TOKENS,
    ),
    "normalization": (lambda y: F.layer_norm(y, (6,)), TOKENS),
    "images": (lambda y: F.max_pool2d(y.view(N, 1, 2, 3), 2).flatten(1), (N, 4)),
    "concatenation": (lambda y: torch.cat([y, y.square()], dim=1), (N, 4)),
    "pieces": (lambda y: y.split(2, dim=-1)[1] * y[:, :2], (N, 4)),
    "all of it": (lambda y: y.narrow(0, 0, N).narrow(1, 2, 3), (N, 4)),
    "padding": (lambda y: F.pad(y, (1, 1)), (N, 4)),
    "of data": (lambda y: y * torch.arange(6.0), (N, 4)),
    "dropout": (lambda y: F.dropout(y, 0.5), (N, 4)),
    "norm of each": (lambda y: y / y.norm(dim=1, keepdim=True), (N, 4)),
    "another precision": (lambda y: y.double().float(), (N, 4)),
    "permuted, counted from the last": (lambda y: y.permute(0, -1, -2).softmax(-2), TOKENS),
    "summed, counted from the last": (lambda y: y + y.sum(-1, keepdim=True), (N, 4)),
}
UNKNOWN = {
    "mean of all": (lambda y: y - y.mean(0), (N, 4)),
    "mean of all, kept": (lambda y: y - y.mean(0, keepdim=True), (N, 4)),
    "one number": (lambda y: y * y.sum(), (N, 4)),
    "softmax of samples": (lambda y: y.softmax(0), (N, 4)),
    "another order": (lambda y: y[torch.tensor([1, 0, 2])], (N, 4)),
    "flipped": (lambda y: y.flip(0), (N, 4)),
    "rolled": (lambda y: torch.roll(y, 1, 0), (N, 4)),
    "graph": (lambda y: torch.ones(N, N) @ y, (N, 4)),
    "similarity": (lambda y: y @ y.T, (N, 4)),
    "transposed": (lambda y: y.T.reshape(N, 6), (N, 4)),
    "samples in the middle": (lambda y: y.transpose(0, 1), (N, N, 4)),
    "permuted, counted from the last": (lambda y: y.permute(-1, 0, 1).reshape(N, -1), TOKENS),
    "moved, counted from the last": (lambda y: y.movedim(-1, 0).reshape(N, -1), TOKENS),
    "summed, counted from the last": (lambda y: y + y.sum(-2, keepdim=True), (N, 4)),
    "chosen, counted from the last": (lambda y: y + y.select(-2, 0), (N, 4)),
    "joined, counted from the last": (lambda y: torch.cat([y, y], -2)[:N], (N, 4)),
    "softmax, counted from the last": (lambda y: y.softmax(-3), TOKENS),
    "batch statistics": (lambda y: F.batch_norm(y, None, None, training=True), (N, 4)),
    "a sum along samples": (lambda y: y.cumsum(0), (N, 4)),
    "the first": (lambda y: y + y[:1], (N, 4)),
    "the first, again and again": (lambda y: y[:1].expand(N, 6), (N, 4)),
    "the first, without its axis": (lambda y: y + y[0], (N, 4)),
    "a bias of the batch": (
        lambda y: torch.addmm(y.mean(0)[:N], torch.ones(N, 2), torch.ones(2, N)),
        (N, 4),
    ),
    "norm over all": (lambda y: F.layer_norm(y, (N, 6)), (N, 4)),
    "stacked": (lambda y: torch.stack([y[0], y[1], y[2]]), (N, 4)),
    "both ways": (lambda y: y + torch.ones(N, N) @ y.tanh(), (N, 4)),
    "padded samples": (lambda y: F.pad(y, (0, 0, 1, 2))[:N], (N, 4)),
}


@pytest.mark.parametrize(("then", "shape"), KNOWN.values(), ids=KNOWN.keys())
def test_known(then, shape):
    assert is_known(then, shape)


@pytest.mark.parametrize(("then", "shape"), UNKNOWN.values(), ids=UNKNOWN.keys())
def test_unknown(then, shape):
    assert not is_known(then, shape)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_known_is_what_a_probe_finds(case, monkeypatch):
    found = []
    find = autograd.find_orders

    def compared(operations, passes, model, x):
        known, output = find(operations, passes, model, x), passes.output.detach()
        probed = sample_orders(operations, output, passes.visit, passes.forward, x, passes.lowest)
        found.append(known == dict(zip(operations, probed, strict=True)))
        return known

    monkeypatch.setattr(autograd, "find_orders", compared)
    model, loss_func, x, y = case.make()
    vivit.GGN(model, loss_func, (x, y)).gram()
    assert found
    assert all(found)


def test_no_pass_is_made_where_all_is_known(monkeypatch):
    visited = []
    visit = vivit.backprop.passes.Passes.visit

    def counted(self, *args):
        visited.append(None)
        return visit(self, *args)

    monkeypatch.setattr(vivit.backprop.passes.Passes, "visit", counted)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    ggn = vivit.GGN(model, nn.CrossEntropyLoss(), (torch.randn(5, 4), torch.arange(5) % 3))
    ggn.gram()
    assert len(visited) == 1  # for both columns


def test_rows_of_known_operations_are_of_samples_in_order():
    """Tokens of a sample lie together."""
    model = Behind(lambda y: y.mean(1))
    data = torch.randn(TOKENS), torch.arange(N)
    linearization = vivit.GGN(model, nn.CrossEntropyLoss(), data)._curvature._kept.linearization
    (layer,) = linearization.layout.layers
    assert layer.orders == (SampleOrder.SAMPLE_FIRST,)
