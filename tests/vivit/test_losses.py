"""Loss Hessians against autograd, for every option of every loss."""

from functools import partial
from itertools import pairwise

import oracle
import pytest
import torch
from torch import nn

from vivit import InputError, InsufficientMemoryError, UnsupportedError
from vivit.errors import is_out_of_memory
from vivit.losses import all_columns, columns_in_turn, convex, loss_hessian
from vivit.losses.convex import ConvexHessian

N, K = 4, 3
WEIGHT = torch.tensor([0.5, 2.0, 0.0], dtype=torch.float64)


def normal(*shape, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def classes(*shape):
    return torch.randint(K, shape, generator=torch.Generator().manual_seed(2))


def probabilities(*shape):
    return normal(*shape, seed=3).softmax(1)


class LogCosh(nn.Module):
    """A convex loss that the library does not know, coupled between the outputs of a sample."""

    def forward(self, f, y):
        mixed = f.flatten(1) @ normal(f[0].numel(), f[0].numel())
        return (mixed - y.flatten(1)).cosh().log().sum(1).mean()


def summed_exponentials(f, y):
    return (f.exp() - y * f).sum() / len(f)


CE, MSE, BCE = nn.CrossEntropyLoss, nn.MSELoss, nn.BCEWithLogitsLoss
IGNORED = torch.tensor([0, -100, 2, 1])
LOSSES = {
    "ce": (CE(), normal(N, K), classes(N)),
    "ce, sum": (CE(reduction="sum"), normal(N, K), classes(N)),
    "ce, two classes": (CE(), normal(N, 2), classes(N) % 2),
    "ce, large logits": (CE(), normal(N, K, scale=20), classes(N)),
    "ce, weights": (CE(WEIGHT), normal(N, K), classes(N)),
    "ce, weights, sum": (CE(WEIGHT, reduction="sum"), normal(N, K), classes(N)),
    "ce, ignore": (CE(), normal(N, K), IGNORED),
    "ce, ignore a class": (CE(ignore_index=0), normal(N, K), torch.tensor([0, 1, 2, 0])),
    "ce, smoothing": (CE(label_smoothing=0.3), normal(N, K), classes(N)),
    "ce, all": (CE(WEIGHT, label_smoothing=0.3), normal(N, K), IGNORED),
    "ce, probabilities": (CE(), normal(N, K), probabilities(N, K)),
    "ce, probabilities, all": (CE(WEIGHT, label_smoothing=0.3), normal(N, K), probabilities(N, K)),
    "ce, positions": (CE(), normal(N, K, 2), classes(N, 2)),
    "ce, positions, weights": (CE(WEIGHT), normal(N, K, 2, 2), classes(N, 2, 2)),
    "ce, positions, probabilities": (CE(WEIGHT), normal(N, K, 2), probabilities(N, K, 2)),
    "ce, positions, sum": (CE(reduction="sum"), normal(N, K, 2), classes(N, 2)),
    "mse": (MSE(), normal(N, K), normal(N, K, seed=1)),
    "mse, sum": (MSE(reduction="sum"), normal(N, K), normal(N, K, seed=1)),
    "mse, image": (MSE(), normal(N, 2, 3, 2), normal(N, 2, 3, 2, seed=1)),
    "mse, scalar": (MSE(), normal(N), normal(N, seed=1)),
    "bce": (BCE(), normal(N), classes(N).clamp(max=1).double()),
    "bce, outputs": (BCE(), normal(N, 2, 2), normal(N, 2, 2, seed=1).sigmoid()),
    "bce, sum": (BCE(reduction="sum"), normal(N, 2), (classes(N, 2) % 2).double()),
    "bce, saturated": (BCE(), 2000 * (normal(N, 2).sign()), (classes(N, 2) % 2).double()),
    "bce, weights": (
        BCE(weight=WEIGHT, pos_weight=WEIGHT + 1),
        normal(N, K),
        (classes(N, K) % 2).double(),
    ),
    "huber": (nn.HuberLoss(delta=0.7), normal(N, K), normal(N, K, seed=1)),
    "poisson": (nn.PoissonNLLLoss(reduction="sum"), normal(N, K), normal(N, K, seed=1).abs()),
    "coupled outputs": (LogCosh(), normal(N, K), normal(N, K, seed=1)),
    "function": (summed_exponentials, normal(N, K), normal(N, K, seed=1)),
    "huber, saturated": (nn.HuberLoss(delta=1e-3), normal(N, K), normal(N, K, seed=1)),
    "constant": (lambda f, y: 0 * f.sum(), normal(N, K), normal(N, K, seed=1)),
    "functional": (nn.functional.cross_entropy, normal(N, K), classes(N)),
    "functional, options": (
        partial(nn.functional.cross_entropy, weight=WEIGHT, ignore_index=0, reduction="sum"),
        normal(N, K),
        classes(N),
    ),
}


@pytest.fixture(params=LOSSES.values(), ids=LOSSES.keys())
def case(request):
    """Hessian of the library, dense one, shape of the output, loss gradient."""
    loss_func, f, y = request.param
    dense = oracle.loss_hessian(loss_func, f, y).reshape(N, f[0].numel(), N, f[0].numel())
    blocks = torch.stack([dense[n, :, n] for n in range(N)])
    g = f.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_func(g, y), g)
    return loss_hessian(loss_func, f, y), blocks, gradient


