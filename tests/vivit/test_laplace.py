"""The Laplace posterior against the dense float64 oracle, on every case."""

import itertools
import math
import re
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import oracle
import pytest
import torch
import torch.nn.functional as F
from cases import CASES, LanguageModel, Permuted, Scalar, mlp
from torch import nn

import vivit
from vivit.errors import InputError, InsufficientMemoryError, StaleError
from vivit.laplace import outputs
from vivit.laplace.predictive import Link, positive_semidefinite

TOLERANCE = 1e-10
P = 0.3
"""Prior precision of most tests."""


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request):
    return request.param


@cache
def dense_problem(case):
    """A case, other inputs, and the dense curvature of its summed loss, made once."""
    model, loss_func, x, y = case.make()
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    total = summed(loss_func)
    shift = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    return (model, loss_func, x, y, names), x + shift / 4, oracle.ggn(model, total, x, y, names)


def summed(loss_func):
    """The same loss with reduction="sum"."""
    return type(loss_func)(reduction="sum")


@pytest.fixture
def problem(case):
    """The posterior, other inputs, the dense curvature, and what they were made of."""
    parts, other, dense = dense_problem(case)
    model, loss_func, x, y, _ = parts
    posterior = vivit.LaplacePosterior(model, loss_func, (x, y), prior_precision=P)
    return posterior, other, dense, parts


def covariance_of(dense, p=P):
    return torch.linalg.inv(dense + p * torch.eye(len(dense), dtype=dense.dtype))


def assert_close(actual, expected, tolerance=TOLERANCE):
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


def flat(tensors, axes=0):
    """Tensors by name as flat vectors, behind so many axes."""
    return torch.cat([x.reshape(*x.shape[:axes], -1) for x in tensors.values()], dim=axes)


def evidence(parts, dense, p):
    """The log marginal likelihood, differentiable in ``p``."""
    model, loss_func, x, y, names = parts
    theta = torch.cat([dict(model.named_parameters())[name].flatten() for name in names]).detach()
    loss = summed(loss_func)(model(x), y).detach()
    precision = dense + p * torch.eye(len(dense), dtype=dense.dtype)
    prior = -p / 2 * theta @ theta + len(theta) / 2 * p.log()
    return -loss + prior - torch.logdet(precision) / 2


def test_predictive(problem):
    posterior, other, dense, (model, _, _, _, names) = problem
    predictive = posterior.predictive(other)
    j = oracle.jacobian(model, other, names)
    expected = j @ covariance_of(dense) @ j.mT
    with torch.no_grad():
        assert_close(predictive.mean, model(other))
    assert_close(predictive.covariance, expected)
    assert predictive.variance.shape == predictive.mean.shape
    assert_close(predictive.variance.reshape(len(j), -1), expected.diagonal(dim1=1, dim2=2))
    assert torch.equal(predictive.covariance, predictive.covariance.mT)


def test_predictive_at_training_inputs(problem):
    """Where much is subtracted."""
    posterior, _, dense, (model, _, x, _, names) = problem
    j = oracle.jacobian(model, x, names)
    assert_close(posterior.predictive(x).covariance, j @ covariance_of(dense) @ j.mT)


ALONE = """
    mlp; positions first, a view; samples in the middle; transformer; merged adapter; chunked;
    lstm; attention; class token; expanded; hypernetwork; indexed
"""
"""Networks whose parameters are served by other rules where there is one sample alone."""


@pytest.mark.parametrize("name", [name.strip() for name in ALONE.split(";")])
def test_a_single_input(name):
    (model, loss_func, x, y, names), other, dense = dense_problem(
        next(case for case in CASES if case.name == name)
    )
    posterior = vivit.LaplacePosterior(model, loss_func, (x, y), P)
    j = oracle.jacobian(model, other, names)[:1]
    expected = j @ covariance_of(dense) @ j.mT
    assert_close(posterior.predictive(other[:1]).covariance, expected)


