"""Variants of the curvature, and what follows from its eigenpairs, against dense formulas."""

from itertools import pairwise

import numpy
import oracle
import pytest
import torch
from cases import CASES, conv2d, mlp
from scipy.sparse.linalg import aslinearoperator, cg, eigsh
from torch import nn

import vivit
from vivit import BootstrapDamping, InputError, MonteCarlo, batches, diagnostics

# their outputs are others, or none, for some of the samples
NOT_BY_THEMSELVES = {"output is a parameter", "permuted", "lookup", "broadcasts"}
NAMED = {case.name: case for case in CASES}
CE, CE_SUM, MSE = nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="sum"), nn.MSELoss()
WEIGHTED = nn.CrossEntropyLoss(torch.tensor([0.5, 2.0, 1.0]).double(), ignore_index=1)
PROBLEMS = {
    "mlp": (mlp, (7, 5), CE),
    "mlp, sum": (mlp, (7, 5), CE_SUM),
    "mlp, weighted": (mlp, (7, 5), WEIGHTED),
    "mlp, mse": (mlp, (7, 5), MSE),
    "mlp, more columns than parameters": (lambda: nn.Linear(2, 3), (9, 2), CE),
    "conv": (conv2d, (5, 2, 6, 7), CE),
    "rules and generic": (NAMED["outside layers"].network, (5, 5), CE),
    "unlikely targets": (lambda: nn.Sequential(mlp(), Scale(60.0)), (7, 5), CE),
}
SUBSETS = {"all": None, "some": [3, 0, 4], "one": range(2, 3)}
APPROXIMATIONS = {"exact": vivit.Exact(), "mc": MonteCarlo(samples=3, seed=5)}