def outer(factor):
    flat = factor.flatten(2) if factor.ndim > 2 else factor[..., None]
    return torch.einsum("nci,ncj->nij", flat, flat)


def assert_close(actual, expected, rtol=1e-11):
    scale = max(expected.abs().max().item(), 1e-300)
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= rtol * scale


def test_factor(case):
    hessian, blocks, gradient = case
    factor = all_columns(hessian.factor())
    assert factor.shape == (N, hessian.num_columns, *gradient.shape[1:])
    assert_close(outer(factor), blocks)


def test_columns_and_products_of_the_factor_agree(case):
    """Whichever columns are made at once, and whichever samples they are of."""
    hessian, _, gradient = case
    factor = hessian.factor()
    assert (factor.num_samples, factor.num_columns) == (N, hessian.num_columns)
    dense = all_columns(factor)
    for at_a_time in range(1, factor.num_columns):
        starts, pieces = zip(*columns_in_turn(factor, at_a_time), strict=True)
        assert list(starts) == list(range(0, factor.num_columns, at_a_time))
        assert torch.equal(torch.cat(pieces, dim=1), dense)
    x, u = normal(N, factor.num_columns, seed=3), normal(*gradient.shape, seed=4)
    assert_close(factor.spread(x), torch.einsum("nc...,nc->n...", dense, x))
    assert_close(factor.contract(u), torch.einsum("nc...,n...->nc", dense, u))
    some = torch.tensor([2, 0])
    assert torch.equal(all_columns(factor.of_samples(some)), dense[some])
    assert_close(all_columns(factor.scaled(0.3)), 0.3 * dense)


def test_product(case):
    hessian, blocks, gradient = case
    u = normal(*gradient.shape, seed=5)
    expected = torch.einsum("nij,nj->ni", blocks, u.reshape(N, -1)).reshape(u.shape)
    assert_close(hessian.product(u), expected)


def test_coordinates(case):
    """Where there are coordinates, they reproduce the gradient from the factor."""
    hessian, _, gradient = case
    coordinates = hessian.coordinates(gradient)
    if coordinates is None:
        return
    assert coordinates.shape == (N, hessian.num_columns)
    assert_close(
        torch.einsum("nc...,nc->n...", all_columns(hessian.factor()), coordinates), gradient, 1e-9
    )


@pytest.mark.parametrize(
    "name", ["ce", "ce, all", "ce, probabilities, all", "ce, positions", "mse, image", "bce, sum"]
)
def test_common_losses_have_coordinates(name):
    loss_func, f, y = LOSSES[name]
    g = f.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_func(g, y), g)
    assert loss_hessian(loss_func, f, y).coordinates(gradient) is not None


