"""The backend of laplace-torch against dense matrices; with it, where it is installed."""

import importlib
import math
import sys

import laplace_stand_in
import oracle
import pytest
import torch
from cases import CASES, conv1d
from torch import nn

import vivit

P = 0.7


def laplace_torch():
    """Skip a test that needs the package."""
    try:
        return importlib.import_module("laplace")
    except (ImportError, RuntimeError) as error:  # a torchvision of another build of torch
        pytest.skip(f"laplace-torch cannot be imported: {error}")


@pytest.fixture
def backend(monkeypatch):
    laplace_stand_in.install(monkeypatch)
    monkeypatch.delitem(sys.modules, "vivit.laplace.backend", raising=False)
    yield importlib.import_module("vivit.laplace.backend").VivitGGN
    sys.modules.pop("vivit.laplace.backend", None)


@pytest.fixture(params=["regression", "classification"])
def problem(request):
    """A network with some frozen parameters, its batches, and the dense GGN."""
    torch.manual_seed(0)
    model = conv1d().double().eval()
    model[2].weight.requires_grad_(False)
    x = torch.randn(5, 2, 9).double()
    is_regression = request.param == "regression"
    y = torch.randn(5, 3).double() if is_regression else torch.tensor([0, 2, 1, 0, 1])
    loss = (nn.MSELoss if is_regression else nn.CrossEntropyLoss)(reduction="sum")
    factor = 0.5 if is_regression else 1.0
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    dense = factor * oracle.ggn(model, loss, x, y, names)
    value = factor * loss(model(x), y).detach()
    return request.param, model, [(x[:2], y[:2]), (x[2:], y[2:])], dense, value


def assert_close(actual, expected, tolerance=1e-10):
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


def test_full(backend, problem):
    likelihood, model, batches, dense, value = problem
    found = [backend(model, likelihood).full(*batch, N=5) for batch in batches]
    losses, matrices = zip(*found, strict=True)
    assert_close(sum(matrices), dense)
    assert_close(sum(losses), value)


def test_subnetwork(backend, problem):
    likelihood, model, batches, dense, _ = problem
    index = torch.tensor([0, 3, 20])
    found = [
        backend(model, likelihood, subnetwork_indices=index).full(*batch)[1] for batch in batches
    ]
    assert_close(sum(found), dense[index][:, index])


def test_eig_lowrank(backend, problem):
    likelihood, model, batches, dense, value = problem
    vectors, values, loss = backend(model, likelihood).eig_lowrank(batches)
    assert_close(vectors * values @ vectors.T, dense)
    assert_close(loss, value)


def test_stochastic(backend):
    torch.manual_seed(0)
    model, _, x, y = CASES[0].make()
    sampled = backend(model, "classification", stochastic=True, num_samples=4000)
    exact = backend(model, "classification").full(x, y)[1]
    assert_close(sampled.full(x, y)[1], exact, tolerance=0.2)
    assert not torch.equal(sampled.full(x, y)[1], sampled.full(x, y)[1])


def test_without_laplace_torch(monkeypatch):
    for name in ("laplace", "laplace.curvature"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "vivit.laplace.backend", raising=False)
    with pytest.raises(ImportError, match=r"extra laplace, or use vivit\.LaplacePosterior"):
        importlib.import_module("vivit.laplace.backend")


@pytest.mark.parametrize("structure", ["full", "lowrank"])
def test_laplace_torch(problem, structure, monkeypatch):
    """Its posterior with this backend, and `vivit.LaplacePosterior`, are one."""
    package = laplace_torch()
    from vivit.laplace.backend import VivitGGN

    likelihood, model, batches, _, _ = problem
    model.requires_grad_(True)  # its low-rank structure does not know of frozen parameters
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=2)
    if structure == "lowrank":  # it asks for a module that its own dependency does not have
        monkeypatch.setattr("laplace.baselaplace.find_spec", lambda name: name)
    theirs = package.Laplace(
        model, likelihood, "all", structure, backend=VivitGGN, prior_precision=P
    )
    theirs.fit(data)
    is_regression = likelihood == "regression"
    loss, scale = (nn.MSELoss(), 0.5) if is_regression else (nn.CrossEntropyLoss(), 1.0)
    ours = vivit.LaplacePosterior(model, loss, (x, y), P, likelihood_scale=scale)
    found = ours.predictive(x)
    mean, covariance = theirs._glm_predictive_distribution(x)
    assert_close(found.mean, mean)
    assert_close(found.covariance, covariance)
    left_out = 15 * math.log(2 * math.pi) / 2 if is_regression else 0.0
    evidence = ours.log_marginal_likelihood() - left_out
    assert_close(evidence, theirs.log_marginal_likelihood().detach())
    if not is_regression:
        assert_close(found.probabilities(), theirs(x, link_approx="probit"))