def test_samples(problem):
    """The symmetric root of the covariance times noise that the seed gives."""
    posterior, _, dense, (model, _, _, _, names) = problem
    samples = posterior.sample(3, seed=7)
    parameters = dict(model.named_parameters())
    generator = torch.Generator().manual_seed(7)
    noise = {
        name: torch.randn(3, *parameters[name].shape, generator=generator, dtype=torch.float64)
        for name in names
    }
    values, vectors = torch.linalg.eigh(covariance_of(dense))
    root = vectors * values.sqrt() @ vectors.T
    theta = flat({name: parameters[name].detach() for name in names})
    assert {name: x.shape for name, x in samples.items()} == {n: x.shape for n, x in noise.items()}
    assert_close(flat(samples, 1), theta + flat(noise, 1) @ root)


def test_log_marginal_likelihood(problem):
    posterior, _, dense, parts = problem
    for p in (P, 3.0):
        at = torch.tensor(p, dtype=torch.float64, requires_grad=True)
        expected = evidence(parts, dense, at)
        (gradient,) = torch.autograd.grad(expected, at)
        own = None if p == P else p
        assert_close(posterior.log_marginal_likelihood(own), expected.detach())
        found = posterior.log_marginal_likelihood_gradient(own)
        assert abs(found - gradient) <= TOLERANCE * max(abs(gradient), len(dense))


def test_best_prior_precision(problem):
    posterior, *_ = problem
    best = posterior.best_prior_precision()
    at_best = posterior.log_marginal_likelihood(best)
    others = [posterior.log_marginal_likelihood(best * 2.0**i) for i in (-8, -1, 1, 8)]
    assert all(other < at_best for other in others)
    scale = posterior.log_marginal_likelihood_gradient(best / 2).abs()
    assert posterior.log_marginal_likelihood_gradient(best).abs() <= 1e-8 * scale


def custom(output, target, reduction="mean"):
    """A mean of convex functions."""
    losses = (output - target).cosh().log().flatten(1).sum(1)
    return losses.mean() if reduction == "mean" else losses.sum()