def test_unlikely_targets_have_no_accurate_coordinates():
    f, y = torch.tensor([[0.0, 30.0]]), torch.tensor([0])
    gradient = torch.tensor([[-1.0, 1.0]])
    assert loss_hessian(CE(), f, y).coordinates(gradient) is None


def test_monte_carlo_is_unbiased(case, request):
    """The error falls as 1/sqrt(columns): an average of many columns is close."""
    hessian, blocks, _ = case
    if "large logits" in request.node.name:
        pytest.skip("classes of tiny probability need more samples than a test has")
    columns = 40_000
    factor = hessian.sample(columns, torch.Generator().manual_seed(0))
    assert factor.shape[:2] == (N, columns)
    scale = blocks.abs().amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    assert ((outer(factor) - blocks) / scale).abs().max() < 10 / columns**0.5


def test_monte_carlo_rate():
    """Four times the columns, half the error, averaged over repetitions."""
    loss_func, f, y = LOSSES["ce"]
    hessian, exact = loss_hessian(loss_func, f, y), None
    exact = outer(all_columns(hessian.factor()))
    errors = []
    for columns in (16, 64, 256):
        draws = [
            outer(hessian.sample(columns, torch.Generator().manual_seed(seed))) - exact
            for seed in range(200)
        ]
        errors.append(torch.stack(draws).square().mean().sqrt())
    for coarse, fine in pairwise(errors):
        assert coarse / fine == pytest.approx(2, rel=0.1)


def test_certain_predictions_stay_finite():
    """A probability that underflows gives zeros, not NaN."""
    f = torch.tensor([[1e4, 0.0, -1e4], [0.0, 0.0, 1e4]])
    factor = all_columns(loss_hessian(CE(), f, torch.tensor([0, 2])).factor())
    assert torch.equal(factor, torch.zeros_like(factor))


@pytest.mark.parametrize("margin", [0.0, 5.0, 20.0, 40.0])
@pytest.mark.parametrize("best", range(K))
def test_single_precision_of_certain_predictions(margin, best):
    """Curvature far below the rounding error of the probabilities is still accurate."""
    f = torch.zeros(1, K)
    f[0, best] = margin
    f[0, (best + 1) % K] = -0.5
    p = f.double().softmax(1)
    exact = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    others = sum(p[0, c] for c in range(K) if c != best)
    exact[0, best, best] = p[0, best] * others  # without cancellation
    hessian = loss_hessian(CE(), f, torch.tensor([0]))
    unit = torch.eye(K)[best][None]
    for result in (outer(all_columns(hessian.factor()))[0, best], hessian.product(unit)[0]):
        assert torch.allclose(result.double(), exact[0, best], rtol=1e-5, atol=0)


def test_single_precision_of_certain_binary_predictions():
    f = torch.tensor([-40.0, -17.0, 0.0, 17.0, 40.0])
    exact = f.double().sigmoid() * (-f.double()).sigmoid()
    diagonal = loss_hessian(BCE(reduction="sum"), f, torch.ones(5)).product(torch.ones(5))
    assert torch.allclose(diagonal.double(), exact, rtol=1e-5, atol=0)


def test_cross_entropy_has_one_column_less_than_classes():
    assert loss_hessian(*LOSSES["ce"]).num_columns == K - 1
    assert loss_hessian(*LOSSES["ce, positions"]).num_columns == 2 * (K - 1)


class Coupled(nn.Module):
    def forward(self, f, y):
        return (f - f.mean(0)).square().sum()


def coupled_pair(f, y):
    return (f - y).square().mean() + (f[0] - f[2]).square().sum()


def cancelling(f, y):
    return (f[:, 0] - f[:, 1]).sum() ** 2


def not_convex(f, y):
    return (f.square() - 1).square().sum()


def hinge(f, y):
    return (1 - f * y.sign()).clamp(min=0).sum()


def once_differentiable(f, y):
    return Once.apply(f)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, f):
        ctx.save_for_backward(f)
        return f.square().sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0]


class OutOfMemory(torch.autograd.Function):
    """Has no room for second derivatives."""

    @staticmethod
    def forward(ctx, f):
        ctx.save_for_backward(f)
        return f.square().sum()

    @staticmethod
    def backward(ctx, g):
        return OutOfMemoryTwice.apply(ctx.saved_tensors[0], g)


