"""Batches and outputs in the forms that people have, against the same as plain tensors."""

from collections import UserDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import vivit
from vivit.errors import InputError, StaleError, UnsupportedError

torch.manual_seed(0)
LAYER = nn.Linear(5, 3).double()
A, B = torch.randn(2, 6, 5).double()
Y = torch.tensor([0, 1, 2, 2, 1, 0])
LOSS = nn.CrossEntropyLoss()


@dataclass
class Output:
    """As models of transformers give."""

    logits: torch.Tensor
    attentions: tuple = ()


class Keywords(nn.Module):
    """Takes its inputs by name, and gives whatever is asked for."""

    def __init__(self, give):
        super().__init__()
        self.layer, self.give = LAYER, give

    def forward(self, a, b, scale=1.0):
        return self.give(self.layer(scale * a + b))


class Whole(nn.Module):
    """Takes a mapping as it is."""

    def __init__(self):
        super().__init__()
        self.layer = LAYER

    def forward(self, batch):
        return self.layer(batch["a"] + batch["b"])


class One(nn.Module):
    """Takes a mapping as it is, under the name of one of its keys."""

    def __init__(self):
        super().__init__()
        self.layer = LAYER

    def forward(self, a):
        return self.layer(a["a"] + B)


class Open(nn.Module):
    """Takes any keywords."""

    def __init__(self):
        super().__init__()
        self.layer = LAYER

    def forward(self, **inputs):
        return self.layer(inputs["a"] + inputs["b"])


Pair = namedtuple("Pair", ["inputs", "label"])

OUTPUTS = {
    "tensor": lambda f: f,
    "object": Output,
    "mapping": lambda f: {"logits": f, "loss": f.sum()},
    "mapping of one": lambda f: {"scores": f},
    "tuple": lambda f: (f, f + 1),
    "named tuple": lambda f: Pair(f, 0),
}
EXPECTED = vivit.GGN(LAYER, LOSS, (A + B, Y)).eigvalsh()


