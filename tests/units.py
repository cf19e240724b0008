"""Networks whose samples share units (nodes of a graph, tokens), and dense truth."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import oracle
import torch
from torch import Tensor, nn

import vivit

CE = nn.CrossEntropyLoss()
MSE = nn.MSELoss()
SUM = nn.MSELoss(reduction="sum")
ALLOW = {"mixing": "allow"}
TOKEN = {"samples": "token"}


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def integers(high, *shape, seed=0):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


class Graph(nn.Module):
    """Graph convolutions with a fixed adjacency."""

    def __init__(self, nodes=7, outputs=3):
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, outputs)
        self.register_buffer("adjacency", normal(nodes, nodes, seed=1) / 2)

    def forward(self, x):
        return self.last(self.adjacency @ torch.tanh(self.first(self.adjacency @ x)))


class Scores(Graph):
    """A number for each node, of nodes with vectors of their own."""

    def __init__(self):
        super().__init__(outputs=1)
        self.own = nn.Parameter(normal(7, 4, seed=2) / 2)

    def forward(self, x):
        return super().forward(x * self.own).squeeze(1)


class Angles(Graph):
    """A parameter of an operation without a rule."""

    def __init__(self):
        super().__init__()
        self.radius = nn.Parameter(weights(3))

    def forward(self, x):
        return torch.atan2(super().forward(x), self.radius)


def attention(q, k, v, mask):
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1) @ v


class Language(nn.Module):
    """A causal language model with one layer; classes behind tokens."""

    def __init__(self):
        super().__init__()
        self.embed, self.qkv, self.head = nn.Embedding(5, 4), nn.Linear(4, 12), nn.Linear(4, 5)

    def forward(self, tokens):
        h = self.embed(tokens)
        mask = torch.ones(tokens.shape[-1], tokens.shape[-1]).tril().bool()
        return self.head(h + attention(*self.qkv(h).chunk(3, dim=-1), mask))


class Classes(nn.Module):
    """Classes before tokens, as cross-entropy takes them."""

    def __init__(self, model, end=None):
        super().__init__()
        self.model, self.end = model, end or nn.Identity()

    def forward(self, x):
        return self.end(self.model(x).movedim(-1, 1))


class Packed(Language):
    """Several sequences as one, with a mask that keeps them apart."""

    def forward(self, tokens):
        h, which = self.embed(tokens), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
        mask = (which[:, None] == which) & torch.ones(8, 8).tril().bool()
        return self.head(h + attention(*self.qkv(h).chunk(3, dim=-1), mask))


class Pooled(nn.Module):
    """Tokens of all sequences see each other."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        h = torch.tanh(self.first(x))
        return self.last(h - h.mean(dim=(0, 1)))


class SoftPlus(nn.Module):
    """A loss without a closed form, with a slope that is not in the span of its curvature."""

    def forward(self, f, y):
        f = f + f.sum(dim=1, keepdim=True)
        return (nn.functional.softplus(f) - f * y).sum(dim=1).mean()


def per_token(outputs=3):
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, outputs))


class OneByOne(nn.Module):
    """A parameter whose uses are not known: each sequence has one of its own."""

    def __init__(self):
        super().__init__()
        self.scale, self.last = nn.Parameter(weights(4)), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(torch.stack([torch.tanh(one * self.scale).cumsum(dim=0) for one in x]))


def normed():
    return nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.Tanh(), nn.Linear(5, 3)
    )


def segmentation():
    return nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 3, 1))


def ignoring(y):
    return torch.where(integers(3, *y.shape, seed=5) == 0, -100, y)


def weights(*shape):
    return normal(*shape, seed=3).abs() + 0.5


def as_rows(f):
    return f.reshape(len(f), -1)


def behind_classes(f):
    return torch.stack([f[n].reshape(f.shape[1], -1).T for n in range(len(f))]).flatten(0, 1)


def second_axis(f):
    return torch.cat([*f])


@dataclass(frozen=True)
class Case:
    """A model whose samples share units."""

    name: str
    model: Callable[[], nn.Module]
    x: Tensor
    y: Tensor
    loss: Any
    options: dict[str, Any]
    rows: Callable[[Tensor], Tensor]
    generic: tuple[str, ...] = field(default=())

    def __hash__(self):
        return hash(self.name)