class OutOfMemoryTwice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, f, g):
        return 2 * f * g

    @staticmethod
    def backward(ctx, s):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")


def test_running_out_of_memory_is_told_as_that():
    """Not as a loss that cannot be differentiated."""
    with pytest.raises(RuntimeError, match=r"^DefaultCPUAllocator: can't allocate") as caught:
        loss_hessian(lambda f, y: OutOfMemory.apply(f), F, F)
    assert is_out_of_memory(caught.value)


OPTIONS = {
    "plain": {},
    "weights": {"weight": WEIGHT},
    "ignored": {"ignore_index": 0},
    "sum": {"reduction": "sum"},
    "all": {"weight": WEIGHT, "ignore_index": 2, "reduction": "sum"},
}
FUNCTIONAL = {
    "cross_entropy": (CE, OPTIONS | {"smoothing": {"label_smoothing": 0.1}}),
    "nll_loss": (nn.NLLLoss, OPTIONS),
    "mse_loss": (MSE, {"plain": {}, "sum": {"reduction": "sum"}}),
    "binary_cross_entropy_with_logits": (
        BCE,
        {"plain": {}, "weights": {"pos_weight": WEIGHT, "reduction": "sum"}},
    ),
}


@pytest.mark.parametrize(
    ("name", "options"), [(name, key) for name, (_, rows) in FUNCTIONAL.items() for key in rows]
)
@pytest.mark.parametrize("nested", [False, True])
def test_functional_names_are_known_losses(name, options, nested):
    """They have a closed form, in which the same options count."""
    kind, rows = FUNCTIONAL[name]
    module, loss_func = kind(**rows[options]), getattr(nn.functional, name)
    if rows[options] or nested:
        loss_func = partial(loss_func, **rows[options])
    if nested:
        loss_func = partial(partial(loss_func))
    y = classes(N) if kind in (CE, nn.NLLLoss) else normal(N, K).sigmoid()
    f = normal(N, K).log_softmax(1)
    expected, actual = loss_hessian(module, f, y), loss_hessian(loss_func, f, y)
    assert type(actual) is type(expected)
    assert not isinstance(actual, ConvexHessian)
    assert torch.equal(all_columns(actual.factor()), all_columns(expected.factor()))
    assert actual.normalizer == expected.normalizer


def test_hessians_that_do_not_fit(monkeypatch):
    """Refused before any of them is made."""
    monkeypatch.setattr(convex, "available_bytes", lambda _: 500)
    message = (
        r"Hessians of the loss 'HuberLoss' by 3 outputs of 4 samples need 1 KiB, but 500 B are "
        r"available. Use fewer samples at a time; or a loss whose Hessian is known"
    )
    with pytest.raises(InsufficientMemoryError, match=message):
        loss_hessian(nn.HuberLoss(), F, F)
    assert loss_hessian(MSE(), F, F).num_columns == K


def test_other_functions_and_options_stay_what_they_are():
    """A partial function tells its reduction; what a module cannot have is left to autograd."""
    summed = partial(nn.functional.huber_loss, reduction="sum")
    assert loss_hessian(summed, F, F + 0.1).normalizer is None
    weighted = partial(nn.functional.mse_loss, weight=torch.ones(N, K, dtype=torch.float64))
    assert_close(
        outer(all_columns(loss_hessian(weighted, F, F + 1).factor())),
        outer(all_columns(loss_hessian(MSE(), F, F + 1).factor())),
    )


@pytest.mark.parametrize("shape", [(N, K), (N, K, 2)])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
def test_log_likelihood_is_cross_entropy(options, shape):
    """On log-probabilities; by the logits, through the Jacobian of the log-softmax."""
    z, y = normal(*shape), classes(N, *shape[2:])
    dense = oracle.loss_hessian(CE(**options), z, y)
    jacobian = torch.autograd.functional.jacobian(
        lambda flat: flat.reshape(shape).log_softmax(1).flatten(), z.flatten()
    )
    hessian = loss_hessian(nn.NLLLoss(**options), z.log_softmax(1), y)
    columns = torch.block_diag(*all_columns(hessian.factor()).flatten(2).transpose(1, 2))
    assert_close(jacobian.T @ columns @ columns.T @ jacobian, dense)
    assert hessian.normalizer == loss_hessian(CE(**options), z, y).normalizer