class Custom(nn.Module):
    """The same, which says how it reduces."""

    def __init__(self, reduction="mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, output, target):
        return custom(output, target, self.reduction)


WEIGHTS = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
CLASSES = torch.tensor([0, 2, 1, 2, 0, 1])
PROBABILITIES = torch.rand(6, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

LOSSES = {
    "cross-entropy": (nn.CrossEntropyLoss, CLASSES),
    "weighted": (partial(nn.CrossEntropyLoss, weight=WEIGHTS, ignore_index=2), CLASSES),
    "smoothed": (partial(nn.CrossEntropyLoss, label_smoothing=0.1), CLASSES),
    "square": (nn.MSELoss, PROBABILITIES),
    "binary": (nn.BCEWithLogitsLoss, PROBABILITIES),
    "smooth L1": (nn.SmoothL1Loss, PROBABILITIES),
    "Poisson": (nn.PoissonNLLLoss, PROBABILITIES),
    "custom": (Custom, PROBABILITIES),
}


@pytest.mark.parametrize("split", [(6,), (2, 4), (1, 2, 3)], ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_a_mean_is_the_sum(name, split):
    """Loss and curvature are those of reduction="sum", of several batches too."""
    loss_func, y = LOSSES[name]
    model, _, x, _ = CASES[0].make()
    names = [name for name, _ in model.named_parameters()]
    data = list(zip(x.split(split), y.split(split), strict=True))
    mean = vivit.LaplacePosterior(model, loss_func(reduction="mean"), data, prior_precision=P)
    total = vivit.LaplacePosterior(model, loss_func(reduction="sum"), (x, y), prior_precision=P)
    sigma = covariance_of(oracle.ggn(model, loss_func(reduction="sum"), x, y, names))
    j = oracle.jacobian(model, x, names)
    for posterior in (mean, total):
        assert_close(posterior.predictive(x).covariance, j @ sigma @ j.mT)
    assert_close(mean.log_marginal_likelihood(), total.log_marginal_likelihood())
    assert_close(flat(mean.sample(2, seed=1), 1), flat(total.sample(2, seed=1), 1))


def test_noise_of_a_regression():
    """Half the inverse variance makes of the square loss a Gaussian likelihood."""
    x, y = torch.randn(20, 3).double(), torch.randn(20, 1).double()
    model, variance = nn.Linear(3, 1, bias=False).double(), 0.04
    posterior = vivit.LaplacePosterior(
        model, nn.MSELoss(), (x, y), prior_precision=2.0, likelihood_scale=1 / (2 * variance)
    )
    sigma = torch.linalg.inv(x.T @ x / variance + 2 * torch.eye(3))
    assert_close(posterior.predictive(x).covariance, (x @ sigma * x).sum(1)[:, None, None])
    with torch.no_grad():  # at the posterior mean, Laplace's approximation is exact
        model.weight.copy_((sigma @ x.T @ y / variance).T)
    posterior = vivit.LaplacePosterior(
        model, nn.MSELoss(), (x, y), prior_precision=2.0, likelihood_scale=1 / (2 * variance)
    )
    marginal = variance * torch.eye(20).double() + x @ x.T / 2
    exact = torch.distributions.MultivariateNormal(torch.zeros(20).double(), marginal)
    left_out = 20 / 2 * math.log(2 * math.pi * variance)
    assert_close(posterior.log_marginal_likelihood() - left_out, exact.log_prob(y[:, 0]))


def test_moments_of_samples(monkeypatch):
    """By the unit vectors in place of noise, exactly; and of noise, roughly."""
    torch.manual_seed(0)
    model, x, y = nn.Linear(2, 2).double(), torch.randn(4, 2).double(), torch.tensor([0, 1, 1, 0])
    posterior = vivit.LaplacePosterior(model, nn.CrossEntropyLoss(), (x, y), P)
    dense = oracle.ggn(model, nn.CrossEntropyLoss(reduction="sum"), x, y, ["weight", "bias"])
    samples = flat(posterior.sample(2_000, seed=0), 1)
    assert_close(samples.mean(0), flat(posterior.mean), tolerance=0.2)
    assert_close(samples.T.cov(), covariance_of(dense), tolerance=0.1)
    units = iter(torch.eye(6).double().split([4, 2], dim=1))
    monkeypatch.setattr(
        "vivit.laplace.posterior.random_normal", lambda shape, *_: next(units).reshape(shape)
    )
    moved = flat(posterior.sample(6), 1) - flat(posterior.mean)
    assert_close(moved.T @ moved, covariance_of(dense))


OPTIONS = {
    "parameters": {"params": ["0.*", "4.bias"]},
    "few parameters": {"params": ["4.bias"]},
    "Monte-Carlo": {"approximation": vivit.MonteCarlo(samples=2, seed=3)},
    "subset": {"subset": [1, 4]},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name):
    """Those of the GGN."""
    model, loss_func, x, y = CASES[0].make()
    options = OPTIONS[name]
    ggn = vivit.GGN(model, loss_func, (x, y), **options)
    dense = 6 * (ggn @ torch.eye(ggn.shape[0], dtype=torch.float64))
    posterior = vivit.LaplacePosterior(model, loss_func, (x, y), P, **options)
    j = oracle.jacobian(model, x, ggn.parameter_names)
    assert_close(posterior.predictive(x).covariance, j @ covariance_of(dense) @ j.mT)
    assert list(posterior.sample(1)) == list(posterior.mean) == ggn.parameter_names
    assert repr(posterior) == (
        f"LaplacePosterior(parameters={ggn.shape[0]}, samples=6, prior_precision=0.3)"
    )


def test_models_that_are_called_in_another_way():
    model, loss_func, x, y = CASES[0].make()
    plain = vivit.LaplacePosterior(model, loss_func, (x, y))
    posterior = vivit.LaplacePosterior(
        model, loss_func, ({"x": x}, y), forward=lambda model, inputs: model(inputs["x"])
    )
    whole = vivit.LaplacePosterior(
        model,
        loss_func,
        [{"x": x, "y": y}],
        forward=lambda model, batch: model(batch["x"]),
        target=lambda batch: batch["y"],
    )
    for other in (posterior, whole):
        found = other.predictive({"x": x[:2]}).covariance
        assert_close(found, plain.predictive(x).covariance[:2])
        assert list(other.mean) == list(plain.mean)


def test_another_prior_shares_the_decomposition(monkeypatch):
    model, loss_func, x, y = CASES[0].make()
    posterior = vivit.LaplacePosterior(model, loss_func, (x, y), P)
    posterior.log_marginal_likelihood()
    monkeypatch.setattr(torch.linalg, "eigh", None)
    other = posterior.with_prior_precision(2.0)
    assert (posterior.prior_precision, other.prior_precision) == (P, 2.0)
    assert torch.equal(other.log_marginal_likelihood(), posterior.log_marginal_likelihood(2.0))
    other.predictive(x)
    monkeypatch.undo()
    fresh = vivit.LaplacePosterior(model, loss_func, (x, y), 2.0)
    assert_close(other.predictive(x).covariance, fresh.predictive(x).covariance)


@pytest.mark.parametrize("network", [mlp, Permuted], ids=["alone", "not alone"])
def test_inputs_in_turn(network, monkeypatch):
    """Where memory is scarce, test samples are taken some at a time."""
    width = {mlp: 5, Permuted: 3}[network]
    torch.manual_seed(0)
    model, x, y = network().double(), torch.randn(7, width).double(), torch.randint(3, (7,))
    posterior = vivit.LaplacePosterior(model, nn.CrossEntropyLoss(), (x, y))
    expected = posterior.predictive(x).covariance
    seen = []
    in_turn = outputs.outputs_in_turn

    def spy(linearization, rows, at_a_time):
        seen.append(at_a_time)
        return in_turn(linearization, rows, 2)

    monkeypatch.setattr("vivit.laplace.posterior.outputs_in_turn", spy)
    assert_close(posterior.predictive(x).covariance, expected)
    assert seen[0] >= 7
    fit = posterior._fit
    monkeypatch.setattr(type(fit.room), "available", int(7 * fit.bytes_per_sample(3)))
    assert_close(posterior.predictive(x).covariance, expected)
    assert seen[1] == 3


def test_several_sweeps():
    """Where not all layers fit at once, they take turns."""
    model, loss_func, x, y = next(case for case in CASES if case.name == "conv2d").make()
    posterior = vivit.LaplacePosterior(model, loss_func, [(x[:1], y[:1]), (x[1:], y[1:])])
    expected, fit = posterior.predictive(x).covariance, posterior._fit
    names = [*posterior.mean]
    turns = replace(fit.decomposition.plan, sweeps=(frozenset(names[:3]), frozenset(names[3:])))
    fit.__dict__["decomposition"] = replace(fit.decomposition, plan=turns)
    assert_close(posterior.predictive(x).covariance, expected)


def test_probit():
    model, loss_func, x, y = CASES[0].make()
    predictive = vivit.LaplacePosterior(model, loss_func, (x, y)).predictive(x)
    scaled = predictive.mean / (1 + math.pi / 8 * predictive.variance).sqrt()
    assert_close(predictive.probabilities(), scaled.softmax(1))
    drawn = predictive.probabilities("samples", samples=20_000, seed=1)
    assert_close(drawn.sum(1), torch.ones(6).double())
    assert_close(drawn, predictive.probabilities(), tolerance=0.15)
    assert torch.equal(drawn, predictive.probabilities("samples", samples=20_000, seed=1))


def test_drawn_outputs():
    """Their moments are those of the distribution."""
    model, loss_func, x, y = CASES[0].make()
    predictive = vivit.LaplacePosterior(model, loss_func, (x, y)).predictive(x)
    drawn = predictive.sample(50_000, seed=0)
    assert_close(drawn.mean(0), predictive.mean, tolerance=0.05)
    assert_close(drawn[:, 0].T.cov(), predictive.covariance[0], tolerance=0.02)


@pytest.mark.parametrize("method", ["probit", "samples"])
def test_classes_along_positions(method):
    model, loss_func, x, y = next(c for c in CASES if c.network is LanguageModel).make()
    posterior = vivit.LaplacePosterior(model, loss_func, (x, y))
    found = posterior.predictive(x).probabilities(method)
    assert_close(found.sum(1), torch.ones(3, 4).double())


@pytest.mark.parametrize("network", [mlp, Scalar])
def test_binary_probabilities(network):
    torch.manual_seed(0)
    model, width = network().double(), {mlp: 5, Scalar: 3}[network]
    x = torch.randn(6, width).double()
    y = (model(x) > 0.1).double()
    predictive = vivit.LaplacePosterior(model, F.binary_cross_entropy_with_logits, (x, y))
    predictive = predictive.predictive(x)
    scaled = predictive.mean / (1 + math.pi / 8 * predictive.variance).sqrt()
    assert_close(predictive.probabilities(), scaled.sigmoid())
    drawn = predictive.probabilities("samples", samples=20_000)
    assert_close(drawn, predictive.probabilities(), tolerance=0.05)


@pytest.mark.parametrize("dims", [(5, 12, 3), (5, 2)], ids=["Gram", "outer"])
@pytest.mark.parametrize("p", [1.0, 1e-4], ids=str)
def test_single_precision(dims, p):
    """Where much is subtracted, too: from columns in single precision, in double precision."""
    torch.manual_seed(0)
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(dims)]
    model = nn.Sequential(*[m for layer in layers for m in (layer, nn.Tanh())][:-1]).double()
    x, y = torch.randn(12, 5).double(), torch.randint(2, (12,))
    exact = vivit.LaplacePosterior(model, nn.CrossEntropyLoss(), (x, y), p)
    expected = exact.predictive(x).covariance, exact.log_marginal_likelihood()
    drawn = flat(exact.sample(2), 1)
    single = vivit.LaplacePosterior(model.float(), nn.CrossEntropyLoss(), (x.float(), y), p)
    found = single.predictive(x.float())
    assert found.covariance.dtype == single.log_marginal_likelihood().dtype == torch.float32
    assert_close(found.covariance.double(), expected[0], tolerance=1e-3)
    assert_close(single.log_marginal_likelihood().double(), expected[1], tolerance=1e-5)
    assert_close(flat(single.sample(2), 1).double().norm(), drawn.norm(), tolerance=0.5)


def test_rounding_errors_are_told(monkeypatch):
    torch.manual_seed(0)
    model, x, y = mlp(), torch.randn(6, 5), torch.randint(3, (6,))
    posterior = vivit.LaplacePosterior(model, nn.CrossEntropyLoss(), (x, y), 1e-10)
    told = r"prior precision 1.0e-10 is so small beside the largest eigenvalue \d.*relative errors"
    with pytest.warns(UserWarning, match=told):
        posterior.log_marginal_likelihood()
    with pytest.warns(UserWarning, match="Use a larger one, or a model in float64"):
        posterior.predictive(x)
    posterior.with_prior_precision(1e-3).predictive(x)
    monkeypatch.setattr("vivit.quantities.pairs.may_gain", lambda like: False)
    in_single = vivit.LaplacePosterior(model, nn.CrossEntropyLoss(), (x, y), 1e-4)
    with pytest.warns(UserWarning, match="variances may have relative errors of up to about"):
        in_single.predictive(x)


def test_variances_are_never_negative():
    """Of samples that are known as well as rounding allows."""
    torch.manual_seed(0)
    model, x = mlp().double(), torch.randn(6, 5).double()
    y = torch.randn(6, 3).double()
    posterior = vivit.LaplacePosterior(model, nn.MSELoss(), (x, y), 1e-3, likelihood_scale=1e12)
    with pytest.warns(UserWarning, match="relative errors"):
        predictive = posterior.predictive(x)
    assert (predictive.variance >= 0).all()
    values = torch.linalg.eigvalsh(predictive.covariance)
    assert (values >= -1e-15 * values.abs().max()).all()


def test_positive_semidefinite():
    good, bad = torch.diag(torch.tensor([2.0, 1.0])), torch.tensor([[1.0, 0.5], [0.5, -1e-3]])
    found = positive_semidefinite(torch.stack([good, bad]))
    assert torch.equal(found[0], good)
    assert torch.linalg.eigvalsh(found[1])[0] >= -1e-7
    assert (found[1] - bad).abs().max() < 0.5


def posterior_of(loss_func=None, **options):
    model, _, x, y = CASES[0].make()
    y = torch.randn(6, 3).double() if isinstance(loss_func, (nn.MSELoss, Custom)) else y
    return vivit.LaplacePosterior(model, loss_func or nn.CrossEntropyLoss(), (x, y), **options)


def predictive_of(loss_func=None):
    return posterior_of(loss_func).predictive(torch.zeros(2, 5).double())


REFUSED = {
    "zero": (
        lambda: posterior_of(prior_precision=0.0),
        r"prior_precision must be positive and finite, got 0\.0\.",
    ),
    "negative": (
        lambda: posterior_of().with_prior_precision(-1),
        r"prior_precision must be positive and finite, got -1\.0\.",
    ),
    "NaN": (
        lambda: posterior_of().log_marginal_likelihood(float("nan")),
        "prior_precision must be positive and finite, got nan",
    ),
    "infinite": (
        lambda: posterior_of().log_marginal_likelihood_gradient(torch.tensor(float("inf"))),
        "prior_precision must be positive and finite, got inf",
    ),
    "no number": (
        lambda: posterior_of(prior_precision="1"),
        "prior_precision must be a positive number, got str",
    ),
    "several": (
        lambda: posterior_of(prior_precision=torch.ones(2)),
        "prior_precision must be a positive number, got Tensor",
    ),
    "likelihood": (
        lambda: posterior_of(likelihood_scale=-2.0),
        r"likelihood_scale must be positive and finite, got -2\.0",
    ),
    "no samples": (
        lambda: posterior_of().sample(0),
        "number of samples must be a whole number, at least 1, got 0",
    ),
    "half a sample": (
        lambda: posterior_of().sample(0.5),
        "number of samples must be a whole number, at least 1, got 0.5",
    ),
    "no drawn outputs": (
        lambda: predictive_of().probabilities("samples", samples=0),
        "number of samples must be a whole number, at least 1, got 0",
    ),
    "empty": (
        lambda: posterior_of().predictive(torch.zeros(0, 5).double()),
        r"no test inputs: X has shape \[0, 5\], expected samples along the first axis",
    ),
    "regression": (
        lambda: predictive_of(nn.MSELoss()).probabilities(),
        "probabilities for CrossEntropyLoss, NLLLoss and BCEWithLogitsLoss; of any other loss",
    ),
    "custom loss": (
        lambda: predictive_of(Custom()).probabilities(),
        "probabilities for CrossEntropyLoss, NLLLoss and BCEWithLogitsLoss; of any other loss",
    ),
    "method": (
        lambda: predictive_of().probabilities("bridge"),
        "method must be 'probit' or 'samples', got 'bridge'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    make, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        make()


def test_predictions_that_do_not_fit(monkeypatch):
    posterior = posterior_of()
    monkeypatch.setattr(type(posterior._fit), "bytes_per_sample", lambda self, outputs: 2**60)
    told = r"single test sample with 3 outputs needs .* available\. Use a subset of the training"
    with pytest.raises(InsufficientMemoryError, match=told):
        posterior.predictive(torch.zeros(2, 5).double())


def test_predictions_that_overflow():
    model, x = nn.Linear(2, 1, bias=False).double(), torch.ones(3, 2).double()
    posterior = vivit.LaplacePosterior(model, nn.MSELoss(), (x, x[:, :1]))
    with pytest.raises(InputError, match="is NaN or infinite: look for overflow"):
        posterior.predictive(1e200 * x)


def test_outputs_of_another_shape():
    model = nn.Conv2d(1, 2, 3).double()
    x, y = torch.randn(2, 1, 4, 4).double(), torch.randn(2, 2, 2, 2).double()
    posterior = vivit.LaplacePosterior(model, nn.MSELoss(), (x, y))
    with pytest.raises(InputError, match=r"shape \[2, 3, 3\] per sample, .* data \[2, 2, 2\]"):
        posterior.predictive(torch.randn(2, 1, 5, 5).double())
    data = [(x, y), (x[..., :3], y[..., :1])]
    posterior = vivit.LaplacePosterior(model, nn.MSELoss(), data)
    with pytest.raises(InputError, match=r"shape \[2, 3, 3\] per sample, .* data \[2, 2, any\]"):
        posterior.predictive(torch.randn(2, 1, 5, 5).double())


@pytest.mark.parametrize(
    ("what", "then"), [("parameters", "grows"), ("curvatures", "falls")], ids=["zero", "flat"]
)
def test_no_best_prior_precision(what, then):
    model, x = nn.Linear(2, 1, bias=False).double(), torch.ones(3, 2).double()
    if what == "parameters":
        nn.init.zeros_(model.weight)
    else:
        x = torch.zeros_like(x)
    posterior = vivit.LaplacePosterior(model, nn.MSELoss(), (x, torch.ones(3, 1).double()))
    with pytest.raises(InputError, match=f"all {what} are zero, .* likelihood {then} with it"):
        posterior.best_prior_precision()


USES = {
    "sample": lambda posterior, x: posterior.sample(1),
    "predictive": lambda posterior, x: posterior.predictive(x),
    "evidence": lambda posterior, x: posterior.log_marginal_likelihood(),
    "best": lambda posterior, x: posterior.best_prior_precision(),
}


@pytest.mark.parametrize("use", USES)
def test_changed_parameters(use):
    """A posterior of parameters that are no more is refused, whatever is known already."""
    model, loss_func, x, y = CASES[0].make()
    posterior = vivit.LaplacePosterior(model, loss_func, (x, y))
    posterior.log_marginal_likelihood()
    with torch.no_grad():
        model[0].weight.mul_(2)
    with pytest.raises(StaleError):
        USES[use](posterior, x)


def test_nothing_changes():
    """Random state, gradients and mode are as they were."""
    model, loss_func, x, y = CASES[0].make()
    before = torch.get_rng_state()
    posterior = vivit.LaplacePosterior(model.train(), loss_func, (x, y))
    posterior.predictive(x).probabilities("samples")
    posterior.sample(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_links():
    losses = [nn.CrossEntropyLoss(), nn.BCEWithLogitsLoss(), nn.MSELoss()]
    assert [Link.of(loss) for loss in losses] == [Link.SOFTMAX, Link.SIGMOID, None]


def test_page(capsys):
    """The example of the documentation runs as it is written."""
    page = (Path(__file__).parents[2] / "docs" / "laplace.md").read_text()
    example, _ = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(example, "laplace.md", "exec"), {})
    assert capsys.readouterr().out
