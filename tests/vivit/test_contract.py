"""The contract of vivit-for-pytorch 1.0.0, line by line."""

import warnings

import pytest
import torch
from backpack import backpack, extend
from backpack.extensions import BatchGrad, SqrtGGNExact
from drop_in import ALL, CE, MSE, PROBLEMS, Problem, Residual, complete, mlp, results, run
from torch import nn

import vivit
from vivit import (
    DirectionalDampedNewtonComputation,
    DirectionalDerivativesComputation,
    EighComputation,
    EigvalshComputation,
)


@pytest.fixture
def small():
    return PROBLEMS["mlp"].make()


@pytest.mark.parametrize("kind", ALL)
def test_nothing_is_left_behind_and_gradients_are_there(kind, small):
    """Beside another extension, in one backward pass."""
    model, loss_func, x, y = small
    loss_func(model(x), y).backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    extend(model), extend(loss_func)
    computation, before = kind(), {*vars(next(model.parameters()))}
    own = [computation.get_extension()] if kind in ALL[:2] else computation.get_extensions()
    hook = computation.get_extension_hook([complete(model)])
    loss = loss_func(model(x), y)
    with backpack(BatchGrad(), *own, extension_hook=hook):
        loss.backward()
    for p, grad in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(p.grad, grad)
        assert torch.allclose(p.grad_batch.sum(0), grad)
        assert {*vars(p)} - before == {"grad_batch"}


@pytest.mark.parametrize(
    ("criterion", "order"),
    [
        (lambda values: [20, 18, 19], [20, 18, 19]),
        (lambda values: (20, 18, 19), [20, 18, 19]),
        (lambda values: torch.tensor([20, 18, 19]), [20, 18, 19]),
        (lambda values: torch.arange(21) >= 18, [18, 19, 20]),
        (lambda values: slice(18, 21), [18, 19, 20]),
        (lambda values: range(18, 21), [18, 19, 20]),
    ],
    ids=["list", "tuple", "tensor", "mask", "slice", "range"],
)
def test_criteria_keep_their_order(criterion, order):
    values, vectors = results(EighComputation, {"criterion": criterion})
    assert torch.allclose(values, results(EigvalshComputation)[order])
    assert all(len(v) == 3 for v in vectors)


def test_a_criterion_that_keeps_nothing():
    nothing = {"criterion": lambda values: []}
    values, vectors = results(EighComputation, nothing)
    gammas, lambdas = results(DirectionalDerivativesComputation, nothing)
    step = results(DirectionalDampedNewtonComputation, nothing)
    assert values.shape == (0,)
    assert [len(v) for v in vectors] == [0] * 6
    assert gammas.shape == lambdas.shape == (7, 0)
    assert not any(s.any() for s in step)


def test_directions_of_eigenvalues_that_are_zero():
    """The contract counts them; they have no direction, and no derivatives."""
    first = {"criterion": lambda values: [0, 20]}
    values, vectors = results(EighComputation, first)
    assert values[0] == 0 < values[1]
    assert not any(v[0].any() for v in vectors)
    gammas, lambdas = results(DirectionalDerivativesComputation, first)
    assert not gammas[:, 0].any()
    assert not lambdas[:, 0].any()
    whole = results(DirectionalDampedNewtonComputation, first)
    alone = results(DirectionalDampedNewtonComputation, {"criterion": lambda values: [20]})
    assert all(torch.allclose(a, b) for a, b in zip(whole, alone, strict=True))