F, Y = normal(N, K), classes(N)
REFUSED = {
    "absolute error": (nn.L1Loss(), F, F + 1, UnsupportedError, "'L1Loss' is linear.*MSELoss"),
    "hinge": (hinge, F, F, UnsupportedError, "'hinge' is linear.* or made of linear pieces"),
    "divergence": (
        nn.KLDivLoss(reduction="batchmean"),
        F.log_softmax(1),
        F.softmax(1),
        UnsupportedError,
        "'KLDivLoss' is linear in the model output.*part of the loss, not of the model",
    ),
    "linear": (lambda f, y: (f * y).mean(), F, F, UnsupportedError, "GGN would be zero"),
    "logits in place of log-probabilities": (
        nn.NLLLoss(),
        F,
        Y,
        InputError,
        r"sums of exp\(output\) over the classes differ from 1 by up to .*Let the model end",
    ),
    "probabilities in place of classes": (
        nn.NLLLoss(),
        F.log_softmax(1),
        F.softmax(1),
        InputError,
        "NLLLoss needs class indices as targets, got dtype torch.float64",
    ),
    "not convex": (not_convex, F, F, InputError, "not convex in the model output: for sample 0"),
    "coupled pair": (coupled_pair, F, F, UnsupportedError, "couples the samples"),
    "coupled, cancelling": (cancelling, F, F, UnsupportedError, "couples the samples"),
    "int32 classes": (CE(), F, Y.int(), InputError, r"dtype torch.int64, got torch.int32"),
    "coupled samples": (Coupled(), F, F, UnsupportedError, "'Coupled' couples the samples"),
    "once": (once_differentiable, F, F, UnsupportedError, "'once_differentiable' cannot be diff"),
    "not a scalar": (lambda f, y: f, F, F, InputError, r"must return a scalar, got \[4, 3\]"),
    "not a tensor": (lambda f, y: 1.0, F, F, InputError, "must return a scalar, got float"),
    "no graph": (
        lambda f, y: f.detach().sum(),
        F,
        F,
        UnsupportedError,
        "cannot be differentiated",
    ),
    "infinite": (lambda f, y: (f - f).pow(1.5).sum(), F, F, InputError, "is NaN or infinite"),
    "negative weights": (CE(-WEIGHT - 1), F, Y, InputError, "negative class weights"),
    "negative probabilities": (CE(), F, -F.abs(), InputError, "targets that are not negative"),
    "shape of probabilities": (CE(), F, F[:, :2], InputError, r"shape \[4, 3\], got \[4, 2\]"),
    "shape of classes": (CE(), F, Y[:, None], InputError, r"class indices of shape \[4\]"),
    "class out of range": (CE(), F, Y + 2, InputError, r"outside of the classes 0..2 \(and not"),
    "one class": (CE(), F[:, :1], 0 * Y, InputError, r"C >= 2 classes, got \[4, 1\]"),
    "mse shapes": (MSE(), F, F[:, :1], InputError, r"shape \[4, 3\], got \[4, 1\]"),
    "bce shapes": (BCE(), F, F[:, :1], InputError, r"shape \[4, 3\], got \[4, 1\]"),
    "bce range": (BCE(), F, F + 10, InputError, "targets between 0 and 1"),
    "bce classes": (BCE(), F, F.long(), InputError, "floating-point targets"),
    "bce weights": (BCE(weight=-WEIGHT), F, F.sigmoid(), InputError, "negative weights"),
}


@pytest.mark.parametrize(
    ("loss_func", "f", "y", "kind", "message"), REFUSED.values(), ids=REFUSED.keys()
)
def test_refused(loss_func, f, y, kind, message):
    with pytest.raises(kind, match=message):
        loss_hessian(loss_func, f, y)
