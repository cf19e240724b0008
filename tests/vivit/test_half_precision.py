"""Models that compute in half precision, against float64 at the same parameters."""

import copy
import warnings

import oracle
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vivit

CE = nn.CrossEntropyLoss()
OF_LARGEST = {torch.bfloat16: 3e-2, torch.float16: 4e-3}
"""How far results may be off, relative to the largest."""


class Attention(nn.Module):
    """One causal head between tied tables of tokens, with a normalization."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(9, 8)
        self.norm, self.query, self.key = nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 9, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x):
        h = self.norm(self.tokens(x))
        q, k = self.query(h)[:, None], self.key(h)[:, None]
        mixed = F.scaled_dot_product_attention(q, k, h[:, None], is_causal=True)[:, 0]
        return self.head(h + mixed).transpose(1, 2)


class Scaled(nn.Module):
    """A parameter that no rule knows, beside those of a layer."""

    def __init__(self):
        super().__init__()
        self.linear, self.power = nn.Linear(6, 4), nn.Parameter(torch.full((4,), 1.5))

    def forward(self, x):
        return torch.sigmoid(self.linear(x)) ** self.power


def mlp():
    return nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3))


def cnn():
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1),
        nn.GroupNorm(2, 8),
        nn.GELU(),
        nn.Conv2d(8, 4, 3),
        nn.BatchNorm2d(4),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(16, 3),
    ).eval()


def tokens(*shape):
    return torch.randint(9, shape, generator=torch.Generator().manual_seed(0))


def numbers(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


MODELS = {
    "mlp": (mlp, numbers(6, 6), torch.arange(6) % 3, CE),
    "regression": (mlp, numbers(6, 6), numbers(6, 3), nn.MSELoss()),
    "cnn": (cnn, numbers(5, 2, 4, 4), torch.arange(5) % 3, CE),
    "attention": (Attention, tokens(4, 5), tokens(4, 5), CE),
    "generic": (Scaled, numbers(6, 6), torch.arange(6) % 4, CE),
}


def cast(forward_dtype):
    def forward(model, x):
        with torch.autocast("cpu", forward_dtype):
            return model(x)

    return forward


def whole(dtype):
    """The model and its inputs are in half precision."""

    def build(model, x, make):
        return make(model.to(dtype), x.to(dtype) if x.is_floating_point() else x)

    return build


def under_autocast(dtype):
    def build(model, x, make):
        with torch.autocast("cpu", dtype):
            return make(model, x)

    return build


def in_forward(model, x, make):
    return make(model, x, forward=cast(torch.bfloat16))


WAYS = {
    "bfloat16": (whole(torch.bfloat16), torch.bfloat16),
    "float16": (whole(torch.float16), torch.float16),
    "autocast bfloat16": (under_autocast(torch.bfloat16), torch.bfloat16),
    "autocast float16": (under_autocast(torch.float16), torch.float16),
    "autocast in forward": (in_forward, torch.bfloat16),
}


class Case:
    """A model in half precision, and what is right."""

    def __init__(self, model, way):
        make, self.x, self.y, self.loss = MODELS[model]
        self.way, self.dtype = WAYS[way]
        torch.manual_seed(0)
        self.model = make()
        if way in ("bfloat16", "float16"):
            self.model.to(self.dtype)
        self.exact = copy.deepcopy(self.model).double()
        x = self.x.to(self.dtype) if self.is_whole and self.has_numbers else self.x
        self.exact_x = x.double() if self.has_numbers else x
        y = self.target = self.y.double() if self.y.is_floating_point() else self.y
        self.names = [name for name, _ in self.model.named_parameters()]
        self.counts = [p.numel() for p in self.model.parameters()]
        self.matrix = oracle.ggn(self.exact, self.loss, self.exact_x, y, self.names)
        self.gradient = oracle.gradient(self.exact, self.loss, self.exact_x, y, self.names)
        self.gradients = oracle.sample_gradients(
            self.exact, self.loss, self.exact_x, y, self.names
        )
        self.tolerance = OF_LARGEST[self.dtype]

    @property
    def is_whole(self):
        return next(self.model.parameters()).dtype == self.dtype

    @property
    def has_numbers(self):
        return self.x.is_floating_point()

    def built(self, kind=vivit.GGN, **options):
        def make(model, x, forward=None):
            return kind(model, self.loss, (x, self.y), forward=forward, **options)

        dtype = str(self.dtype).removeprefix("torch.")
        message = rf"computes in {dtype} between.*accurate to about 1e-0\d"
        with pytest.warns(UserWarning, match=message):
            return self.way(self.model, self.x, make)

    def close(self, actual, expected, condition=1.0):
        assert actual.dtype in (torch.float32, torch.float64)
        assert (actual - expected).norm() <= condition * self.tolerance * expected.norm()


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return request.param


@pytest.fixture(scope="module", params=WAYS)
def case(request, model):
    return Case(model, request.param)


def test_eigenvalues_and_gram(case):
    ggn = case.built()
    values = torch.linalg.eigvalsh(case.matrix)
    found = ggn.eigvalsh()
    case.close(found, values[-len(found) :])
    case.close(torch.linalg.eigvalsh(ggn.gram())[-len(found) :], values[-len(found) :])


def test_products(case):
    v = torch.randn(len(case.matrix), 2, generator=torch.Generator().manual_seed(2))
    case.close(case.built() @ v, case.matrix @ v.double())


def test_eigenvectors(case):
    pairs = case.built().eigh(k=2)
    vectors = torch.cat([x.flatten(1) for x in pairs.vectors.values()], dim=1).double()
    case.close(vectors @ case.matrix @ vectors.T, torch.diag(pairs.values.double()))
    assert (vectors @ vectors.T - torch.eye(2)).abs().max() <= 1e-5


def test_derivatives(case):
    """First and second ones, along the found eigenvectors."""
    ggn = case.built()
    pairs, found = ggn.eigh(k=2), ggn.directional_derivatives(k=2)
    vectors = torch.cat([x.flatten(1) for x in pairs.vectors.values()], dim=1).double()
    case.close(found.gammas, case.gradients @ vectors.T)
    case.close(found.lambdas.mean(0), (vectors @ case.matrix @ vectors.T).diagonal())


def test_steps_and_solves(case):
    ggn, damping = case.built(), 0.1
    expected = -torch.linalg.solve(
        case.matrix + damping * torch.eye(len(case.matrix)), case.gradient
    )
    condition = 1 + float(case.matrix.norm()) / damping
    step = ggn.newton_step(damping, flat=True)
    case.close(ggn.flatten(step), expected, condition)
    case.close(ggn.solve(-ggn.flatten(ggn.gradient()), damping), expected, condition)
    case.close(ggn.trace(), case.matrix.trace())


def test_empirical_fisher(case):
    expected = case.gradients.T @ case.gradients / len(case.gradients)
    found = case.built(vivit.EmpiricalFisher).eigvalsh()
    case.close(found, torch.linalg.eigvalsh(expected)[-len(found) :])


def test_rules_are_those_of_single_precision(case):
    """A cast does not hide a layer, nor do rounding errors the samples."""
    served = []
    for ggn in (case.built(), vivit.GGN(case.exact, case.loss, (case.exact_x, case.y))):
        ggn.gram()
        served.append(ggn.plan().done.served_by)
    for name, way in served[1].items():
        assert served[0][name] == way


def test_iterations(case):
    """Products of half precision are what they converge with."""
    ggn = case.built()
    values = torch.linalg.eigvalsh(case.matrix)
    case.close(ggn.eigh(k=1, method=vivit.Lanczos()).values, values[-1:])
    v = torch.randn(len(case.matrix), generator=torch.Generator().manual_seed(2))
    expected = torch.linalg.solve(case.matrix + values[-1] * torch.eye(len(v)), v.double())
    found = ggn.solve(v, float(values[-1]), vivit.ConjugateGradients())
    case.close(found, expected, condition=2)


def test_blocks(case):
    with pytest.warns(UserWarning, match="computes in"):
        blocks = case.way(
            case.model,
            case.x,
            lambda model, x, forward=None: vivit.block_diagonal(
                model, case.loss, (x, case.y), groups="parameter", forward=forward
            ),
        )
    parts = dict(zip(case.names, case.matrix.diagonal().split(case.counts), strict=True))
    for name, block in blocks.items():
        found, exact = block.trace().double(), parts[name].sum()
        assert (found - exact).abs() <= case.tolerance * case.matrix.trace()


def test_kernel(case):
    with pytest.warns(UserWarning, match="computes in"):
        found = case.way(
            case.model,
            case.x,
            lambda model, x, forward=None: vivit.ntk(model, x, forward=forward),
        )
    j = oracle.jacobian(case.exact, case.exact_x, case.names)
    expected = torch.einsum("ncd,mkd->nmck", j, j)
    case.close(found, expected)


def test_monte_carlo(case):
    """The same draws in single precision are what it is held against."""
    options = {"approximation": vivit.MonteCarlo(3, seed=0)}
    x = case.exact_x.float() if case.has_numbers else case.x
    exact = vivit.GGN(copy.deepcopy(case.exact).float(), case.loss, (x, case.y), **options)
    case.close(case.built(**options).eigvalsh(), exact.eigvalsh())


def test_posterior(case):
    inputs = case.x[:2].to(case.dtype) if case.is_whole and case.has_numbers else case.x[:2]
    posterior = case.built(vivit.LaplacePosterior, prior_precision=1.0)
    exact = vivit.LaplacePosterior(case.exact, case.loss, (case.exact_x, case.target))
    expected, found = exact.predictive(case.exact_x[:2]), posterior.predictive(inputs)
    case.close(found.mean, expected.mean)
    case.close(found.covariance, expected.covariance, condition=2)
    assert all(x.dtype == torch.float32 for x in posterior.sample().values())


def test_parameters_of_two_precisions_under_single():
    """Norms in single precision beside layers in half of it, as mixed models have them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 7).bfloat16(), Single(), nn.LayerNorm(7), nn.Linear(7, 3))
    x, y = numbers(6, 6).bfloat16(), torch.arange(6) % 3
    exact = copy.deepcopy(model).double()
    exact[1].dtype = torch.float64
    with pytest.warns(UserWarning, match="computes in bfloat16 between '0"):
        ggn = vivit.GGN(model, CE, (x, y))
    expected = oracle.ggn(exact, CE, x.double(), y, [n for n, _ in model.named_parameters()])
    v = torch.ones(len(expected), 1)
    assert (ggn @ v - expected @ v.double()).norm() <= 3e-2 * (expected @ v.double()).norm()
    values = ggn.eigvalsh()
    assert (values - torch.linalg.eigvalsh(expected)[-len(values) :]).norm() <= 3e-2 * values[-1]