class Scale(nn.Module):
    """Makes predictions certain."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


class Dense:
    """Everything about a problem, from dense Jacobians."""

    def __init__(self, name):
        network, shape, self.loss_func = PROBLEMS[name]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = network().double()
            self.x = torch.randn(shape, dtype=torch.float64)
            f = self.model(self.x).detach()
            classes = torch.randint(f.shape[1], f.shape[:1])
            self.y = torch.randn_like(f) if self.loss_func is MSE else classes
        self.names = [n for n, p in self.model.named_parameters() if p.requires_grad]
        self.jacobian = oracle.jacobian(self.model, self.x, self.names)
        n, c, _ = self.jacobian.shape
        hessian = oracle.loss_hessian(self.loss_func, f, self.y).reshape(n, c, n, c)
        self.hessians = torch.stack([hessian[i, :, i] for i in range(n)])
        g = f.clone().requires_grad_()
        slopes = torch.autograd.grad(self.loss_func(g, self.y), g)[0].reshape(n, c)
        self.scale = 1 if self.loss_func.reduction == "sum" else n
        self.gradients = self.scale * torch.einsum("nc,ncp->np", slopes, self.jacobian)

    def ggn(self, subset=None):
        index = torch.tensor(sorted(range(len(self.x)) if subset is None else subset))
        j, h = self.jacobian[index], self.hessians[index]
        return torch.einsum("ncp,ncd,ndq->pq", j, h, j) * len(self.x) / len(index)

    def curvatures(self, vectors, subset):
        index = torch.tensor(sorted(range(len(self.x)) if subset is None else subset))
        pushed = torch.einsum("ncp,kp->nkc", self.jacobian[index], vectors)
        return self.scale * torch.einsum("nkc,ncd,nkd->nk", pushed, self.hessians[index], pushed)


@pytest.fixture(params=PROBLEMS)
def dense(request):
    return Dense(request.param)


@pytest.fixture(params=SUBSETS.values(), ids=SUBSETS.keys())
def subset(request, monkeypatch):
    monkeypatch.setattr(batches, "WORTH_A_PASS", 0.0)
    return request.param


@pytest.fixture(params=APPROXIMATIONS.values(), ids=APPROXIMATIONS.keys())
def approximation(request):
    return request.param


def make(dense, **options):
    return vivit.GGN(dense.model, dense.loss_func, (dense.x, dense.y), **options)


def assert_close(actual, expected, tolerance=1e-9):
    assert actual.shape == expected.shape
    if expected.numel():
        assert (actual - expected).abs().max() <= tolerance * max(expected.abs().max(), 1e-300)


def flat(vectors):
    return torch.cat([v[:, None].flatten(1) for v in vectors.values()], dim=1)


def leading(ggn, share=1e-4):
    """Eigenpairs that are far from the rounding errors."""
    return {"criterion": lambda values: values > share * values[-1]}


def test_subset(dense, subset):
    ggn, exact = make(dense, subset=subset), dense.ggn(subset)
    size = min(ggn.num_columns, len(exact))
    assert_close(ggn.eigvalsh(), torch.linalg.eigvalsh(exact)[-size:])
    v = torch.randn(len(exact), generator=torch.Generator().manual_seed(0)).double()
    assert_close(ggn @ v, exact @ v)
    gradient = torch.cat([g.flatten() for g in ggn.gradient().values()])
    assert_close(gradient, dense.gradients.sum(0) / dense.scale)


@pytest.mark.parametrize(
    "form", [[1, 4], (4, 1), range(1, 5, 3), torch.tensor([4, 1]), [-3, -6], [0, 1, 0, 0, 1, 0, 0]]
)
def test_forms_of_a_subset(form):
    dense = Dense("mlp")
    if len(form) == 7:
        form = torch.tensor(form, dtype=torch.bool)
    assert_close(make(dense, subset=form).eigvalsh(), make(dense, subset=[1, 4]).eigvalsh())


class Centred(nn.Linear):
    """Needs the whole batch for its output, but not for its derivative."""

    def forward(self, x):
        return super().forward(x - x.mean(0))


class Fixed(nn.Linear):
    """Works on one batch size only."""

    def forward(self, x):
        return super().forward(x.view(7, 5))


@pytest.mark.parametrize(
    "network",
    [lambda: nn.Sequential(mlp(), nn.Dropout(0.4)), lambda: Centred(5, 3), lambda: Fixed(5, 3)],
    ids=["random", "other outputs", "fixed size"],
)
def test_subset_of_models_that_need_all_samples(network, monkeypatch):
    """The samples of a subset are run alone only where that is the same."""
    monkeypatch.setattr(batches, "WORTH_A_PASS", 0.0)
    torch.manual_seed(1)
    data = torch.randn(7, 5).double(), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    ggn = vivit.GGN(network().double(), CE, data, subset=[1, 4])
    v = ggn.factor_operator() @ torch.eye(ggn.num_columns).double()
    assert v.abs().max() > 0
    assert_close(ggn.gram(), v.T @ v)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_subset_by_itself_or_among_the_others(case, monkeypatch):
    """It is run by itself where that is worth a forward pass, without another result."""
    model, loss_func, x, y = case.make()
    if len(x) < 3:
        pytest.skip("needs three samples")
    found = {}
    for worth in (0.0, torch.inf):
        monkeypatch.setattr(batches, "WORTH_A_PASS", worth)
        ggn = vivit.GGN(model, loss_func, (x, y), subset=[0, 2])
        (linearization, _, samples), *_ = ggn._curvature.carrying()
        assert len(linearization.output) == (2 if samples is None else len(x))
        is_worth = not worth or bool(ggn._curvature.sizes[0].dense)  # whose flops are not known
        assert (samples is None) == (is_worth and case.name not in NOT_BY_THEMSELVES)
        found[worth] = ggn.gram()
        v = torch.arange(ggn.shape[0]).double().sin()
        assert_close(ggn @ v, ggn.factor_operator() @ (ggn.factor_operator().T @ v))
    assert_close(found[0.0], found[torch.inf])


def test_batches_are_one_batch(dense, approximation):
    """Any split gives the GGN of all samples; with MonteCarlo, that of the drawn columns."""
    n = len(dense.x)
    for sizes in ([n - 3, 3], [1, 1, n - 2], [n]):
        batches = list(zip(dense.x.split(sizes), dense.y.split(sizes), strict=True))
        ggn = vivit.GGN(dense.model, dense.loss_func, batches, approximation=approximation)
        exact = dense.ggn()
        if approximation is not APPROXIMATIONS["exact"]:
            v = ggn.factor_operator() @ torch.eye(ggn.num_columns).double()
            exact = v @ v.T
        size = min(ggn.num_columns, len(exact))
        assert_close(ggn.eigvalsh(), torch.linalg.eigvalsh(exact)[-size:])
        vector = torch.arange(len(exact)).double().sin()
        for _ in range(2):  # the first product tests what the second relies on
            assert_close(ggn @ vector, exact @ vector)
        gradient = torch.cat([g.flatten() for g in ggn.gradient().values()])
        assert_close(gradient, dense.gradients.sum(0) / dense.scale)


@pytest.mark.parametrize("approximated", [False, True])
def test_batches_with_subset(approximated):
    """Columns, eigenvectors and derivatives across batches, one without samples of the subset."""
    dense, subset = Dense("conv"), [4, 0]
    batches = list(zip(dense.x.split([1, 2, 2]), dense.y.split([1, 2, 2]), strict=True))
    approximation = MonteCarlo(2) if approximated else vivit.Exact()
    options = {"subset": subset, "approximation": approximation}
    ggn = vivit.GGN(dense.model, dense.loss_func, batches, **options)
    v = ggn.factor_operator() @ torch.eye(ggn.num_columns).double()
    assert_close(ggn.gram(), v.T @ v)
    if not approximated:
        assert_close(v @ v.T, dense.ggn(subset))
    pairs = ggn.eigh(**leading(ggn))
    vectors = flat(pairs.vectors)
    assert_close(v @ (v.T @ vectors.T), vectors.T * pairs.values)
    assert_close(
        ggn.directional_derivatives(**leading(ggn)).gammas, dense.gradients @ vectors.T, 1e-8
    )


@pytest.mark.parametrize("loss_func", [CE, WEIGHTED], ids=["plain", "weighted"])
def test_batches_of_different_lengths(loss_func, approximation, subset):
    """Every variant at once, against dense matrices of each batch on its own."""
    network, torch_state = NAMED["attention"].network, torch.get_rng_state()
    torch.manual_seed(0)
    model, lengths = network().double(), [4, 1, 6]
    xs = [torch.randn(n, t, 4).double() for n, t in zip([2, 1, 3], lengths, strict=True)]
    ys = [torch.tensor([0, 2]), torch.tensor([1]), torch.tensor([2, 1, 0])]  # 1 may be ignored
    torch.set_rng_state(torch_state)
    names = list(dict(model.named_parameters()))
    outputs = torch.cat([model(x) for x in xs]).detach()
    jacobian = torch.cat([oracle.jacobian(model, x, names) for x in xs])
    hessian = oracle.loss_hessian(loss_func, outputs, torch.cat(ys)).reshape(6, 3, 6, 3)
    f = outputs.clone().requires_grad_()
    slopes = torch.autograd.grad(loss_func(f, torch.cat(ys)), f)[0]
    gradients = torch.einsum("nc,ncp->np", slopes, jacobian)
    index = sorted(range(6) if subset is None else subset)
    options = {"approximation": approximation, "subset": subset}
    ggn = vivit.GGN(model, loss_func, list(zip(xs, ys, strict=True)), **options)
    v = ggn.factor_operator() @ torch.eye(ggn.num_columns).double()
    if approximation is APPROXIMATIONS["exact"]:
        exact = sum(jacobian[n].T @ hessian[n, :, n] @ jacobian[n] for n in index) * 6 / len(index)
        assert_close(v @ v.T, exact)
    assert_close(ggn.gram(), v.T @ v)
    pairs, chosen = ggn.eigh(**leading(ggn)), leading(ggn)
    vectors = flat(pairs.vectors)
    assert_close(v @ (v.T @ vectors.T), vectors.T * pairs.values, 1e-8)
    derivatives = ggn.directional_derivatives(**chosen)
    assert_close(derivatives.gammas, 6 * gradients @ vectors.T, 1e-8)
    assert_close(derivatives.lambdas.mean(0), pairs.values)
    step = ggn.newton_step(damping=0.1, **chosen)
    expected = -(vectors @ gradients.sum(0)) / (pairs.values + 0.1) @ vectors
    assert_close(torch.cat([x.flatten() for x in step.values()]), expected, 1e-8)


def test_data_loader():
    """An iterable that shuffles is read once."""
    dense = Dense("mlp")
    data = torch.utils.data.TensorDataset(dense.x, dense.y)
    loader = torch.utils.data.DataLoader(data, batch_size=3, shuffle=True)
    ggn = vivit.GGN(dense.model, dense.loss_func, loader)
    for _ in range(2):
        assert_close(ggn.eigvalsh(), make(dense).eigvalsh())
        assert_close((ggn @ torch.ones(ggn.shape[0]).double()), dense.ggn().sum(1))


def test_batches_of_different_lengths_and_rules():
    """Sequences of any length; a layer that only some batches can use by its rule."""
    torch.manual_seed(0)
    model = NAMED["sequence"].network().double()
    batches = [
        (torch.randn(n, t, 4).double(), torch.randint(2, (n,))) for n, t in ((2, 3), (3, 5))
    ]
    both = vivit.GGN(model, CE_SUM, batches)
    exact = sum(oracle.ggn(model, CE_SUM, x, y, both.parameter_names) for x, y in batches)
    assert_close(both.eigvalsh(), torch.linalg.eigvalsh(exact)[-5:])
    model = NAMED["chunked"].network().double()
    batches = [(torch.randn(n, 3).double(), torch.randint(3, (n,))) for n in (2, 5)]
    mixed = vivit.GGN(model, CE_SUM, batches)
    exact = sum(oracle.ggn(model, CE_SUM, x, y, mixed.parameter_names) for x, y in batches)
    assert_close(mixed.eigvalsh(), torch.linalg.eigvalsh(exact)[-14:])


def test_dropout_masks_of_batches_are_kept():
    """Every pass over a batch draws the same mask, another one than for other batches."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3)).double()
    x, y = torch.randn(4, 6).double(), torch.randint(3, (4,))
    ggn = vivit.GGN(model, CE, [(x, y), (x, y)])
    pairs = ggn.eigh(k=3)
    vectors = flat(pairs.vectors)
    for value, vector in zip(pairs.values, vectors, strict=True):
        assert_close(ggn @ vector, value * vector)
    gram = ggn.gram()
    assert not torch.allclose(gram[:8, :8], gram[8:, 8:])


