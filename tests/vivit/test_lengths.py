"""Batches of different lengths, whose samples differ in their number of columns.

As dynamic padding makes them, or images of several sizes. Everything is compared with dense
matrices of the sum of all losses over the count of all that they average over.
"""

import functools
from copy import deepcopy

import oracle
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vivit
from vivit.gram.blocks import BlockMatrices
from vivit.gram.sweep import stores_of_run
from vivit.layers.affine import Workspace

CE, CE_SUM, MSE = nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="sum"), nn.MSELoss()
BCE = nn.BCEWithLogitsLoss()
WORDS, WIDTH, P = 5, 4, 0.3


class Causal(nn.Module):
    """A language model of one causal layer; positions are part of its input, padding is not."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.places = nn.Parameter(torch.randn(8, WIDTH))
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS)

    def forward(self, ids):
        x = self.words(ids) + self.places[: ids.shape[1]]
        q, k, v = self.query(x), self.key(x), self.value(x)
        x = x + F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.head(self.norm(x)).transpose(1, 2)


class Unusual(nn.Module):
    """One of its parameters is used in a way that no fast rule knows."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 2), nn.Linear(2, 3)
        self.scale = nn.Parameter(torch.tensor([0.5, 1.5]))

    def forward(self, x):
        return self.last(self.first(x) * torch.cumsum(self.scale, 0).exp()).transpose(1, 2)


def fully_convolutional():
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(3, 3, 1)
    )


def tokens(padded=False):
    batches = []
    for n, length in ((2, 3), (1, 5), (3, 4), (2, 4)):
        ids, labels = (torch.randint(WORDS, (n, length)) for _ in range(2))
        if padded:
            labels[0, 2:] = -100
        batches.append((ids, labels))
    return batches


