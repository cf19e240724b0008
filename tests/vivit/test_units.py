"""Samples that share a unit: nodes of a graph, packed sequences, tokens; against dense float64."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import oracle
import pytest
import torch
from torch import Tensor, nn

import vivit
from vivit.errors import InputError, InsufficientMemoryError, UnsupportedError

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
ON_EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
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


def assert_is(ours, matrix, scale):
    """All that a matrix says of itself is that of a dense one."""
    size = min(len(matrix), ours.num_columns)
    assert_close(ours.eigvalsh(), torch.linalg.eigvalsh(matrix)[-size:], scale)
    v = normal(len(matrix), 2)
    assert_close(ours @ v, matrix @ v, scale, 1e-8)
    columns = ours.factor_operator() @ torch.eye(ours.num_columns).double()
    assert_close(columns @ columns.T, matrix, scale)
    assert_close(ours.gram(), columns.T @ columns, scale)
    assert_close(ours.factor_operator().T @ v, columns.T @ v, scale, 1e-8)
    sizes = [x.numel() for x in ours.gradient().values()]
    traces = torch.stack([x.sum() for x in matrix.diagonal().split(sizes)])
    assert_close(torch.stack([*ours.traces().values()]), traces, scale)
    return columns


def assert_derivatives(ours, matrix, dense, curvatures, scale, k=None):
    """Eigenpairs, slopes and curvatures of each sample along them."""
    pairs, derivatives = ours.eigh(k=k), ours.directional_derivatives(k=k)
    e = flat(pairs.vectors)
    assert_close(matrix @ e, e * pairs.values, scale, 1e-8)
    slopes, size = dense.gradients @ e, dense.gradients.norm()
    assert_close(derivatives.gammas.abs(), slopes.abs(), size, 1e-7)
    expected = curvatures(e)
    assert_close(derivatives.lambdas, expected, expected.abs().max(), 1e-7)


@ON_EVERY_CASE
@pytest.mark.parametrize("workspace", [None, 1], ids=["roomy", "tight"])
def test_ggn(case, workspace):
    dense, ours = made(case, workspace=workspace)
    g = dense.ggn()
    exact, scale = g, g.trace()
    assert ours.num_columns % dense.n == 0
    assert_is(ours, exact, scale)

    def curvatures(e):
        images = torch.einsum("ncd,dk->nck", dense.j, e)
        return dense.of_sample * torch.einsum("nck,ncb,nbk->nk", images, dense.h, images)

    assert_derivatives(ours, exact, dense, curvatures, scale)
    gradient = oracle.gradient(dense.model, case.loss, case.x, case.y, dense.names)
    assert_close(ours.flatten(ours.gradient()), gradient)
    damped = exact + 0.1 * scale * torch.eye(len(exact)).double()
    step = ours.flatten(ours.solve(ours.gradient(), damping=0.1 * float(scale)))
    assert_close(step, torch.linalg.solve(damped, gradient))
    served = ours.plan().done.served_by
    fast = {"affine", "parts", "products"}
    assert {name for name, way in served.items() if way not in fast} == {*case.generic}


@ON_EVERY_CASE
def test_steps_along_eigenvectors(case):
    dense, ours = made(case)
    pairs, d = ours.eigh(), ours.directional_derivatives()
    e, slopes = flat(pairs.vectors), d.gammas.mean(dim=0) * dense.n / dense.of_sample
    step = ours.flatten(ours.newton_step(damping=0.3))
    assert_close(step.abs(), (e @ (-slopes / (pairs.values + 0.3))).abs(), 1.0, 1e-8)
    gradient = dense.gradients.sum(dim=0) / dense.of_sample
    exact = -(e @ ((e.T @ gradient) / (pairs.values + 0.3)))
    assert_close(step, exact, 1.0, 1e-8)


@ON_EVERY_CASE
@pytest.mark.parametrize("centered", [False, True], ids=["plain", "centred"])
@pytest.mark.parametrize("chosen", [None, [1, 2, 5]], ids=["all", "subset"])
def test_empirical_fisher(case, centered, chosen):
    dense, ours = made(case, vivit.EmpiricalFisher, centered=centered, subset=chosen)
    scale = dense.fisher(False, chosen).trace()
    exact = dense.fisher(centered, chosen)
    columns = assert_is(ours, exact, scale)
    g = dense.gradients if chosen is None else dense.gradients[chosen]
    g = g - g.mean(dim=0) if centered else g
    assert_close(columns / columns.norm(), g.T / g.norm())

    assert_derivatives(ours, exact, dense, lambda e: (g @ e).square(), scale)


@ON_EVERY_CASE
@pytest.mark.parametrize("chosen", [[0], [5, 1, 2]], ids=["one", "three"])
def test_subset(case, chosen):
    dense, ours = made(case, subset=chosen)
    exact = dense.ggn(sorted(chosen))
    scale = dense.ggn().trace()
    assert_is(ours, exact, scale)

    def curvatures(e):
        images = torch.einsum("ncd,dk->nck", dense.j[sorted(chosen)], e)
        h = dense.h[sorted(chosen)]
        return dense.of_sample * torch.einsum("nck,ncb,nbk->nk", images, h, images)

    assert_derivatives(ours, exact, dense, curvatures, scale)


@ON_EVERY_CASE
def test_monte_carlo(case):
    """Columns of each sample are in the range of its Jacobian; their expectation is the GGN."""
    dense, ours = made(case, approximation=vivit.MonteCarlo(2, seed=3))
    assert ours.num_columns == 2 * dense.n
    columns = ours.factor_operator() @ torch.eye(ours.num_columns).double()
    exact = dense.ggn()
    assert_is(ours, columns @ columns.T, exact.trace())
    for n, own in enumerate(columns.T.split(2)):
        j = dense.j[n].T
        assert_close(j @ torch.linalg.lstsq(j, own.T, driver="gelsd").solution, own.T, 1.0, 1e-7)
    images = columns.T.unflatten(0, (-1, 2))
    scale = dense.n if dense.of_sample == dense.n else 1

    def curvatures(e):
        return scale * torch.einsum("ncd,dk->nck", images, e).square().sum(dim=1)

    assert_derivatives(ours, columns @ columns.T, dense, curvatures, exact.trace(), k=4)
    _, many = made(case, approximation=vivit.MonteCarlo(300, seed=1))
    v = normal(len(exact), 20)
    assert float((many @ v - exact @ v).norm() / (exact @ v).norm()) < 0.25


@ON_EVERY_CASE
def test_several_batches(case):
    """Each is a unit, or some: so the curvature is the mean of theirs, by what they average."""
    dense = dense_of(case)
    batches = [(case.x, case.y), (case.x.flip(0), case.y)]
    one = [vivit.GGN(dense.model, case.loss, b, **case.options) for b in batches]
    both = vivit.GGN(dense.model, case.loss, batches, **case.options)
    v, share = normal(len(dense.j[0, 0])), 2 if dense.of_sample == dense.n else 1
    exact = sum(g @ torch.eye(len(v)).double() for g in one) / share
    assert_is(both, exact, exact.trace())
    d = both.directional_derivatives(k=3)
    assert d.gammas.shape == d.lambdas.shape == (2 * dense.n, 3)
    assert_close(d.lambdas.sum(dim=0) / (share * dense.of_sample), both.eigvalsh()[-3:], 1, 1e-8)
    fisher = vivit.EmpiricalFisher(dense.model, case.loss, batches, **case.options)
    apart = [vivit.EmpiricalFisher(dense.model, case.loss, b, **case.options) for b in batches]
    exact = sum(f @ torch.eye(len(v)).double() for f in apart) / share
    assert_is(fisher, exact, exact.trace())


@ON_EVERY_CASE
@pytest.mark.parametrize("matrix", ["ggn", "empirical_fisher"])
def test_blocks(case, matrix):
    dense, blocks = made(case, vivit.block_diagonal, groups="parameter", matrix=matrix)
    exact = dense.ggn() if matrix == "ggn" else dense.fisher(False)
    start = 0
    for block in blocks.values():
        stop = start + block.shape[0]
        own = exact[start:stop, start:stop]
        size = min(len(own), block.num_columns)
        assert_close(block.eigvalsh(), torch.linalg.eigvalsh(own)[-size:], exact.trace())
        start = stop


def test_ignored_tokens_are_samples_without_curvature():
    dense, ours = made(NAMED["language model"])
    ignored = (NAMED["language model"].y == -100).flatten()
    assert ignored.any()
    per_token = ours.gram().diagonal().unflatten(0, (dense.n, -1)).sum(dim=1)
    assert torch.equal(per_token == 0, ignored)
    d = ours.directional_derivatives(k=2)
    assert float(d.gammas[ignored].abs().max()) < 1e-12
    assert float(d.lambdas[ignored].abs().max()) < 1e-24


def test_the_ggn_is_that_of_sequences_but_the_fisher_is_not():
    case = NAMED["language model"]
    dense, by_token = made(case)
    by_sequence = vivit.GGN(dense.model, case.loss, (case.x, case.y))
    assert_close(by_token.gram(), by_sequence.gram())
    _, fisher = made(case, vivit.EmpiricalFisher)
    of_sequences = vivit.EmpiricalFisher(dense.model, case.loss, (case.x, case.y))
    assert (fisher.num_columns, of_sequences.num_columns) == (12, 3)
    assert not torch.allclose(fisher.eigvalsh()[-1], of_sequences.eigvalsh()[-1], rtol=0.1)


@pytest.mark.parametrize("name", ["graph", "language model"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_solvers(name, dtype):
    """Iterations that need products alone, and matrices in double precision."""
    case = NAMED[name]
    dense = dense_of(case)
    x = case.x if case.x.dtype == torch.int64 else case.x.to(dtype)
    model = case.model().to(dtype)
    model.load_state_dict(dense.model.state_dict())
    ours = vivit.GGN(model, case.loss, (x, case.y), **case.options)
    exact, tolerance = dense.ggn(), 1e-5 if dtype is torch.float32 else 1e-8
    values = torch.linalg.eigvalsh(exact)
    for method in (vivit.Lanczos(), vivit.FullGram()):
        d = ours.directional_derivatives(k=2, method=method)
        mean = d.lambdas.double().mean(dim=0)
        assert_close(mean, values[-2:], values[-1], tolerance)
    scale = float(values[-1])
    b = normal(len(exact)).to(dtype)
    solved = ours.solve(b, damping=scale, method=vivit.ConjugateGradients())
    damped = exact + scale * torch.eye(len(exact)).double()
    expected = torch.linalg.solve(damped, b.double())
    assert_close(solved.double(), expected, expected.norm(), 1e-4)


def test_batches_of_different_lengths():
    """Products need no matrix; what needs one says that units have to agree."""
    model = Classes(Language()).double()
    batches = [(integers(5, 2, n), integers(5, 2, n)) for n in (3, 4)]
    ours = vivit.GGN(model, CE, batches, **TOKEN)
    names = [name for name, _ in model.named_parameters()]
    exact = sum(oracle.ggn(model, CE, x, y, names) * y.numel() / 14 for x, y in batches)
    v = normal(len(exact))
    assert_close(ours @ v, exact @ v, exact.trace())
    d = ours.directional_derivatives(k=2, method=vivit.Lanczos())
    assert_close(d.lambdas.mean(dim=0), torch.linalg.eigvalsh(exact)[-2:], exact.trace(), 1e-8)
    with pytest.raises(
        InputError, match="sequences have from 3 to 4 samples that carry curvature"
    ):
        ours.eigvalsh()
    graph = vivit.GGN(
        per_token(), CE, [(normal(n, 4).float(), integers(3, n)) for n in (2, 3)], **ALLOW
    )
    with pytest.raises(InputError, match="batches have from 2 to 3 samples"):
        graph.plan()


def test_running_statistics_stay_as_they_were():
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).double()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    x, y = normal(6, 4), integers(3, 6)
    assert vivit.check(model, CE, (x, y), **ALLOW)
    refused = vivit.check(model, CE, (x, y)).refused
    assert "BatchNorm1d '1' uses the statistics of the batch" in refused[0]
    found = vivit.GGN(model, CE, (x, y), **ALLOW).eigvalsh()
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    names = [name for name, _ in model.named_parameters()]
    exact = torch.linalg.eigvalsh(oracle.ggn(model, CE, x, y, names))
    assert_close(found, exact[-len(found) :], exact[-1])


def test_called_models_and_mappings():
    model = Graph().double()
    x, y = normal(7, 4), integers(3, 7)
    exact = vivit.GGN(model, CE, (x, y), **ALLOW).eigvalsh()
    batch = {"x": x, "labels": y}
    ours = vivit.GGN(model, CE, batch, forward=lambda m, b: {"logits": m(b["x"])}, **ALLOW)
    assert_close(ours.eigvalsh(), exact)


def test_what_fits_instead():
    with pytest.raises(InsufficientMemoryError) as caught:
        made(NAMED["language model"], memory=60_000)[1].eigvalsh()
    assert "MonteCarlo(samples=1)" in str(caught.value)
    assert "subset" not in str(caught.value)


def token_loss(f, y):
    return CE(f, y)


def ggn(loss_func=CE, x=None, y=None, model=None, **options):
    x, y = normal(3, 5, 4) if x is None else x, integers(3, 3, 5) if y is None else y
    model = Classes(per_token()).double() if model is None else model
    return vivit.GGN(model, loss_func, (x, y), **options)


REFUSED = {
    "unknown samples": (
        lambda: ggn(samples="word"),
        InputError,
        "samples must be one of 'sequence', 'token', got 'word'",
    ),
    "unknown mixing": (
        lambda: ggn(mixing=True),
        InputError,
        "mixing must be one of 'refuse', 'allow', got True",
    ),
    "a loss of which tokens are not known": (
        lambda: ggn(token_loss, samples="token"),
        UnsupportedError,
        r"got 'token_loss'\. With any other.*mixing='allow'",
    ),
    "no tokens": (
        lambda: ggn(x=normal(3, 4), y=integers(3, 3), model=per_token().double(), samples="token"),
        InputError,
        r"needs outputs of shape \[N, classes, tokens\] for CrossEntropyLoss, got \['N', 3\]",
    ),
    "no tokens of a square loss": (
        lambda: ggn(MSE, normal(3, 4), normal(3, 3), per_token().double(), samples="token"),
        InputError,
        r"needs outputs of shape \[N, tokens, outputs\] for MSELoss",
    ),
    "targets of another shape": (
        lambda: ggn(y=integers(3, 5, 3), samples="token"),
        InputError,
        r"targets of shape \['N', 5\] for outputs of shape \['N', 3, 5\], got \[5, 3\]",
    ),
    "probabilities of another shape": (
        lambda: ggn(y=normal(3, 5, 3).softmax(dim=2), samples="token"),
        InputError,
        r"targets of shape \['N', 3, 5\] for outputs",
    ),
    "weights of tokens": (
        lambda: ggn(
            nn.BCEWithLogitsLoss(weight=weights(5, 3)),
            y=integers(2, 3, 5, 3).double(),
            model=per_token().double(),
            samples="token",
        ),
        InputError,
        r"weights that differ from token to token.*outputs, \[3\]",
    ),
    "sequences that mix": (
        lambda: ggn(
            x=normal(2, 3, 4),
            y=integers(3, 2, 3),
            model=Classes(Pooled()).double(),
            samples="token",
        ).gram(),
        UnsupportedError,
        "mixes samples.*in the forward of Pooled 'model'.*mixing='allow'",
    ),
    "no output": (
        lambda: ggn(forward=lambda m, x: m(x).mean(), mixing="allow"),
        InputError,
        r"The model output has shape \[\]",
    ),
}


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("name", [case.name for case in CASES if case.options == ALLOW])
@pytest.mark.parametrize(
    "options", [{}, {"approximation": vivit.MonteCarlo(20)}, {"memory": 10**6}]
)
def test_laplace(name, options):
    """Both sides of the matrix, and covariances of few rows at a time."""
    case = NAMED[name]
    dense = dense_of(case)
    posterior = vivit.LaplacePosterior(
        dense.model, case.loss, (case.x, case.y), 0.7, **ALLOW, **options
    )
    _, ours = made(case, **{key: x for key, x in options.items() if key != "memory"})
    eye = torch.eye(len(dense.ggn())).double()
    scale = {MSE: case.y.numel(), CE: int((case.y != -100).sum()), SUM: 1}.get(case.loss, dense.n)
    covariance = torch.linalg.inv(scale * (ours @ eye) + 0.7 * eye)
    found = posterior.predictive(case.x)
    f = dense.model(case.x).detach()
    assert_close(found.mean, f)
    assert_close(found.covariance, dense.j @ covariance @ dense.j.mT, 1.0, 1e-8)
    square = sum(float(x.detach().square().sum()) for x in dense.model.parameters())
    evidence = -scale * float(case.loss(f, case.y)) - 0.35 * square
    evidence -= float(torch.logdet(scale * (ours @ eye) / 0.7 + eye)) / 2
    assert abs(float(posterior.log_marginal_likelihood()) - evidence) < 1e-7


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_laplace_some_rows_at_a_time(at_a_time, monkeypatch):
    case = NAMED["graph"]
    dense = dense_of(case)
    posterior = vivit.LaplacePosterior(dense.model, case.loss, (case.x, case.y), **ALLOW)
    whole = posterior.predictive(case.x)
    monkeypatch.setattr(vivit.LaplacePosterior, "_samples_at_a_time", lambda *_: at_a_time)
    assert_close(posterior.predictive(case.x).covariance, whole.covariance)


@pytest.mark.parametrize("name", [case.name for case in CASES if case.options == ALLOW])
def test_ntk(name):
    case = NAMED[name]
    dense = dense_of(case)
    other = case.x.flip(0)
    j2 = oracle.jacobian(dense.model, other, dense.names)
    within = torch.einsum("ncd,mbd->nmcb", dense.j, dense.j)
    between = torch.einsum("ncd,mbd->nmcb", dense.j, j2)
    scale = within.abs().max()
    assert_close(vivit.ntk(dense.model, case.x, **ALLOW), within, scale)
    assert_close(vivit.ntk(dense.model, case.x, other, **ALLOW), between, scale)
    trace = vivit.ntk(dense.model, case.x, other, outputs="trace", **ALLOW)
    assert_close(trace, between.diagonal(dim1=2, dim2=3).sum(dim=2), scale)
    with pytest.raises(InputError, match="batch_size must be None"):
        vivit.ntk(dense.model, case.x, batch_size=2, **ALLOW)


def test_monitor(tmp_path):
    case = NAMED["language model"]
    dense = dense_of(case)
    path, batch = tmp_path / "run.jsonl", (case.x, case.y)
    monitor = vivit.Monitor(dense.model, case.loss, batch, path=path, k=2, **TOKEN)
    seen = monitor(0)
    values = torch.linalg.eigvalsh(dense.ggn()).flip(0)[:2]
    assert_close(torch.tensor(seen.quantities["eigenvalues"]).double(), values, values[0], 1e-6)
    with pytest.raises(InputError, match="samples must be one of"):
        vivit.Monitor(dense.model, case.loss, batch, path=path, samples="word")