def test_monte_carlo_is_reproducible():
    dense = Dense("mlp")
    state = torch.get_rng_state()
    first = make(dense, approximation=MonteCarlo(2, seed=1)).gram()
    assert torch.equal(first, make(dense, approximation=MonteCarlo(2, seed=1)).gram())
    assert not torch.equal(first, make(dense, approximation=MonteCarlo(2, seed=2)).gram())
    assert torch.equal(torch.get_rng_state(), state)


def test_monte_carlo_converges_to_the_exact_ggn():
    """The error of the GGN falls as one over the square root of the samples."""
    dense = Dense("mlp")
    exact = dense.ggn()
    errors = []
    for samples in (4, 16, 64):
        squares = []
        for seed in range(30):
            factor = make(dense, approximation=MonteCarlo(samples, seed)).factor_operator()
            v = factor @ torch.eye(factor.shape[1]).double()
            squares.append((v @ v.T - exact).square().sum())
        errors.append(torch.stack(squares).mean().sqrt())
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(2, rel=0.15)


def test_directional_derivatives(dense, subset, approximation):
    ggn = make(dense, subset=subset, approximation=approximation)
    for options in ({"k": 1}, leading(ggn)):
        vectors = flat(ggn.eigh(**options).vectors)
        derivatives = ggn.directional_derivatives(**options)
        assert_close(derivatives.gammas, dense.gradients @ vectors.T, 1e-8)
        values = ggn.eigh(**options).values
        factor = 1 if dense.scale > 1 else len(dense.x)
        assert_close(factor * derivatives.lambdas.mean(0), values)
        if approximation is APPROXIMATIONS["exact"]:
            assert_close(derivatives.lambdas, dense.curvatures(vectors, subset), 1e-8)