def images():
    sizes = ((2, 4, 4), (1, 6, 3), (2, 2, 7))
    return [(torch.randn(n, 2, h, w), torch.randint(3, (n, h // 2, w // 2))) for n, h, w in sizes]


def sequences(features=2, classes=False):
    batches = []
    for n, length in ((2, 3), (1, 1), (2, 12)):  # long ones are kept as columns
        y = torch.randint(features, (n, length)) if classes else torch.rand(n, length, features)
        batches.append((torch.randn(n, length, 3), y))
    return batches


def regression():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


CASES = {
    "language model": (Causal, CE, tokens),
    "language model, padded": (Causal, CE, lambda: tokens(padded=True)),
    "language model, sum": (Causal, CE_SUM, tokens),
    "images": (fully_convolutional, CE, images),
    "regression": (regression, MSE, sequences),
    "binary": (regression, BCE, sequences),
    "few parameters": (lambda: nn.Linear(3, 2), MSE, sequences),
    "generic": (Unusual, CE, lambda: sequences(3, classes=True)),
}
SUBSETS = {"all": None, "some": [0, 2, 4]}


class Dense:
    """All matrices of a case."""

    def __init__(self, name):
        network, self.loss_func, data = CASES[name]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = network().double()
            pairs = [
                tuple(x.double() if x.is_floating_point() else x for x in pair) for pair in data()
            ]
        self.data, self.names = pairs, [n for n, _ in self.model.named_parameters()]
        self.is_mean = self.loss_func.reduction == "mean"
        total = type(self.loss_func)(reduction="sum")
        counted = sum((y != -100).sum().item() for _, y in pairs) if self.is_mean else 1
        self.jacobians, self.hessians, slopes = [], [], []
        for x, y in pairs:
            f = self.model(x).detach().requires_grad_()
            jacobian = oracle.jacobian(self.model, x, self.names)
            n, c, _ = jacobian.shape
            hessian = oracle.loss_hessian(total, f, y).reshape(n, c, n, c) / counted
            self.jacobians += [*jacobian]
            self.hessians += [hessian[i, :, i] for i in range(n)]
            by_output = torch.autograd.grad(total(f, y), f)[0].reshape(n, c) / counted
            slopes.append(torch.einsum("nc,ncp->np", by_output, jacobian))
        self.count = len(self.jacobians)
        self.scale = self.count if self.is_mean else 1
        self.gradients = self.scale * torch.cat(slopes)

    def of_samples(self, subset):
        """``J_n^T H_n J_n`` of each."""
        chosen = range(self.count) if subset is None else subset
        pairs = [(self.jacobians[n], self.hessians[n]) for n in chosen]
        return torch.stack([j.T @ h @ j for j, h in pairs])

    def ggn(self, subset=None):
        parts = self.of_samples(subset)
        return parts.sum(0) * self.count / len(parts)

    def made(self, **options):
        return vivit.GGN(self.model, self.loss_func, self.data, **options)


of_case = functools.cache(Dense)


@pytest.fixture(params=CASES)
def dense(request):
    return of_case(request.param)


@pytest.fixture(params=SUBSETS.values(), ids=SUBSETS.keys())
def subset(request):
    return request.param


def close(actual, expected, tolerance=1e-9):
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance * max(expected.abs().max(), 1e-300)


def flat(vectors):
    return torch.cat([x.flatten() for x in vectors.values()])


def stacked(vectors):
    return torch.cat([x.flatten(1) for x in vectors.values()], dim=1)


def strong(values):
    """Eigenvalues that are far from rounding errors."""
    return values > 1e-4 * values[-1]


def columns(ggn):
    """``V`` as a matrix ``[D, M]``."""
    return ggn.factor_operator() @ torch.eye(ggn.num_columns).double()


@pytest.mark.parametrize("subset", [None, [0, 2, 4], [3, 4]], ids=["all", "some", "one batch"])
def test_columns(dense, subset):
    """``V V^T`` is the matrix, ``V^T V`` the Gram matrix: no column is there for padding."""
    ggn, g = dense.made(subset=subset), dense.ggn(subset)
    chosen = range(dense.count) if subset is None else subset
    per_word = {"CrossEntropyLoss": lambda c, k: c // k * (k - 1)}
    rank = per_word.get(type(dense.loss_func).__name__, lambda c, k: c)
    classes = dense.model(dense.data[0][0]).shape[1]
    assert ggn.num_columns == sum(rank(len(dense.jacobians[n]), classes) for n in chosen)
    v, gram = columns(ggn), ggn.gram()
    close(v @ v.T, g)
    close(gram, v.T @ v)
    close(ggn.factor_operator().T @ torch.eye(len(g)).double(), v.T)
    close(ggn.gram_operator() @ gram[:, :2], gram @ gram[:, :2])


def test_eigenvalues_and_scalars(dense, subset):
    ggn, g = dense.made(subset=subset), dense.ggn(subset)
    values, size = torch.linalg.eigvalsh(g), min(ggn.num_columns, len(g))
    close(ggn.eigvalsh(), values[-size:])
    close(ggn.trace(), g.trace())
    close(ggn.frobenius_norm(), g.norm())
    close(ggn.logdet(P), torch.logdet(g + P * torch.eye(len(g)).double()))
    close(ggn.effective_dimension(P), (values / (values + P)).sum(), tolerance=1e-8)
    diagonals = ggn.unflatten(g.diagonal())
    close(
        torch.stack([*ggn.traces().values()]), torch.stack([x.sum() for x in diagonals.values()])
    )


def test_products(dense, subset):
    ggn, g = dense.made(subset=subset), dense.ggn(subset)
    v = torch.randn(len(g), 2, generator=torch.Generator().manual_seed(0)).double()
    close(ggn @ v, g @ v)
    close(flat(ggn.gradient()), dense.gradients.sum(0) / dense.scale)


WAYS = {
    "as planned": ({}, {}),
    "lanczos": ({}, {"k": 2, "method": vivit.Lanczos()}),
    "workspace": ({"workspace": 512}, {}),
}


@pytest.mark.parametrize(("options", "selection"), WAYS.values(), ids=WAYS)
def test_pairs(dense, subset, options, selection):
    """Eigenvectors, derivatives along them, and steps."""
    g = dense.ggn(subset)
    ggn = dense.made(subset=subset, **options)
    selection = selection or {"criterion": strong}
    pairs = ggn.eigh(**selection)
    values, e = pairs.values, stacked(pairs.vectors)
    close(g @ e.T, e.T * values, tolerance=1e-6)
    close(e @ e.T, torch.eye(len(e)).double(), tolerance=1e-6)
    ordered = ggn.directional_derivatives(**selection)
    close(ordered.gammas.abs(), (dense.gradients @ e.T).abs(), tolerance=1e-5)
    along = torch.einsum("kp,npq,kq->nk", e, dense.of_samples(subset), e) * dense.scale
    close(ordered.lambdas, along, tolerance=1e-5)
    slope = dense.gradients.sum(0) / dense.scale
    step = -(e @ slope / (values + P)) @ e
    close(flat(ggn.newton_step(P, **selection)), step, tolerance=1e-5)


SOLVERS = {
    "default": None,
    "matrix": vivit.FullGram(),
    "conjugate gradients": vivit.ConjugateGradients(preconditioner_samples=1),
}


@pytest.mark.parametrize("method", SOLVERS.values(), ids=SOLVERS)
def test_solves(dense, subset, method):
    ggn, g = dense.made(subset=subset), dense.ggn(subset)
    damped = g + P * torch.eye(len(g)).double()
    v = torch.randn(len(g), generator=torch.Generator().manual_seed(0)).double()
    close(ggn.solve(v, P, method), torch.linalg.solve(damped, v), tolerance=1e-7)
    close(ggn.inverse_operator(P, method) @ v, torch.linalg.solve(damped, v), tolerance=1e-7)
    slope = dense.gradients.sum(0) / dense.scale
    expected = -torch.linalg.solve(damped, slope)
    close(flat(ggn.newton_step(P, flat=True)), expected, tolerance=1e-7)


@pytest.mark.parametrize("workspace", [2**20, 512])
def test_blocks(dense, subset, workspace):
    """Each by the smaller side of its own."""
    blocks = vivit.block_diagonal(
        dense.model, dense.loss_func, dense.data, "parameter", subset=subset, workspace=workspace
    )
    g = dense.ggn(subset)
    sizes = [p.numel() for p in dense.model.parameters()]
    parts = [x.split(sizes, dim=1)[i] for i, x in enumerate(g.split(sizes))]
    for block, part in zip(blocks.values(), parts, strict=True):
        values, found = torch.linalg.eigvalsh(part), block.eigvalsh()
        assert len(found) == min(block.num_columns, len(part))
        assert (found - values[-len(found) :]).abs().max() < 1e-9 * g.abs().max()
        if values[-1] < 1e-9 * g.abs().max():  # a bias of keys has no influence
            continue
        lambdas = block.directional_derivatives(k=1).lambdas
        close(lambdas.mean(0), values[-1:] * dense.scale / dense.count)


def test_plan_is_what_is_done(dense, monkeypatch):
    """No column is sent back, or kept, for padding."""
    ggn, sent = dense.made(), []
    monkeypatch.setattr(BlockMatrices, "_advance", lambda _, count: sent.append(count))
    curvature, plan = ggn._curvature, ggn._matrices.costs.plan(whole="")
    assert plan.num_columns == ggn.num_columns == len(ggn.gram())
    assert sum(sent) == sum(batch.columns for batch in curvature.batches)
    batches, kept = curvature.carrying(), {}
    for samples, _ in ggn._matrices._runs:
        memory = Workspace(2**20, curvature.like)
        for key, store in stores_of_run(batches, samples, memory, curvature.parameters).items():
            owned = [x for x in vars(store).values() if isinstance(x, torch.Tensor)]
            names = tuple(name for name in key if name)
            kept[names] = kept.get(names, 0) + sum(x.numel() * x.element_size() for x in owned)
    assert {x.parameters: x.kept_bytes for x in plan.layers} == kept


def test_several_sweeps():
    dense = of_case("language model")
    whole = dense.made()
    memory = int(0.8 * whole.plan().peak_bytes)
    parts = dense.made(memory=memory)
    assert len(parts.plan().sweeps) > 1
    assert parts.plan().peak_bytes <= memory
    close(parts.gram(), whole.gram(), tolerance=1e-12)


def test_what_would_fit():
    """Fewer samples, and fewer columns, of batches of several lengths."""
    dense = of_case("language model")
    few = dense.made(subset=range(4)).plan().peak_bytes
    with pytest.raises(vivit.InsufficientMemoryError, match=r"124 columns.*MonteCarlo\(samples=1"):
        dense.made(memory=few).eigvalsh()


def test_padding_changes_nothing():
    """One batch, padded to the longest, has more columns and the same curvature."""
    dense = of_case("language model, padded")
    longest = max(x.shape[1] for x, _ in dense.data)
    ids, labels = (
        torch.cat(
            [F.pad(pair[i], (0, longest - pair[i].shape[1]), value=fill) for pair in dense.data]
        )
        for i, fill in ((0, 0), (1, -100))
    )
    padded = vivit.GGN(dense.model, CE, (ids, labels))
    ggn = dense.made()
    assert padded.num_columns > ggn.num_columns
    v = torch.randn(len(dense.ggn()), generator=torch.Generator().manual_seed(0)).double()
    close(ggn @ v, padded @ v)
    close(ggn.eigvalsh()[-20:], padded.eigvalsh()[-20:])


def test_monte_carlo(dense):
    """As many columns of each sample, whatever its length."""
    ggn = dense.made(approximation=vivit.MonteCarlo(samples=2))
    assert ggn.num_columns == 2 * dense.count
    v = columns(ggn)
    close(v.T @ v, ggn.gram())
    exact = vivit.EmpiricalFisher(dense.model, dense.loss_func, dense.data)
    expected = oracle.outer_products(dense.gradients, 1 / dense.scale, False)
    close(exact @ torch.eye(len(expected)).double(), expected)


def test_single_precision(dense):
    """What is finished in double precision, too."""
    exact, data = dense.ggn(), []
    for pair in dense.data:
        data.append(tuple(x.float() if x.is_floating_point() else x for x in pair))
    ggn = vivit.GGN(deepcopy(dense.model).float(), dense.loss_func, data)
    pairs = ggn.eigh(criterion=strong)
    values, e = pairs.values.double(), stacked(pairs.vectors).double()
    close(e @ e.T, torch.eye(len(e)).double(), tolerance=1e-5)
    close(values, torch.linalg.eigvalsh(exact)[-len(values) :], tolerance=1e-5)


def test_posterior(dense):
    """Predictions at inputs of yet another length."""
    x = torch.cat([dense.data[0][0], dense.data[0][0][:, :1]], dim=1)
    if x.ndim == 4:
        x = dense.data[0][0][:, :, :, :2]
    posterior = vivit.LaplacePosterior(dense.model, dense.loss_func, dense.data, prior_precision=P)
    found = posterior.predictive(x)
    j = oracle.jacobian(dense.model, x, dense.names)
    counted = sum((y != -100).sum().item() for _, y in dense.data) if dense.is_mean else 1
    precision = counted * dense.ggn() + P * torch.eye(j.shape[2]).double()
    close(found.covariance, j @ torch.linalg.solve(precision, j.mT), tolerance=1e-8)
