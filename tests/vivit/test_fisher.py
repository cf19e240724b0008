"""The empirical Fisher and the gradient covariance against dense float64 ones, on every case."""

import functools
import math

import oracle
import pytest
import torch
import torch.nn.functional as F
from cases import CASES, MSE, MSE_SUM, Case
from torch import nn

import vivit
from vivit.errors import InputError, InsufficientMemoryError, UnsupportedError

NAMED = {case.name: case for case in CASES}

CENTERED = pytest.mark.parametrize("centered", [False, True], ids=["plain", "centred"])
ON_EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


TOLERANCE = 1e-10


def assert_close(actual, expected, scale, tolerance=TOLERANCE):
    assert actual.shape == expected.shape
    if expected.numel():
        assert float((actual - expected).abs().max()) <= tolerance * float(scale)


def names_of(model):
    return [name for name, p in model.named_parameters() if p.requires_grad]


@functools.cache
def made(case):
    """A case, and the gradients of its samples."""
    model, loss_func, x, y = case.make()
    gradients = oracle.sample_gradients(model, loss_func, x, y, names_of(model))
    return (model, loss_func, x, y), gradients


class Dense:
    """The matrix of a case, dense.

    Attributes:
        ours: The same by the library.
        gradients: Of each sample's own loss, shape [N, D].
        matrix: Shape [D, D].
        scale: The trace of the matrix that is not centred.
        gradient: Of the batch loss.
    """

    def __init__(self, case, centered, batches=None, chosen=None, names=None, **options):
        (model, loss_func, x, y), g = made(case)
        whole = vivit.GGN(model, loss_func, (x, y))
        n, is_mean = len(y), loss_func.reduction == "mean"
        if names is not None:
            places = whole.unflatten(torch.arange(g.shape[1]))
            g = g[:, torch.cat([places[name].flatten() for name in names])]
        self.gradient = g.mean(dim=0) if is_mean else g.sum(dim=0)
        self.gradients = g
        carrying = g if chosen is None else g[sorted(chosen)]
        weight = (1 if is_mean else n) / len(carrying)
        self.matrix = oracle.outer_products(carrying, weight, centered)
        self.scale = weight * carrying.square().sum()
        data = (
            (x, y) if batches is None else [*zip(x.split(batches), y.split(batches), strict=True)]
        )
        self.ours = vivit.EmpiricalFisher(
            model, loss_func, data, centered=centered, params=names, subset=chosen, **options
        )


def columns_of(vectors):
    """Eigenvectors as the columns of a matrix."""
    return torch.cat([x.unsqueeze(1).flatten(1) for x in vectors.values()], dim=1).T


@ON_EVERY_CASE
@CENTERED
def test_eigenvalues_and_traces(case, centered):
    dense = Dense(case, centered)
    ours, size = dense.ours, min(dense.ours.num_columns, len(dense.matrix))
    assert ours.shape == dense.matrix.shape
    exact = torch.linalg.eigvalsh(dense.matrix)[-size:]
    assert_close(ours.eigvalsh(), exact, dense.scale)
    sizes = [math.prod(p) for p in (x.shape for x in ours.gradient().values())]
    traces = torch.stack([x.sum() for x in dense.matrix.diagonal().split(sizes)])
    assert_close(torch.stack([*ours.traces().values()]), traces, dense.scale)


@ON_EVERY_CASE
@CENTERED
def test_pairs_and_derivatives(case, centered):
    dense = Dense(case, centered)
    pairs, derivatives = dense.ours.eigh(), dense.ours.directional_derivatives()
    e, g = columns_of(pairs.vectors), dense.gradients
    assert_close(e.T @ e, torch.eye(len(pairs.values), dtype=e.dtype), 1, 1e-8)
    assert_close(dense.matrix @ e, e * pairs.values, dense.scale)
    slopes = g @ e
    largest = g.square().sum().sqrt() + 1e-300
    assert_close(derivatives.gammas.abs(), slopes.abs(), largest, 1e-7)
    images = slopes - slopes.mean(dim=0) if centered else slopes
    assert_close(derivatives.lambdas, images.square(), largest**2, 1e-7)