def test_exact_derivatives_need_no_backward_pass(monkeypatch):
    """First derivatives are coordinates of the gradients, unless a target is unlikely."""
    ggn = make(Dense("conv"))
    ggn.eigvalsh()
    ggn.gradient()  # that of the loss by the output
    calls = []
    pull = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: calls.append(1) or pull(*a, **k))
    ggn.directional_derivatives()
    assert not calls


def test_newton_step(dense, subset):
    ggn = make(dense, subset=subset)
    for damping in (0.5, lambda values, derivatives: values + 0.1, BootstrapDamping()):
        options = leading(ggn)
        pairs, derivatives = ggn.eigh(**options), ggn.directional_derivatives(**options)
        vectors, gradient = flat(pairs.vectors), dense.gradients.sum(0) / dense.scale
        delta = damping(pairs.values, derivatives) if callable(damping) else damping
        expected = -(vectors @ gradient) / (pairs.values + delta) @ vectors
        step = ggn.newton_step(damping, **options)
        shapes = {name: p.shape for name, p in dense.model.named_parameters()}
        assert {name: x.shape for name, x in step.items()} == shapes
        assert_close(torch.cat([s.flatten() for s in step.values()]), expected, 1e-8)


def test_bootstrap_damping_of_a_sum_is_that_of_the_mean():
    """The same step, for the rule sees the same samples."""
    steps = []
    for loss_func in (CE, CE_SUM):
        dense = Dense("mlp")
        ggn = vivit.GGN(dense.model, loss_func, (dense.x, dense.y), subset=[0, 2, 3])
        steps.append(ggn.newton_step(BootstrapDamping(), k=3))
    for name, step in steps[0].items():
        assert_close(steps[1][name], step)