class Single(nn.Module):
    """A cast."""

    dtype = torch.float32

    def forward(self, x):
        return x.to(self.dtype)


@pytest.mark.parametrize("size", [1e-10, 1.0, 1e4])
def test_cotangents_out_of_range(size):
    """The columns of a small loss are below the numbers of float16, those of a large one above."""
    torch.manual_seed(0)
    model, x, y = mlp().half(), numbers(6, 6).half(), numbers(6, 3)
    exact = oracle.ggn(
        copy.deepcopy(model).double(),
        lambda f, t: F.mse_loss(f, t),
        x.double(),
        y.double(),
        [name for name, _ in model.named_parameters()],
    )
    with pytest.warns(UserWarning, match="float16"):
        ggn = vivit.GGN(model, lambda f, t: size * F.mse_loss(f, t), (x, y))
    expected = size * torch.linalg.eigvalsh(exact)
    found = ggn.eigvalsh()
    assert (found - expected[-len(found) :]).norm() <= 4e-3 * expected[-1]
    v = 1e-7 * torch.ones(len(exact))
    assert (ggn @ v - size * exact @ v.double()).norm() <= 4e-3 * (
        size * exact @ v.double()
    ).norm()


def test_quantities_are_not_asked_for_under_autocast():
    """Forward passes keep to theirs; the rest would be in mixed precision, too."""
    model, data = mlp(), (numbers(6, 6), torch.arange(6) % 3)
    with torch.autocast("cpu", torch.bfloat16):
        with pytest.warns(UserWarning, match="bfloat16"):
            ggn = vivit.GGN(model, CE, data)
        for ask in (ggn.gram, ggn.eigh, ggn.gradient, lambda: ggn @ torch.ones(ggn.shape[0])):
            for _ in range(2):
                with pytest.raises(vivit.UnsupportedError, match=r"Leave the context before"):
                    ask()
    assert ggn.eigvalsh().isfinite().all()