@pytest.mark.parametrize("subsampling", [None, [4, 0, 2]])
@pytest.mark.parametrize("loss", [CE, MSE])
def test_what_a_damping_is_given(loss, subsampling):
    """Eigenvectors of the Gram matrix of BackPACK's own columns, in its order."""
    given = []

    def damping(*arguments):
        given.extend(arguments)
        return torch.ones_like(arguments[0])

    model, loss_func, x, y = Problem(mlp, (7, 5), loss).make()
    group = complete(model, damping=damping)
    computation = DirectionalDampedNewtonComputation([1, 3], subsampling, warn_small_eigvals=0)
    run(computation, model, loss_func, x, y, [group])
    values, vectors, gammas, lambdas = given
    with backpack(SqrtGGNExact(subsampling=subsampling)):
        loss_func(model(x), y).backward()
    count = 7 if subsampling is None else 3
    columns = torch.cat([p.sqrt_ggn_exact.flatten(2) for p in model.parameters()], dim=2)
    columns = columns.flatten(end_dim=1) * (7 / count) ** 0.5
    gram = columns @ columns.T
    assert vectors.shape == (3 * count, 2)
    assert torch.allclose(gram @ vectors, values * vectors, atol=1e-12)
    assert torch.allclose(vectors.T @ vectors, torch.eye(2).double(), atol=1e-10)
    assert gammas.shape == (2, 2)
    assert lambdas.shape == (count, 2)
    assert torch.allclose(lambdas.mean(0), values)


def test_seeds():
    """A seed fixes the draws; without one they follow torch's generator."""
    first, again, other = (
        results(EigvalshComputation, mc_samples=1, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        drawn, more = (results(EigvalshComputation, mc_samples=1) for _ in range(2))
        torch.manual_seed(5)
        repeated = results(EigvalshComputation, mc_samples=1)
    assert torch.equal(drawn, repeated)
    assert not torch.equal(drawn, more)


def test_small_eigenvalues_are_warned_about():
    with pytest.warns(UserWarning, match="kept are below 0.0001"):
        results(EighComputation, {"criterion": lambda values: [0]}, warn_small_eigvals=1e-4)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Some of the eigenvalues")
        results(EighComputation, {"criterion": lambda values: [0]}, warn_small_eigvals=0)


def test_verbose(capsys):
    results(EigvalshComputation)
    assert not capsys.readouterr().out
    results(EigvalshComputation, verbose=True)
    assert "EigvalshComputation: group" in capsys.readouterr().out


def test_a_single_parameter(small):
    model, *rest = small
    groups = [{"params": model[0].weight}, {"params": [model[2].weight]}]
    values, _ = run(EigvalshComputation(), model, *rest, groups)
    ggn = vivit.GGN(PROBLEMS["mlp"].make()[0], *rest[:1], rest[1:], params=["0.weight"])
    assert torch.allclose(values[-14:], ggn.eigvalsh(), atol=1e-14)


def test_parameters_from_a_generator(small):
    model, *rest = small
    group = {"params": model.parameters()}
    (values,) = run(EigvalshComputation(), model, *rest, [group])
    assert torch.allclose(values, results(EigvalshComputation))
    assert len(group["params"]) == 6


def test_residual_networks_by_the_converter():
    torch.manual_seed(0)
    model, x, y = Residual().double().eval(), torch.randn(6, 5).double(), torch.arange(6) % 3
    expected = vivit.GGN(model, CE(), (x, y)).eigvalsh()
    converted, loss_func = extend(model, use_converter=True), extend(CE())
    group = {"params": list(converted.parameters())}
    computation = EigvalshComputation()
    hook = computation.get_extension_hook([group])
    with backpack(computation.get_extension(), extension_hook=hook):
        loss_func(converted(x), y).backward()
    assert torch.allclose(computation.get_result(group)[-12:], expected, rtol=1e-9, atol=1e-14)


def test_dropout_in_training_mode():
    """The mask of the forward pass counts, as it does for gradients."""
    layers = [nn.Linear(5, 6), nn.ReLU(), nn.Dropout(0.4), nn.Linear(6, 3)]
    model, x, y = nn.Sequential(*layers).double(), torch.randn(6, 5).double(), torch.arange(6) % 3
    torch.manual_seed(3)
    expected = vivit.GGN(model, CE(), (x, y)).eigvalsh()
    torch.manual_seed(3)
    group = {"params": list(model.parameters())}
    (values,) = run(EigvalshComputation(), model, CE(), x, y, [group])
    assert torch.allclose(values[-12:], expected, rtol=1e-9, atol=1e-14)