def test_loss_of_several_batches_must_be_a_mean():
    dense = Dense("mlp")
    batches = [(dense.x[:4], dense.y[:4]), (dense.x[4:], dense.y[4:])]

    def summed(f, y):
        return nn.functional.cross_entropy(f, y, reduction="sum")

    def mean(f, y):
        return nn.functional.cross_entropy(f, y)

    with pytest.raises(vivit.UnsupportedError, match="'summed' of a batch is not the mean"):
        vivit.GGN(dense.model, summed, batches)
    assert_close(vivit.GGN(dense.model, mean, batches).eigvalsh()[-14:], make(dense).eigvalsh())


def test_bootstrap_damping_against_a_loop():
    """The best damping of the grid, by its 20% percentile, direction by direction."""
    generator = torch.Generator().manual_seed(1)
    gammas = torch.randn(8, 3, generator=generator).double()
    lambdas = torch.rand(8, 3, generator=generator).double()
    grid = torch.tensor([0.01, 0.1, 1.0, 10.0])
    rule = BootstrapDamping(grid, resamples=50, percentile=20, seed=3)
    derivatives = vivit.DirectionalDerivatives(gammas, lambdas)
    chosen = rule(lambdas.mean(0), derivatives)
    draw = torch.Generator().manual_seed(3)
    picks = [torch.randint(8, (50, 8), generator=draw) for _ in range(2)]
    for k in range(3):
        scores = []
        for delta in grid.double():
            tau = -gammas[:, k].mean() / (lambdas[:, k].mean() + delta)
            gains = [
                -(gammas[i, k].mean() * tau + 0.5 * lambdas[j, k].mean() * tau**2)
                for i, j in zip(*picks, strict=True)
            ]
            scores.append(torch.stack(gains).quantile(0.2))
        assert chosen[k] == grid[torch.stack(scores).argmax()]