@pytest.mark.parametrize("give", OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.parametrize("mapping", [dict, UserDict], ids=["dict", "UserDict"])
def test_outputs(give, mapping):
    """Also of products, which run the model in forward mode."""
    ggn = vivit.GGN(Keywords(give), LOSS, mapping(a=A, b=B, labels=Y))
    assert torch.allclose(ggn.eigvalsh(), EXPECTED)
    v = torch.ones(18).double()
    assert torch.allclose(ggn @ v, vivit.GGN(LAYER, LOSS, (A + B, Y)) @ v)


def plain(f):
    return f


BATCHES = {
    "inputs and targets": (({"a": A, "b": B}, Y), Keywords(plain), {}),
    "labels": ({"a": A, "b": B, "labels": Y}, Keywords(plain), {}),
    "one key": ({"a": A, "labels": Y}, One(), {}),
    "any keywords": ({"a": A, "b": B, "labels": Y}, Open(), {}),
    "whole mapping": ({"a": A, "b": B, "labels": Y}, Whole(), {}),
    "target of a mapping": (
        {"a": A, "b": B, "answer": Y},
        Keywords(plain),
        {"target": lambda x: x["answer"], "forward": lambda m, x: m(x["a"], x["b"])},
    ),
    "named tuple": (
        Pair((A, B), Y),
        Keywords(plain),
        {"target": lambda x: x.label, "forward": lambda m, x: m(*x.inputs)},
    ),
    "named tuples": (
        [Pair((A[:4], B[:4]), Y[:4]), Pair((A[4:], B[4:]), Y[4:])],
        Keywords(plain),
        {"target": lambda x: x.label, "forward": lambda m, x: m(*x.inputs)},
    ),
    "tensor": (
        torch.cat([A + B, Y[:, None].double()], dim=1),
        LAYER,
        {"target": lambda x: x[:, 5].long(), "forward": lambda m, x: m(x[:, :5])},
    ),
    "loader of mappings": (
        DataLoader([{"a": a, "b": b, "labels": y} for a, b, y in zip(A, B, Y, strict=True)], 4),
        Keywords(plain),
        {},
    ),
}


@pytest.mark.parametrize(("data", "model", "options"), BATCHES.values(), ids=BATCHES)
def test_batches(data, model, options):
    assert torch.allclose(vivit.GGN(model, LOSS, data, **options).eigvalsh(), EXPECTED)
    blocks = vivit.block_diagonal(model, LOSS, data, **options)
    assert torch.allclose(next(iter(blocks.values())).eigvalsh(), EXPECTED)
    fisher = vivit.EmpiricalFisher(model, LOSS, data, **options)
    assert torch.allclose(
        fisher.eigvalsh(), vivit.EmpiricalFisher(LAYER, LOSS, (A + B, Y)).eigvalsh()
    )


def test_targets_may_be_any_nest_that_the_loss_takes():
    targets = {"shift": torch.randn(6, 3).double(), "weights": [torch.rand(6, 1).double()]}

    def loss_func(output, target):
        return (target["weights"][0] * (output - target["shift"]) ** 2).sum(dim=1).mean()

    def same(output, target):
        return (target[:, :1] * (output - target[:, 1:]) ** 2).sum(dim=1).mean()

    joined = torch.cat([targets["weights"][0], targets["shift"]], dim=1)
    expected = vivit.GGN(LAYER, same, (A, joined)).eigvalsh()
    data = {"x": A, "targets": targets}
    ggn = vivit.GGN(
        LAYER,
        loss_func,
        data,
        target=lambda batch: batch["targets"],
        forward=lambda model, batch: model(batch["x"]),
    )
    assert torch.allclose(ggn.eigvalsh(), expected)


@dataclass
class Record:
    """A batch as an object."""

    a: torch.Tensor
    b: torch.Tensor
    label: torch.Tensor


OBJECTS = {
    "tuple of three": ((A, B, Y), lambda x: x[2], lambda m, x: m(x[0], x[1])),
    "tuples of three": (
        [(A[:2], B[:2], Y[:2]), (A[2:], B[2:], Y[2:])],
        lambda x: x[2],
        lambda m, x: m(x[0], x[1]),
    ),
    "two tensors": (
        [torch.cat([A + B, Y[:, None].double()], dim=1)[rows] for rows in (slice(4), slice(4, 6))],
        lambda x: x[:, 5].long(),
        lambda m, x: m.layer(x[:, :5]),
    ),
    "object": (Record(A, B, Y), lambda x: x.label, lambda m, x: m(x.a, x.b)),
    "objects": (
        [Record(A[:3], B[:3], Y[:3]), Record(A[3:], B[3:], Y[3:])],
        lambda x: x.label,
        lambda m, x: m(x.a, x.b),
    ),
}


@pytest.mark.parametrize(("data", "target", "forward"), OBJECTS.values(), ids=OBJECTS)
def test_batches_of_any_kind(data, target, forward):
    ggn = vivit.GGN(Keywords(plain), LOSS, data, target=target, forward=forward)
    assert torch.allclose(ggn.eigvalsh(), EXPECTED)


@pytest.mark.parametrize("pieces", [1, 2])
def test_changes_within_objects_are_noticed(pieces):
    records = [Record(A.clone(), B, Y) for _ in range(pieces)]
    ggn = vivit.GGN(
        Keywords(plain),
        LOSS,
        records,
        target=lambda x: x.label,
        forward=lambda m, x: m(x.a, x.b),
    )
    records[0].a.mul_(3)
    with pytest.raises(StaleError, match="Inputs or targets were changed"):
        ggn @ torch.ones(18).double()


def test_sums_over_nests_of_targets_have_to_say_so():
    """As those over tensors."""

    def loss_func(output, target):
        return nn.functional.mse_loss(output, target["y"], reduction="sum")

    targets = {"y": torch.randn(6, 3).double(), "name": "of no account"}
    with pytest.raises(UnsupportedError, match="It is a sum: give it an attribute reduction"):
        vivit.EmpiricalFisher(LAYER, loss_func, (A, targets))
    loss_func.reduction = "sum"
    fisher = vivit.EmpiricalFisher(LAYER, loss_func, (A, targets))
    plain = vivit.EmpiricalFisher(LAYER, nn.MSELoss(reduction="sum"), (A, targets["y"]))
    assert torch.allclose(fisher.eigvalsh(), plain.eigvalsh())


class Samples(torch.utils.data.Dataset):
    """Single samples, by index."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return A[index], Y[index]


BAD = {
    "dataset": (Samples(), {}, r"data must be a batch .* take DataLoader\(dataset"),
    "extra keys": (
        {"a": A, "b": B, "id": Y, "labels": Y},
        {},
        r"takes \(a, b, scale=1.0\), and the batch has 'id', which it does not take: say how",
    ),
    "a pair for one": (
        ((A, B), Y),
        {},
        r"but is called with X alone, a tuple: say how.*model\(\*X",
    ),
    "no labels": ({"a": A, "b": B}, {}, "The batch has no 'labels', but 'a', 'b'. Say what"),
    "no function": ({"a": A}, {"target": "answer"}, "target must map a batch .* got str"),
    "several": ([A, B, A], {}, r"data must be a batch \(X, y\).* got list.*target=lambda batch"),
    "nothing": ({"a": A[:0], "b": B[:0], "labels": Y[:0]}, {}, "The batch is empty: y has shape"),
}


@pytest.mark.parametrize(("data", "options", "message"), BAD.values(), ids=BAD)
def test_bad_data(data, options, message):
    with pytest.raises(InputError, match=message):
        vivit.GGN(Keywords(plain), LOSS, data, **options)


def test_outputs_that_are_not_understood():
    model = Keywords(lambda f: {"first": f, "second": f})
    with pytest.raises(InputError, match=r"got dict of 'first', 'second'. Say which .* forward="):
        vivit.GGN(model, LOSS, {"a": A, "b": B, "labels": Y})