@ON_EVERY_CASE
@CENTERED
def test_products(case, centered):
    dense = Dense(case, centered)
    ours, matrix, gram = dense.ours, dense.matrix, dense.ours.gram()
    generator = torch.Generator().manual_seed(1)
    v = torch.randn(len(matrix), 2, generator=generator, dtype=matrix.dtype)
    u = torch.randn(len(gram), 2, generator=generator, dtype=matrix.dtype)
    scale, factor = 10 * dense.scale, ours.factor_operator()
    assert_close(ours @ v, matrix @ v, scale)
    assert_close(factor @ (factor.T @ v), matrix @ v, scale)
    assert_close(factor.T @ (factor @ u), gram @ u, scale)
    assert_close(ours.gram_operator() @ u, gram @ u, scale)
    assert_close(torch.linalg.eigvalsh(gram).sum(), matrix.trace(), scale)


@ON_EVERY_CASE
@CENTERED
def test_newton_step(case, centered):
    dense = Dense(case, centered)
    damping = 0.5 * float(dense.scale) + 1e-6
    step = dense.ours.flatten(dense.ours.newton_step(damping))
    values, vectors = torch.linalg.eigh(dense.matrix)
    vectors = vectors[:, values > 1e-12 * dense.scale]
    projected = vectors @ (vectors.T @ dense.gradient)
    damped = dense.matrix + damping * torch.eye(len(vectors), dtype=step.dtype)
    exact = -torch.linalg.solve(damped, projected)
    assert_close(step, exact, dense.gradient.norm() / damping + 1e-300, 1e-6)


METHODS = [None, vivit.ConjugateGradients(tolerance=1e-12)]


@ON_EVERY_CASE
@CENTERED
@pytest.mark.parametrize("method", METHODS, ids=["matrix", "iteration"])
def test_solves(case, centered, method):
    dense = Dense(case, centered)
    damping, size = 0.1 * float(dense.scale) + 1e-6, len(dense.matrix)
    v = torch.linspace(-1, 1, 2 * size, dtype=dense.matrix.dtype).reshape(size, 2)
    damped = dense.matrix + damping * torch.eye(size, dtype=v.dtype)
    exact = torch.linalg.solve(damped, v)
    assert_close(dense.ours.solve(v, damping, method=method), exact, exact.norm(), 1e-9)
    if method is None:
        step = dense.ours.flatten(dense.ours.newton_step(damping, flat=True))
        exact = -torch.linalg.solve(damped, dense.gradient)
        assert_close(step, exact, dense.gradient.norm() / damping + 1e-300, 1e-9)
        assert_close(dense.ours.logdet(damping), torch.logdet(damped), size)
        assert_close(dense.ours.trace(), dense.matrix.trace(), dense.scale)


VARIANTS = {
    "several batches": {"batches": 2},
    "little memory": {"memory": 10**6, "workspace": 1000},
    "subset": {"chosen": [2, 0]},
    "subset in several batches": {"chosen": [2, 1], "batches": 2},
}

FEW_PARAMETERS = [
    Case("few parameters", lambda: nn.Linear(3, 2), (40, 3)),
    Case("few parameters, sum", lambda: nn.Linear(3, 2), (40, 3), MSE_SUM),
    Case(
        "few parameters, images",
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 1)),
        (50, 1, 4, 4),
        MSE,
    ),
]


@pytest.mark.parametrize(
    "case",
    [NAMED[x] for x in ("mlp", "mlp, sum", "conv2d", "tokens")] + FEW_PARAMETERS,
    ids=lambda case: case.name,
)
@pytest.mark.parametrize("variant", VARIANTS)
@CENTERED
def test_variants(case, variant, centered):
    dense = Dense(case, centered, **VARIANTS[variant])
    ours, matrix = dense.ours, dense.matrix
    size = min(ours.num_columns, len(matrix))
    assert_close(ours.eigvalsh(), torch.linalg.eigvalsh(matrix)[-size:], dense.scale)
    assert_close(ours.gram().trace(), matrix.trace(), dense.scale)
    v = torch.linspace(-1, 1, len(matrix), dtype=matrix.dtype)
    assert_close(ours @ v, matrix @ v, 10 * dense.scale)
    traces = torch.stack([*ours.traces().values()])
    assert_close(traces.sum(), matrix.trace(), dense.scale)
    derivatives, pairs = ours.directional_derivatives(), ours.eigh()
    e = columns_of(pairs.vectors)
    assert_close(matrix @ e, e * pairs.values, dense.scale, 1e-8)
    g = dense.gradients
    largest = g.square().sum().sqrt()
    assert_close(derivatives.gammas.abs(), (g @ e).abs(), largest, 1e-7)
    carrying = g if "chosen" not in VARIANTS[variant] else g[sorted(VARIANTS[variant]["chosen"])]
    images = carrying - carrying.mean(dim=0) if centered else carrying
    assert_close(derivatives.lambdas, (images @ e).square(), largest**2, 1e-7)