def test_factor_operator(dense, subset, approximation):
    ggn = make(dense, subset=subset, approximation=approximation)
    v = ggn.factor_operator()
    assert v.shape == v.T.shape[::-1] == (ggn.shape[0], ggn.num_columns)
    columns = v @ torch.eye(ggn.num_columns).double()
    assert_close(v.T @ torch.eye(ggn.shape[0]).double(), columns.T)
    assert_close(columns.T @ columns, ggn.gram())
    u = torch.randn(ggn.num_columns, generator=torch.Generator().manual_seed(0)).double()
    gram = ggn.gram_operator()
    assert gram.shape == (ggn.num_columns,) * 2
    assert_close(gram @ u, ggn.gram() @ u)
    assert_close(torch.from_numpy(gram.to_scipy() @ u.numpy()), ggn.gram() @ u)
    assert_close(torch.from_numpy(v.to_scipy() @ u.numpy()), columns @ u)
    assert_close(
        torch.from_numpy(v.T.to_scipy() @ columns[:, 0].numpy()), columns.T @ columns[:, 0]
    )
    assert_close(ggn @ columns[:, :2], columns @ columns.T @ columns[:, :2])


def test_blocks_of_variants(subset, approximation):
    dense = Dense("conv")
    options = {"subset": subset, "approximation": approximation}
    whole = make(dense, **options).factor_operator()
    v = whole @ torch.eye(whole.shape[1]).double()
    data, start = (dense.x, dense.y), 0
    blocks = vivit.block_diagonal(dense.model, dense.loss_func, data, "layer", **options)
    for block in blocks.values():
        rows = v[start : start + block.shape[0]]
        start += block.shape[0]
        assert_close(block.gram(), rows.T @ rows)


def test_scipy_solvers():
    """Eigenvalues of the Gram operator, and a damped system with G."""
    ggn, exact = make(Dense("conv")), Dense("conv").ggn()
    values = eigsh(ggn.gram_operator().to_scipy(), k=3, which="LM")[0]
    assert_close(torch.from_numpy(values), torch.linalg.eigvalsh(exact)[-3:])
    size = len(exact)
    damped = aslinearoperator(numpy.eye(size)) + ggn.to_scipy()
    right = numpy.sin(numpy.arange(size))
    solution, failed = cg(damped, right, rtol=1e-12)
    assert not failed
    expected = torch.linalg.solve(exact + torch.eye(size).double(), torch.from_numpy(right))
    assert_close(torch.from_numpy(solution), expected)


def test_flat_and_named_vectors():
    ggn = make(Dense("mlp"))
    v = torch.arange(ggn.shape[0]).double()
    named = ggn.unflatten(v)
    assert [x.shape for x in named.values()] == [p.shape for p in mlp().parameters()]
    assert torch.equal(ggn.flatten(named), v)


def test_diagnostics():
    dense = Dense("mlp")
    ggn = make(dense)
    pairs, derivatives = ggn.eigh(k=4), ggn.directional_derivatives(k=4)
    for x in (derivatives.gammas, derivatives.lambdas):
        mean = x.sum(0) / len(x)
        variance = ((x - mean) ** 2).sum(0) / (len(x) - 1)
        assert_close(diagnostics.signal_to_noise(x), mean**2 / variance)
    vectors, g = flat(pairs.vectors), dense.gradients.mean(0)
    overlap = diagnostics.gradient_overlap(ggn.gradient(), pairs.vectors)
    assert_close(overlap, (vectors @ g) ** 2 / (g @ g))
    half = {name: torch.cat([x[:2], x[2:].flip(0)]) for name, x in pairs.vectors.items()}
    assert diagnostics.eigenspace_overlap(pairs.vectors, half) == pytest.approx(1)
    other = ggn.eigh(criterion=lambda values: [-1, -2, 0, 1]).vectors
    assert diagnostics.eigenspace_overlap(pairs.vectors, other) == pytest.approx(0.5)


def test_no_curvature_at_all():
    """Only ignored samples carry the curvature: nothing to choose from, no step."""
    dense = Dense("mlp, weighted")
    dense.y[:2] = WEIGHTED.ignore_index
    ggn = make(dense, subset=range(2))
    pairs = ggn.eigh(criterion=lambda values: values > values[-1] / 2)
    assert len(pairs.values) == 0
    for damping in (1.0, BootstrapDamping()):
        step = ggn.newton_step(damping, criterion=lambda values: values > values[-1] / 2)
        assert all((x == 0).all() for x in step.values())