CASES = [
    Case("graph", Graph, normal(7, 4), integers(3, 7), CE, ALLOW, as_rows),
    Case(
        "graph, sum",
        Graph,
        normal(7, 4),
        normal(7, 3),
        SUM,
        ALLOW,
        as_rows,
    ),
    Case("graph, any loss", Graph, normal(7, 4), weights(7, 3), SoftPlus(), ALLOW, as_rows),
    Case("scores", Scores, normal(7, 4), normal(7), MSE, ALLOW, as_rows),
    Case("angles", Angles, normal(7, 4), integers(3, 7), CE, ALLOW, as_rows, ("radius",)),
    Case("packed", Packed, integers(5, 8), ignoring(integers(5, 8)), CE, ALLOW, as_rows),
    Case("BatchNorm", normed, normal(6, 4), normal(6, 3), MSE, ALLOW, as_rows),
    Case(
        "layer of tokens",
        lambda: Classes(per_token()),
        normal(3, 5, 4),
        integers(3, 3, 5),
        nn.CrossEntropyLoss(weight=weights(3), label_smoothing=0.1),
        TOKEN,
        behind_classes,
    ),
    Case(
        "language model",
        lambda: Classes(Language()),
        integers(5, 3, 4),
        ignoring(integers(5, 3, 4)),
        CE,
        TOKEN,
        behind_classes,
    ),
    Case(
        "log-likelihoods",
        lambda: Classes(Language(), nn.LogSoftmax(dim=1)),
        integers(5, 3, 4),
        ignoring(integers(5, 3, 4)),
        nn.NLLLoss(weight=weights(5)),
        TOKEN,
        behind_classes,
    ),
    Case(
        "probabilities",
        lambda: Classes(Language()),
        integers(5, 2, 4),
        normal(2, 5, 4).softmax(dim=1),
        CE,
        TOKEN,
        behind_classes,
    ),
    Case(
        "no fast rule",
        lambda: Classes(OneByOne()),
        normal(3, 5, 4),
        ignoring(integers(3, 3, 5)),
        CE,
        TOKEN,
        behind_classes,
        ("model.scale", "model.last.weight", "model.last.bias"),
    ),
    Case("square loss", Language, integers(5, 3, 4), normal(3, 4, 5), MSE, TOKEN, second_axis),
    Case(
        "binary",
        lambda: per_token(2),
        normal(3, 5, 4),
        integers(2, 3, 5, 2).double(),
        nn.BCEWithLogitsLoss(weight=weights(2), pos_weight=weights(2), reduction="sum"),
        TOKEN,
        second_axis,
    ),
    Case(
        "pixels",
        segmentation,
        normal(2, 2, 3, 2),
        integers(3, 2, 3, 2),
        nn.CrossEntropyLoss(reduction="sum"),
        TOKEN,
        behind_classes,
    ),
    Case(
        "tokens of all sequences",
        lambda: Classes(Pooled()),
        normal(2, 3, 4),
        integers(3, 2, 3),
        CE,
        {**TOKEN, **ALLOW},
        behind_classes,
    ),
]
NAMED = {case.name: case for case in CASES}


class Dense:
    """Everything about a case, dense.

    Attributes:
        j: Jacobian of each sample, [N, C, D].
        h: Loss Hessian of each sample, [N, C, C], of the batch loss.
        g: Gradient of the batch loss by the outputs of each sample, [N, C].
    """

    def __init__(self, case):
        torch.manual_seed(0)
        self.case, self.model = case, case.model().double()
        self.names = [name for name, _ in self.model.named_parameters()]
        f = self.model(case.x).detach().requires_grad_()
        places = case.rows(torch.arange(f.numel()).reshape(f.shape))
        flat = oracle.jacobian(self.model, case.x, self.names).flatten(0, 1)
        curved = case.loss
        if isinstance(curved, nn.NLLLoss):  # of normalised log-probabilities
            curved = nn.CrossEntropyLoss(weight=curved.weight)
        whole = oracle.loss_hessian(curved, f, case.y)
        self.j, self.h = flat[places], torch.stack([whole[i][:, i] for i in places])
        self.g = torch.autograd.grad(case.loss(f, case.y), f)[0].flatten()[places]
        apart = torch.zeros_like(whole)
        for i in places:
            apart[i[:, None], i] = whole[i[:, None], i]
        assert torch.equal(apart, whole)  # else these are no samples of the loss
        self.n = len(places)
        self.of_sample = self.n if getattr(case.loss, "reduction", "mean") == "mean" else 1

    def ggn(self, chosen=None):
        chosen = range(self.n) if chosen is None else chosen
        parts = [self.j[i].T @ self.h[i] @ self.j[i] for i in chosen]
        return sum(parts) * self.n / len(parts)

    @property
    def gradients(self):
        """Of each sample's own loss, [N, D]."""
        return self.of_sample * torch.einsum("ncd,nc->nd", self.j, self.g)

    def fisher(self, centered, chosen=None):
        g = self.gradients if chosen is None else self.gradients[chosen]
        weight = (1 if self.of_sample == self.n else self.n) / len(g)
        return oracle.outer_products(g, weight, centered)


@functools.cache
def dense_of(case):
    return Dense(case)


def made(case, kind=vivit.GGN, **options):
    dense = dense_of(case)
    return dense, kind(dense.model, case.loss, (case.x, case.y), **case.options, **options)


def assert_close(actual, expected, scale=1.0, tolerance=1e-9):
    assert actual.shape == expected.shape
    assert float((actual - expected).abs().max()) <= tolerance * float(scale)


def flat(vectors):
    return torch.cat([x.flatten(1) for x in vectors.values()], dim=1).T