@CENTERED
@pytest.mark.parametrize("case", FEW_PARAMETERS, ids=lambda case: case.name)
def test_matrices_by_products(case, centered, monkeypatch):
    monkeypatch.setattr("vivit.gram.forms.CLEARLY", 0.0)
    dense = Dense(case, centered)
    assert "D products" in dense.ours.plan().matrices[0].why
    assert_close(dense.ours.eigvalsh(), torch.linalg.eigvalsh(dense.matrix), dense.scale)
    lambdas, g = dense.ours.directional_derivatives().lambdas, dense.gradients
    e = columns_of(dense.ours.eigh().vectors)
    images = g - g.mean(dim=0) if centered else g
    assert_close(lambdas, (images @ e).square(), g.square().sum(), 1e-7)


@CENTERED
@pytest.mark.parametrize("k", [1, 2])
def test_lanczos_iteration(centered, k):
    for batches in (None, 7):
        dense = Dense(NAMED["forty samples"], centered, batches=batches)
        pairs = dense.ours.eigh(k=k, method=vivit.Lanczos(tolerance=1e-9))
        e = columns_of(pairs.vectors)
        assert_close(pairs.values, torch.linalg.eigvalsh(dense.matrix)[-k:], dense.scale)
        assert_close(dense.matrix @ e, e * pairs.values, dense.scale, 1e-7)


@pytest.mark.parametrize("matrix", ["empirical_fisher", "gradient_covariance"])
@pytest.mark.parametrize("name", ["conv2d", "attention", "few parameters"])
def test_blocks(matrix, name):
    case = {**NAMED, **{case.name: case for case in FEW_PARAMETERS}}[name]
    model, loss_func, x, y = case.make()
    blocks = vivit.block_diagonal(model, loss_func, (x, y), "parameter", matrix=matrix)
    assert [*blocks] == names_of(model)
    for group, block in blocks.items():
        dense = Dense(case, matrix == "gradient_covariance", names=[group])
        assert isinstance(block, vivit.EmpiricalFisher)
        size = min(block.num_columns, len(dense.matrix))
        exact = torch.linalg.eigvalsh(dense.matrix)[-size:]
        assert_close(block.eigvalsh(), exact, dense.scale)


def cubic(output, target):
    """Neither convex nor bounded."""
    return ((output - target) ** 3).sum(dim=1).mean()


def cubic_sum(output, target):
    """The same, added up."""
    return ((output - target) ** 3).sum()


cubic_sum.reduction = "sum"

LOSSES = {
    "L1": nn.L1Loss(),
    "L1, sum": nn.L1Loss(reduction="sum"),
    "smooth L1": nn.SmoothL1Loss(),
    "cubic": cubic,
    "cubic, sum": cubic_sum,
    "function": F.l1_loss,
    "hinge": lambda f, y: (1 - f * y).clamp(min=0).mean(),
}