def test_rank_tolerance():
    ggn = make(Dense("mlp"))
    values = ggn.eigh().values
    half = ggn.eigh(rank_tolerance=float(values[5] / values[-1]) * 1.01).values
    assert torch.equal(half, values[6:])


def ggn(**options):
    return make(Dense("mlp"), **options)


REFUSED = {
    "no samples": (lambda: MonteCarlo(samples=0), "at least one sample, got 0"),
    "fraction": (lambda: MonteCarlo(samples=1.5), "at least one sample, got 1.5"),
    "seed": (lambda: MonteCarlo(seed=-1), "whole number >= 0, got -1"),
    "empty subset": (lambda: ggn(subset=[]), "subset of samples is empty"),
    "index": (lambda: ggn(subset=[7]), "index 7, but there are 7 samples"),
    "duplicate": (lambda: ggn(subset=[1, 1]), "sample 1 more than once"),
    "mask": (lambda: ggn(subset=torch.ones(3, dtype=torch.bool)), r"shape \[7\], got \[3\]"),
    "floats": (lambda: ggn(subset=[0.5]), "sequence of sample indices or a boolean mask"),
    "damping": (lambda: ggn().newton_step(-1.0), "finite and not negative"),
    "damping kind": (lambda: ggn().newton_step(lambda *_: "a"), "number or a tensor, got str"),
    "rank tolerance": (lambda: ggn().eigh(rank_tolerance=-1.0), "at least 0 and below 1, got -1"),
    "criterion": (lambda: ggn().eigh(criterion=lambda v: [99]), "do not fit 14 eigenvalues"),
    "damping shape": (lambda: ggn().newton_step(lambda *_: torch.ones(2), k=3), r"shape \[3\]"),
    "grid": (lambda: BootstrapDamping(torch.tensor([0.0])), "vector of positive numbers"),
    "resamples": (lambda: BootstrapDamping(resamples=0), "at least one resample, got 0"),
    "percentile": (lambda: BootstrapDamping(percentile=101), r"in \[0, 100\], got 101"),
    "vectors": (lambda: ggn() @ torch.ones(2, 2, 2).double(), r"needs shape \[79\]"),
    "noise": (lambda: diagnostics.signal_to_noise(torch.ones(1, 3)), r"two samples.*\[1, 3\]"),
    "overlap": (
        lambda: diagnostics.gradient_overlap({"a": torch.ones(1)}, {"b": torch.ones(1, 1)}),
        "only one has a, b",
    ),
    "dimensions": (
        lambda: diagnostics.eigenspace_overlap({"a": torch.ones(1, 2)}, {"a": torch.ones(2, 2)}),
        "got 1 and 2 vectors",
    ),
    "no batches": (lambda: vivit.GGN(mlp(), CE, []), "data has no batches"),
    "number": (lambda: vivit.GGN(mlp(), CE, 3), "iterable of batches, got int"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_parameters_changed_between_batches():
    dense = Dense("mlp")
    ggn = vivit.GGN(dense.model, CE, [(dense.x, dense.y)] * 2)
    with torch.no_grad():
        dense.model[0].weight.mul_(2)
    with pytest.raises(vivit.StaleError, match=r"'0.weight' was changed"):
        ggn.eigvalsh()


def test_data_changed_between_batches():
    dense = Dense("mlp")
    ggn = vivit.GGN(dense.model, CE, [(dense.x, dense.y)] * 2)
    dense.y.zero_()
    with pytest.raises(vivit.StaleError, match="changed in place"):
        ggn.eigvalsh()


def test_eigensolver_that_does_not_converge_is_run_again(monkeypatch):
    """In double precision and then on the CPU, with a warning."""
    dense = Dense("mlp")
    expected = make(dense).eigvalsh()
    solver, calls = torch.linalg.eigvalsh, []

    def failing(matrix):
        calls.append(matrix.dtype)
        if len(calls) < 3:
            raise torch.linalg.LinAlgError("did not converge")
        return solver(matrix)

    monkeypatch.setattr(torch.linalg, "eigvalsh", failing)
    with pytest.warns(UserWarning, match="did not converge; trying") as caught:
        assert_close(make(dense).eigvalsh(), expected)
    assert len(caught) == 2