def test_an_update_under_the_same_autocast():
    """Which keeps the weights that it cast before."""
    model, data = mlp(), (numbers(6, 6), torch.arange(6) % 3)
    with torch.autocast("cpu", torch.bfloat16), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model(data[0])
        with torch.no_grad():
            model[0].weight.mul_(3)
        within = vivit.GGN(model, CE, data)
    with torch.autocast("cpu", torch.bfloat16), pytest.warns(UserWarning, match="bfloat16"):
        anew = vivit.GGN(model, CE, data)
    assert torch.equal(within.eigvalsh(), anew.eigvalsh())


def test_check_tells_the_accuracy():
    data = numbers(6, 6), torch.arange(6) % 3
    with torch.autocast("cpu", torch.bfloat16):
        found = vivit.check(mlp(), CE, data)
    assert found
    assert "accurate to about 1e-02" in str(found)
    assert set(found.served_by.values()) == {"affine"}


def test_monitor(tmp_path):
    from vivit.monitor import Monitor

    data = numbers(6, 6), torch.arange(6) % 3
    values = []
    for dtype in (torch.bfloat16, None):
        monitor = Monitor(mlp_of(0), CE, data, path=tmp_path / f"{dtype}.jsonl")
        with torch.autocast("cpu", dtype, enabled=dtype is not None), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The model computes in bfloat16")
            seen = monitor(0)
        values.append(torch.tensor(seen.quantities["eigenvalues"]))
    assert 0 < (values[0] - values[1]).norm() <= 3e-2 * values[1].norm()


def mlp_of(seed):
    torch.manual_seed(seed)
    return mlp()


def test_sums_of_many_samples():
    """Which are beyond the largest number of float16 before they are scaled back."""
    torch.manual_seed(0)
    model = nn.Linear(8, 1).half()
    x, y = (1000 * torch.rand(4096, 8)).half(), torch.rand(4096, 1)
    exact = copy.deepcopy(model).double()
    names = [name for name, _ in model.named_parameters()]
    with pytest.warns(UserWarning, match="float16"):
        ggn = vivit.GGN(model, nn.MSELoss(), (x, y))
    j = torch.cat([x.double(), torch.ones(4096, 1).double()], dim=1)
    matrix, v = 2 * j.T @ j / 4096, torch.rand(9)
    assert names == ["weight", "bias"]
    assert (ggn @ v - matrix @ v.double()).norm() <= 4e-3 * (matrix @ v.double()).norm()
    gradient = torch.autograd.grad(F.mse_loss(exact(x.double()), y.double()), exact.parameters())
    flat = torch.cat([g.flatten() for g in gradient])
    assert (ggn.flatten(ggn.gradient()) - flat).norm() <= 4e-3 * flat.norm()