@pytest.mark.parametrize("name", LOSSES)
@CENTERED
def test_any_loss(name, centered):
    loss_func = LOSSES[name]
    model, _, x, y = NAMED["mlp"].make()
    y = torch.randn(len(x), 3, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    rows = [
        oracle.gradient(model, loss_func, x[i : i + 1], y[i : i + 1], names_of(model))
        for i in range(len(x))
    ]
    g = torch.stack(rows)
    is_sum = getattr(loss_func, "reduction", "mean") == "sum"
    matrix = oracle.outer_products(g, 1 if is_sum else 1 / len(g), centered)
    for data in ((x, y), [(x[:4], y[:4]), (x[4:], y[4:])]):
        ours = vivit.EmpiricalFisher(model, loss_func, data, centered=centered)
        exact = torch.linalg.eigvalsh(matrix)[-len(g) :]
        assert_close(ours.eigvalsh(), exact, matrix.trace())


IGNORING = nn.CrossEntropyLoss(weight=torch.tensor([0.5, 1.0, 2.0]).double(), ignore_index=1)


@CENTERED
def test_weights_and_ignored_targets(centered):
    """Batches whose targets are all ignored add nothing to the gradient, but count as samples."""
    model, _, x, _ = NAMED["mlp"].make()
    y = torch.tensor([1, 1, 0, 2, 1, 0])
    f = model(x)
    parts = torch.autograd.grad(IGNORING(f, y), f)[0]
    g = len(x) * torch.einsum("ncd,nc->nd", oracle.jacobian(model, x, names_of(model)), parts)
    matrix = oracle.outer_products(g, 1 / len(x), centered)
    for data in ((x, y), [(x[:2], y[:2]), (x[2:], y[2:])]):
        ours = vivit.EmpiricalFisher(model, IGNORING, data, centered=centered)
        assert_close(ours.eigvalsh(), torch.linalg.eigvalsh(matrix)[-6:], matrix.trace())
        assert_close(
            ours.directional_derivatives().gammas.sum(0) / 6,
            columns_of(ours.eigh().vectors).T @ (g.mean(dim=0)),
            g.norm(),
            1e-8,
        )


@CENTERED
def test_single_precision(centered):
    """Rounding errors are those of columns in single precision."""
    model, loss_func, x, y = NAMED["forty samples"].make()
    dense = Dense(NAMED["forty samples"], centered)
    single = vivit.EmpiricalFisher(model.float(), loss_func, (x.float(), y), centered=centered)
    assert_close(
        single.eigvalsh().double(), torch.linalg.eigvalsh(dense.matrix)[-40:], dense.scale, 1e-6
    )


def test_sums_that_do_not_say_so_are_refused():
    model, _, x, _y = NAMED["mlp"].make()
    f = model(x).detach()
    with pytest.raises(UnsupportedError, match="It is a sum: give it an attribute reduction"):
        vivit.EmpiricalFisher(model, lambda f, y: (f - y).abs().sum(), (x, f + 1))


def test_losses_that_are_not_made_of_those_of_samples_are_refused():
    model, _, x, _y = NAMED["mlp"].make()
    f = model(x).detach()

    def coupled(output, target):
        return (output - target).square().mean().sqrt()

    with pytest.raises(UnsupportedError, match="Use one that is, or say what each sample adds"):
        vivit.EmpiricalFisher(model, coupled, (x, f + torch.randn_like(f)))


def test_bad_arguments():
    model, loss_func, x, y = NAMED["mlp"].make()
    with pytest.raises(InputError, match="loss_func must map output and target to a scalar"):
        vivit.EmpiricalFisher(model, "loss", (x, y))
    with pytest.raises(InputError, match="'ggn', 'empirical_fisher', 'gradient_covariance'"):
        vivit.block_diagonal(model, loss_func, (x, y), matrix="hessian")
    with pytest.raises(InputError, match="one column per sample already"):
        vivit.block_diagonal(
            model,
            loss_func,
            (x, y),
            approximation=vivit.MonteCarlo(1),
            matrix="empirical_fisher",
        )


def test_advice_without_memory_fits_the_matrix():
    model, loss_func, x, y = NAMED["forty samples"].make()
    fisher = vivit.EmpiricalFisher(model, loss_func, (x, y), memory=1000)
    with pytest.raises(InsufficientMemoryError) as error:
        fisher.eigvalsh()
    assert "MonteCarlo" not in str(error.value)
    with pytest.raises(InsufficientMemoryError, match=r"Use fewer samples, products with it"):
        fisher.gram()


@CENTERED
def test_log_likelihood_of_any_outputs(centered):
    """It is a linear loss like any other, whose weights and ignored targets count."""
    loss_func = nn.NLLLoss(weight=torch.tensor([0.5, 1.0, 2.0]).double(), ignore_index=1)
    model, _, x, _ = NAMED["mlp"].make()
    y = torch.tensor([0, 1, 2, 2, 0, 1])
    g = oracle.sample_gradients(model, loss_func, x, y, names_of(model))
    matrix = oracle.outer_products(g, 1 / len(x), centered)
    for data in ((x, y), [(x[:2], y[:2]), (x[2:], y[2:])]):
        ours = vivit.EmpiricalFisher(model, loss_func, data, centered=centered)
        assert_close(ours.eigvalsh(), torch.linalg.eigvalsh(matrix)[-6:], matrix.trace())
