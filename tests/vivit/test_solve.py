"""Solves, inverse operators, steps along all directions and scalars, against dense formulas."""

import math
import warnings
from copy import deepcopy
from functools import cache

import numpy
import oracle
import pytest
import torch
from cases import CASES, conv2d, mlp
from hypothesis import given, settings
from hypothesis import strategies as st
from parameter_uses import Once
from scipy.sparse.linalg import cg
from torch import nn

import vivit
from vivit import ConjugateGradients, ConvergenceError, FullGram, InputError, MonteCarlo
from vivit.gram import precision, prediction
from vivit.gram.forms import Form, Times
from vivit.quantities.arguments import Dampings
from vivit.quantities.inverses import CholeskyInverse, EigenInverse, inverse_of

CE, CE_SUM, MSE = nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="sum"), nn.MSELoss()
NETWORKS = {
    "mlp": (mlp, (7, 5), CE),
    "mlp, sum": (mlp, (7, 5), CE_SUM),
    "mlp, mse": (mlp, (7, 5), MSE),
    "more columns than parameters": (lambda: nn.Linear(2, 3), (9, 2), CE),
    "conv": (conv2d, (5, 2, 6, 7), CE),
    "no curvature": (lambda: nn.Sequential(nn.Linear(5, 3), Nothing()), (6, 5), MSE),
}
KINDS = {
    "exact": {},
    "Monte-Carlo": {"approximation": MonteCarlo(samples=2, seed=3)},
    "subset": {"subset": [3, 0, 4]},
}
METHODS = {
    "by size": None,
    "matrix": FullGram(),
    "iteration": ConjugateGradients(tolerance=1e-11),
    "plain iteration": ConjugateGradients(tolerance=1e-11, preconditioner_samples=0),
}


class Nothing(nn.Module):
    """Makes every derivative zero, but lets parameters reach the output."""

    def forward(self, x):
        return 0.0 * x


class Problem:
    """A network in double precision, and its dense curvature and gradient."""

    def __init__(self, network, shape, loss_func):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model, self.loss_func = network().double(), loss_func
            self.x = torch.randn(shape, dtype=torch.float64)
            f = self.model(self.x).detach()
            classes = torch.randint(f.shape[1], f.shape[:1])
            self.y = torch.randn_like(f) if loss_func is MSE else classes
            self.names = [n for n, p in self.model.named_parameters() if p.requires_grad]
        arguments = self.model, loss_func, self.x, self.y, self.names
        self.dense, self.gradient = oracle.ggn(*arguments), oracle.gradient(*arguments)

    def ggn(self, dtype=torch.float64, batches=1, **options):
        model = deepcopy(self.model).to(dtype)
        y = self.y.to(dtype) if self.y.is_floating_point() else self.y
        pairs = zip(self.x.to(dtype).chunk(batches), y.chunk(batches), strict=True)
        data = list(pairs) if batches > 1 else (self.x.to(dtype), y)
        return vivit.GGN(model, self.loss_func, data, **options)


@cache
def problem(name):
    return Problem(*NETWORKS[name])


@pytest.fixture(params=NETWORKS)
def a_problem(request):
    return problem(request.param)


@pytest.fixture
def conv():
    return problem("conv")


@pytest.fixture(params=METHODS.values(), ids=METHODS.keys())
def method(request):
    return request.param


def vectors(size, count, dtype=torch.float64):
    return torch.randn(size, count, generator=torch.Generator().manual_seed(1)).to(dtype)


def damped(dense, damping):
    return dense + damping * torch.eye(len(dense), dtype=dense.dtype)


def assert_close(actual, expected, tolerance=1e-9):
    assert actual.shape == expected.shape
    if expected.numel():
        assert (actual - expected).abs().max() <= tolerance * max(expected.abs().max(), 1e-300)


def residuals(dense, damping, x, v):
    x, v = x.double(), v.double()
    return (v - damped(dense, damping) @ x).norm(dim=0) / v.norm(dim=0)


def dense_of(ggn):
    """Its matrix by products, which other tests hold against the oracle."""
    return ggn @ torch.eye(ggn.shape[0], dtype=torch.float64)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request):
    return request.param


def test_all_cases(case):
    """Solve, scalars and the step of every network, with the smaller matrix."""
    model, loss_func, x, y = case.make()
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    dense = oracle.ggn(model, loss_func, x, y, names)
    ggn, v = vivit.GGN(model, loss_func, (x, y)), vectors(len(dense), 2)
    matrix = damped(dense, 0.1)
    expected = torch.linalg.solve(matrix, v)
    assert_close(ggn.solve(v, 0.1), expected)
    assert_close(ggn.logdet(0.1), torch.logdet(matrix))
    values = torch.linalg.eigvalsh(dense).clamp(min=0)
    assert_close(ggn.effective_dimension(0.1), (values / (values + 0.1)).sum())
    assert_close(ggn.trace(), dense.trace())
    assert_close(ggn.frobenius_norm(), dense.norm())
    step = ggn.flatten(ggn.newton_step(0.1, flat=True))
    gradient = oracle.gradient(model, loss_func, x, y, names)
    assert_close(step, -torch.linalg.solve(matrix, gradient))


def test_all_cases_in_single_precision(case):
    """As accurate as passes of the model are, which err by some 1e-6 of the norm."""
    model, loss_func, x, y = case.make()
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    dense = oracle.ggn(model, loss_func, x, y, names)
    gradient = oracle.gradient(model, loss_func, x, y, names)
    data = x.float(), y.float() if y.is_floating_point() else y
    ggn, v = vivit.GGN(deepcopy(model).float(), loss_func, data), vectors(len(dense), 2)
    damping = 1e-2 * float(dense.norm())
    matrix = damped(dense, damping)
    assert_close(ggn.solve(v.float(), damping).double(), torch.linalg.solve(matrix, v), 1e-3)
    step = ggn.flatten(ggn.newton_step(damping, flat=True)).double()
    assert_close(step, -torch.linalg.solve(matrix, gradient), 1e-3)
    assert_close(ggn.logdet(damping).double(), torch.logdet(matrix), 1e-3)


def test_all_cases_by_iteration(case):
    model, loss_func, x, y = case.make()
    ggn = vivit.GGN(model, loss_func, (x, y))
    v = vectors(ggn.shape[0], 2)
    expected = ggn.solve(v, 0.1)
    assert_close(ggn.solve(v, 0.1, method=ConjugateGradients(tolerance=1e-12)), expected)


@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
def test_kinds_and_batches(a_problem, options, batches, method):
    ggn = a_problem.ggn(batches=batches, **options)
    dense, v = dense_of(ggn), vectors(ggn.shape[0], 2)
    assert_close(ggn.solve(v, 0.1, method), torch.linalg.solve(damped(dense, 0.1), v), 1e-8)
    step = ggn.flatten(ggn.newton_step(0.1, flat=True))
    assert_close(step, -torch.linalg.solve(damped(dense, 0.1), a_problem.gradient))
    assert_close(ggn.logdet(0.1), torch.logdet(damped(dense, 0.1)))
    values = torch.linalg.eigvalsh(dense).clamp(min=0)
    assert_close(ggn.effective_dimension(0.1), (values / (values + 0.1)).sum())
    assert_close(ggn.trace(), dense.trace())
    assert_close(ggn.frobenius_norm(), dense.norm())


def test_forms_of_vectors(conv, method):
    ggn, v = conv.ggn(), vectors(len(conv.dense), 3)
    expected = torch.linalg.solve(damped(conv.dense, 0.2), v)
    operator = ggn.inverse_operator(0.2, method)
    assert operator.shape == ggn.shape
    for apply in (lambda u: ggn.solve(u, 0.2, method), lambda u: operator @ u):
        assert_close(apply(v), expected, 1e-8)
        assert_close(apply(v[:, 0]), expected[:, 0], 1e-8)
        named = apply(ggn.unflatten(v[:, 0]))
        assert {name: x.shape for name, x in named.items()} == {
            name: p.shape for name, p in conv.model.named_parameters()
        }
        assert_close(ggn.flatten(named), expected[:, 0], 1e-8)
        assert apply(v[:, :0]).shape == (len(v), 0)


@pytest.mark.parametrize("count", [1, 2, 4, 12])
def test_several_dampings(a_problem, count, method):
    ggn = a_problem.ggn()
    dense, v = a_problem.dense, vectors(ggn.shape[0], 2)
    deltas = torch.logspace(-1, 1, count).double()
    expected = torch.stack([torch.linalg.solve(damped(dense, d), v) for d in deltas])
    assert_close(ggn.solve(v, deltas, method), expected, 1e-8)
    assert_close(ggn.solve(v[:, 0], deltas.tolist(), method), expected[:, :, 0], 1e-8)
    named = ggn.solve(ggn.unflatten(v[:, 0]), tuple(deltas.tolist()), method)
    assert all(named[name].shape == (count, *shape) for name, shape in ggn._shapes.items())
    flat = torch.cat([named[name].reshape(count, -1) for name in ggn.parameter_names], dim=1)
    assert_close(flat, expected[:, :, 0], 1e-8)
    determinants = torch.stack([torch.logdet(damped(dense, d)) for d in deltas])
    assert_close(ggn.logdet(deltas), determinants)
    values = torch.linalg.eigvalsh(dense).clamp(min=0)
    assert_close(ggn.effective_dimension(deltas), (values / (values + deltas[:, None])).sum(dim=1))


def test_blocks():
    p = problem("conv")
    blocks = vivit.block_diagonal(p.model, p.loss_func, (p.x, p.y), groups="layer")
    start = 0
    for block in blocks.values():
        stop = start + block.shape[0]
        dense, v = p.dense[start:stop, start:stop], vectors(block.shape[0], 2)
        expected = torch.linalg.solve(damped(dense, 0.1), v)
        assert_close(block.solve(v, 0.1), expected)
        assert_close(block.solve(v, 0.1, ConjugateGradients(1e-12)), expected)
        step = block.flatten(block.newton_step(0.1, flat=True))
        assert_close(step, -torch.linalg.solve(damped(dense, 0.1), p.gradient[start:stop]))
        assert_close(block.logdet(0.1), torch.logdet(damped(dense, 0.1)))
        assert_close(block.trace(), dense.trace())
        start = stop


@pytest.mark.parametrize("damping", [1e-4, 1e-6, 1e-9])
def test_small_dampings(a_problem, damping):
    """Of what is attainable in double precision, for vectors everywhere and in the range."""
    ggn, dense = a_problem.ggn(), a_problem.dense
    for v in (vectors(ggn.shape[0], 3), dense @ vectors(ggn.shape[0], 3)):
        if not v.any():
            continue
        operator = ggn.inverse_operator(damping)
        x = applied(operator, v)
        found = residuals(dense, damping, x, v)
        attainable = dense.norm() * x.norm(dim=0) / v.norm(dim=0)
        assert (found <= 1e-14 * (1 + attainable)).all()
        assert (operator.residual - found).abs().max() <= 1e-14 * (1 + attainable.max())


@pytest.mark.parametrize("damping", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("batches", [1, 2])
def test_single_precision(a_problem, damping, batches):
    """The backward error is that of the precision; what is left is told."""
    dense = a_problem.dense
    ggn = a_problem.ggn(torch.float32, batches)
    for v in (vectors(ggn.shape[0], 3), dense @ vectors(ggn.shape[0], 3)):
        if not v.any():
            continue
        v, operator = v.float(), ggn.inverse_operator(damping)
        x = applied(operator, v)
        found = residuals(dense, damping, x, v)
        attainable = dense.norm() * x.double().norm(dim=0) / v.double().norm(dim=0)
        assert (found <= 1e-6 * (1 + attainable)).all()
        assert (operator.residual - found).abs().max() <= 1e-6 * (1 + attainable.max())


def applied(operator, v):
    """The solution, of which there is a warning if and only if it is not accurate."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        x = operator @ v
    assert bool((operator.residual > torch.finfo(x.dtype).eps ** 0.5).any()) == bool(caught)
    return x


def test_inaccurate_solves_are_told(conv):
    ggn = conv.ggn(torch.float32)
    v, scale = vectors(ggn.shape[0], 1, torch.float32), float(conv.dense.norm())
    with pytest.warns(UserWarning, match=r"relative residual of .*Use a larger damping, or a mod"):
        ggn.solve(v, 1e-7 * scale)
    operator = ggn.inverse_operator(1e-7 * scale)
    with pytest.warns(UserWarning, match=r"the damping 5.8e-07 is small beside the norm"):
        operator @ v
    assert operator.residual > 3e-4
    operator @ v  # told once
    ggn = conv.ggn()
    with pytest.warns(UserWarning, match=r"in torch.float64. Use a larger damping.$"):
        ggn.solve(v.double(), 1e-15 * scale)


PRECISIONS = {
    "again in double precision": {"SMALL_FLOPS": -1},
    "in single precision": {"SMALL_FLOPS": -1, "AFFORDABLE_FLOPS": -1},
}


@pytest.mark.parametrize("limits", PRECISIONS.values(), ids=PRECISIONS.keys())
@pytest.mark.parametrize("name", ["conv", "more columns than parameters"])
def test_precision_of_the_matrix(limits, name, monkeypatch):
    """However it is summed, what is left of the residual is the precision of the solution."""
    p = problem(name)
    v = (p.dense @ vectors(len(p.dense), 2)).float()
    for limit, value in limits.items():
        monkeypatch.setattr(precision, limit, value)
    for damping in (1e-3, 1e-5):
        operator = p.ggn(torch.float32).inverse_operator(damping * float(p.dense.norm()))
        x = operator @ v
        found = residuals(p.dense, damping * p.dense.norm(), x, v)
        assert (found <= 1e-4).all()
        assert (operator.residual <= 1e-4).all()


def test_scalars_in_single_precision_are_told(conv, monkeypatch):
    for limit, value in PRECISIONS["in single precision"].items():
        monkeypatch.setattr(precision, limit, value)
    with pytest.warns(UserWarning, match="below the rounding errors of the curvature matrix"):
        conv.ggn(torch.float32).logdet(1e-8)


@pytest.mark.parametrize("form", [Form.SUM, Form.PRODUCTS], ids=lambda form: form.name)
def test_forms_of_the_smaller_matrix(form, monkeypatch):
    times = Times(product=0.0, sum=1.0) if form is Form.PRODUCTS else Times(1.0, 0.0)
    monkeypatch.setattr(prediction, "_times", lambda *_: times)
    p = problem("more columns than parameters")
    ggn, v = p.ggn(workspace=1), vectors(len(p.dense), 2)
    assert ggn.plan().matrices[0].form is form
    assert_close(ggn.solve(v, 0.1), torch.linalg.solve(damped(p.dense, 0.1), v))
    assert_close(ggn.logdet(0.1), torch.logdet(damped(p.dense, 0.1)))
    step = ggn.flatten(ggn.newton_step(0.1, flat=True))
    assert_close(step, -torch.linalg.solve(damped(p.dense, 0.1), p.gradient))


def test_indefinite_matrices():
    """Rounding errors that the damping does not outweigh count as zero."""
    basis = torch.linalg.qr(vectors(4, 4))[0]
    matrix = basis @ torch.diag(torch.tensor([-1e-3, 0.0, 1.0, 2.0]).double()) @ basis.T
    dampings = Dampings.of([1e-6, 1e-4], torch.float64)
    inverse = inverse_of(matrix, dampings, None)
    assert isinstance(inverse, EigenInverse)
    found = inverse.apply(torch.eye(4).double()[None])
    for damping, x in zip(dampings.values, found, strict=True):
        values = 1 / (torch.tensor([0.0, 0.0, 1.0, 2.0]).double() + damping)
        assert_close(x, basis @ torch.diag(values) @ basis.T, 1e-6)


def test_factors_that_do_not_fit():
    """One decomposition takes the place of several factors."""
    matrix, dampings = torch.eye(10).double(), Dampings.of([1.0, 2.0, 3.0], torch.float64)
    assert isinstance(inverse_of(matrix, dampings, None), CholeskyInverse)
    assert isinstance(inverse_of(matrix, dampings, 2500), EigenInverse)


def test_products_that_are_not_finite():
    x, y = torch.full((4, 2), 1e200, dtype=torch.float64), torch.zeros(4, 3).double()
    ggn = vivit.GGN(nn.Linear(2, 3).double(), MSE, (x, y))
    v = torch.ones(9).double()
    with pytest.raises(InputError, match="NaN or infinite: look for"):
        ggn.solve(v, 1.0, ConjugateGradients(preconditioner_samples=0))


@pytest.mark.parametrize("damping", [1e-2, 1e-8])
def test_iteration_that_stagnates(conv, damping):
    """A tolerance below rounding errors is not attained, and never claimed to be."""
    ggn, v = conv.ggn(torch.float32), vectors(len(conv.dense), 1, torch.float32)
    with pytest.raises(ConvergenceError, match="reached a relative residual of"):
        ggn.solve(v, damping, ConjugateGradients(tolerance=1e-9))


def test_iteration_in_single_precision(conv):
    ggn, v = conv.ggn(torch.float32), vectors(len(conv.dense), 2, torch.float32)
    operator = ggn.inverse_operator(0.1, ConjugateGradients())
    x = operator @ v
    assert (residuals(conv.dense, 0.1, x, v) <= 3.6e-4).all()
    assert (operator.residual <= 3.5e-4).all()


def test_without_check(conv):
    ggn, v = conv.ggn(), vectors(len(conv.dense), 2)
    operator = ggn.inverse_operator(0.1, check=False)
    assert_close(operator @ v, torch.linalg.solve(damped(conv.dense, 0.1), v))
    assert operator.residual is None


@pytest.mark.parametrize("name", ["conv", "more columns than parameters"])
def test_preconditioner_of_scipy(name, method):
    """With the exact inverse, conjugate gradients need one step."""
    p = problem(name)
    ggn, v = p.ggn(), vectors(len(p.dense), 1)[:, 0].numpy()
    inverse = ggn.inverse_operator(0.1, method).to_scipy()
    dense, steps = damped(p.dense, 0.1).numpy(), []
    x, failed = cg(dense, v, rtol=1e-8, M=inverse, callback=steps.append)
    assert not failed
    assert len(steps) <= 2
    assert numpy.abs(dense @ x - v).max() <= 1e-6
    several = vectors(len(v), 2)
    expected = torch.linalg.solve(damped(p.dense, 0.1), several)
    assert_close(torch.from_numpy(inverse @ several.numpy()), expected, 1e-8)


def test_structure(a_problem, method):
    """The inverse is linear, symmetric and an inverse; larger dampings commute with it."""
    ggn = a_problem.ggn()
    size = ggn.shape[0]
    u, v = vectors(size, 2).T
    inverse = ggn.inverse_operator(0.3, method)
    assert_close(inverse @ (2 * u - v), 2 * (inverse @ u) - inverse @ v, 1e-8)
    assert_close(v @ (inverse @ u), u @ (inverse @ v), 1e-8)
    assert_close(inverse @ (ggn @ u + 0.3 * u), u, 1e-8)
    other = ggn.solve(inverse @ u, 2.0, method)
    assert_close(inverse @ ggn.solve(u, 2.0, method), other, 1e-8)


def test_small_memory(conv):
    """What does not fit is iterated on; what is asked for is refused."""
    ggn = conv.ggn(memory=1000, workspace=1)
    v = vectors(len(conv.dense), 1)
    operator = ggn.inverse_operator(0.1)
    assert_close(operator @ v, torch.linalg.solve(damped(conv.dense, 0.1), v), 1e-8)
    assert (operator.residual <= 1e-10).all()
    step = ggn.flatten(ggn.newton_step(0.1, flat=True))
    assert_close(step, -torch.linalg.solve(damped(conv.dense, 0.1), conv.gradient), 1e-8)
    with pytest.raises(vivit.InsufficientMemoryError):
        ggn.solve(v, 0.1, method=FullGram())


def test_preconditioner_saves_products():
    """The more samples it knows, the fewer products; few samples do no harm."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 40), nn.Tanh(), nn.Linear(40, 3)).double()
        x, y = torch.randn(400, 5).double(), torch.randint(3, (400,))
    ggn = vivit.GGN(model, CE, (x, y))
    v, damping = vectors(ggn.shape[0], 1), 1e-4
    exact = ggn.solve(v, damping)
    for samples, products in ((None, 30), (40, 70), (10, 140)):
        method = ConjugateGradients(1e-6, products, samples)
        assert_close(ggn.solve(v, damping, method), exact, 1e-4)
    with pytest.raises(ConvergenceError, match=r"with 100 products, where 1.0e-06 is asked for"):
        ggn.solve(v, damping, ConjugateGradients(1e-6, 100, preconditioner_samples=0))


def test_models_that_cannot_run_on_few_samples():
    """There is no preconditioner then."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(mlp(), nn.Dropout(0.4)).double()
        x, y = torch.randn(8, 5).double(), torch.randint(3, (8,))
        ggn = vivit.GGN(model, CE, (x, y))
    v = vectors(ggn.shape[0], 1)
    assert_close(ggn.solve(v, 0.1, ConjugateGradients(1e-11)), ggn.solve(v, 0.1), 1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_step_is_flat_where_the_gradient_is(conv, dtype):
    """Of exact curvature it is in the range of ``V``, whatever the damping."""
    ggn = conv.ggn(dtype)
    values, basis = torch.linalg.eigh(conv.dense)
    flat = basis[:, values < 1e-12 * values[-1]]
    step = ggn.flatten(ggn.newton_step(1e-2, flat=True)).double()
    eps = torch.finfo(dtype).eps
    assert (flat.T @ step).norm() <= 1e3 * eps * step.norm()
    expected = -torch.linalg.solve(damped(conv.dense, 1e-2), conv.gradient)
    assert_close(step, expected, 1e4 * eps)


class DifferentiableOnce(nn.Module):
    """Has no Jacobian-vector products."""

    def forward(self, x):
        return Once.apply(x)


class Doubled(nn.Module):
    """The same function, with them."""

    def forward(self, x):
        return 2 * x


def test_models_without_products():
    """A step along the gradients' own range does without them; a solve cannot, and says so."""
    x, y, found = torch.randn(4, 5).double(), torch.arange(4) % 3, []
    weights = mlp().double()
    for last in (DifferentiableOnce(), Doubled()):
        ggn = vivit.GGN(nn.Sequential(weights, last), CE, (x, y))
        found.append(ggn.flatten(ggn.newton_step(0.1, flat=True)))
        if isinstance(last, DifferentiableOnce):
            with pytest.raises(vivit.UnsupportedError):
                ggn.solve(ggn.gradient(), 0.1)
    assert_close(*found)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(2, 4),
    st.floats(-6, 3),
    st.integers(1, 3),
    st.sampled_from([None, ConjugateGradients(1e-10)]),
)
def test_random_systems(samples, inputs, outputs, exponent, count, method):
    """Whichever side is smaller: an inverse times its matrix is the identity."""
    torch.manual_seed(samples)
    model, damping = nn.Linear(inputs, outputs).double(), 10.0**exponent
    data = torch.randn(samples, inputs).double(), torch.arange(samples) % outputs
    ggn, v = vivit.GGN(model, CE_SUM, data), vectors((inputs + 1) * outputs, count)
    x = ggn.solve(v, damping, method)
    assert_close(ggn @ x + damping * x, v, 1e-8)
    assert_close(ggn.solve(ggn @ v + damping * v, damping, method), v, 1e-3)
    values = torch.linalg.eigvalsh(dense_of(ggn)).clamp(min=0)
    assert_close(ggn.logdet(damping), (values + damping).log().sum())


def test_step_with_all_pairs(conv):
    """Where no eigenvalue is dropped, it is the sum over eigenvectors."""
    ggn = conv.ggn()
    expected = ggn.flatten(ggn.newton_step(0.1))
    assert_close(ggn.flatten(ggn.newton_step(0.1, flat=True)), expected)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
@pytest.mark.parametrize("solver", [FullGram(), ConjugateGradients()], ids=["matrix", "iteration"])
def test_vectors_of_any_length(conv, solver, scale):
    """Even where the squares of their entries leave the range of the precision."""
    ggn, v = conv.ggn(torch.float32), vectors(len(conv.dense), 2, torch.float32)
    operator = ggn.inverse_operator(0.1, solver)
    assert_close((operator @ (scale * v)) / scale, operator @ v, 1e-4)
    assert (operator.residual > 0).all()


def test_overflow_is_told(conv):
    ggn, v = conv.ggn(torch.float32), vectors(len(conv.dense), 1, torch.float32)
    with pytest.warns(UserWarning, match=r"relative residual of (inf|nan)"):
        ggn.solve(v, 1e-38)
    with pytest.raises((InputError, ConvergenceError)):
        ggn.solve(v, 1e-38, ConjugateGradients())


def test_zero_and_no_vectors(conv, method):
    operator = conv.ggn().inverse_operator(0.1, method)
    zero = torch.zeros(len(conv.dense), 2).double()
    assert torch.equal(operator @ zero, zero)
    assert torch.equal(operator.residual, torch.zeros(2).double())


def test_single_precision_scalars(conv):
    ggn, values = conv.ggn(torch.float32), torch.linalg.eigvalsh(conv.dense).clamp(min=0)
    damping = 1e-6
    found = [ggn.trace(), ggn.frobenius_norm(), ggn.logdet(damping)]
    expected = [values.sum(), values.norm(), (values + damping).log().sum()]
    found.append(ggn.effective_dimension(damping))
    expected.append((values / (values + damping)).sum())
    for x, y in zip(found, expected, strict=True):
        assert x.dtype is torch.float32
        assert x.shape == ()
        assert_close(x.double(), y, 1e-4)


def test_scalars_below_rounding_errors():
    """They would be those of rounding errors, so there is a warning."""
    p = problem("conv")
    scale = float(p.dense.norm())
    for compute in (vivit.GGN.logdet, vivit.GGN.effective_dimension):
        with pytest.warns(UserWarning, match="below the rounding errors of the curvature matrix"):
            assert math.isfinite(compute(p.ggn(), 1e-17 * scale))


BAD_DAMPINGS = {
    "0 positive": (0, "must be positive and finite in torch.float64, got 0"),
    "negative": (-1.0, "must be positive and finite in torch.float64, got -1"),
    "one of two": ([1.0, -2.0], "must be positive and finite in torch.float64, got -2"),
    "nan": (float("nan"), "must be positive and finite in torch.float64, got nan"),
    "inf": (float("inf"), "must be positive and finite in torch.float64, got inf"),
    "bool": (True, r"must be a positive number, or a sequence .* got True"),
    "bools": (torch.tensor([True]), "must be a positive number, or a sequence"),
    "str": ("1", "must be a positive number, or a sequence or tensor of shape .* got '1'"),
    "none": (None, "must be a positive number, or a sequence .* got None"),
    "matrix": (torch.ones(2, 2), "must be a positive number, or a sequence"),
    "strings": (["1"], "must be a positive number, or a sequence"),
    "empty": ([], "There are no dampings: give at least one"),
}


@pytest.mark.parametrize(("damping", "message"), BAD_DAMPINGS.values(), ids=BAD_DAMPINGS.keys())
def test_bad_dampings(damping, message):
    ggn = problem("mlp").ggn()
    v = ggn.gradient()
    for compute in (
        lambda: ggn.solve(v, damping),
        lambda: ggn.logdet(damping),
        lambda: ggn.effective_dimension(damping),
        lambda: ggn.inverse_operator(damping),
        lambda: ggn.newton_step(damping, flat=True),
    ):
        with pytest.raises(InputError, match=message):
            compute()


def test_damping_that_vanishes_in_single_precision():
    ggn = problem("mlp").ggn(torch.float32)
    with pytest.raises(InputError, match=r"positive and finite in torch.float32, got 1e-60"):
        ggn.solve(ggn.gradient(), 1e-60)


@pytest.mark.parametrize("damping", [[1.0], [1.0, 2.0], torch.ones(2)])
def test_several_dampings_where_one_is_expected(damping):
    ggn = problem("mlp").ggn()
    with pytest.raises(InputError, match="One damping is expected here"):
        ggn.inverse_operator(damping)
    with pytest.raises(InputError, match="One damping is expected here"):
        ggn.newton_step(damping, flat=True)


def test_bad_vectors():
    ggn = problem("mlp").ggn()
    size, good = ggn.shape[0], ggn.gradient()
    name = next(iter(good))
    bad = [
        (torch.ones(size + 1).double(), rf"needs shape \[{size}\], or .* got \[{size + 1}\]"),
        (torch.ones(size, 1, 1).double(), r"needs shape \["),
        (torch.ones(size), "must be torch.float64 on cpu, as the parameters are, got torch.float"),
        (torch.ones(size, device="meta").double(), "on cpu, as the parameters are, .* on meta"),
        (torch.ones(size).double() / 0, "entries that are NaN or infinite"),
        (numpy.ones(size), "a tensor or a mapping from parameter names to tensors, got ndarray"),
        (good | {name: 1.0}, rf"got float for '{name}'"),
        (good | {name: good[name].float()}, rf"for '{name}' must be torch.float64"),
        (good | {name: good[name][:1]}, rf"tensor for '{name}' needs shape"),
        ({name: good[name]}, "needs one tensor per parameter: missing"),
    ]
    operator = ggn.inverse_operator(1.0)
    for v, message in bad:
        for compute in (lambda v=v: ggn.solve(v, 1.0), lambda v=v: operator @ v):
            with pytest.raises(InputError, match=message):
                compute()


BAD_METHODS = {
    "tolerance": ({"tolerance": 0.0}, r"needs a tolerance in \(0, 1\), got 0"),
    "products": ({"max_products": 0}, "needs at least one product, got 0"),
    "samples": ({"preconditioner_samples": -1}, "whole number >= 0, or None, got -1"),
    "half a sample": ({"preconditioner_samples": 0.5}, "whole number >= 0, or None, got 0.5"),
}


@pytest.mark.parametrize(("options", "message"), BAD_METHODS.values(), ids=BAD_METHODS.keys())
def test_bad_settings(options, message):
    with pytest.raises(InputError, match=message):
        ConjugateGradients(**options)


def test_bad_methods():
    ggn = problem("mlp").ggn()
    for method in (vivit.Lanczos(), "cg"):
        with pytest.raises(InputError, match=r"must be FullGram\(\) or ConjugateGradients\(\)"):
            ggn.solve(ggn.gradient(), 1.0, method)
        with pytest.raises(InputError, match=r"must be FullGram\(\) or ConjugateGradients\(\)"):
            ggn.inverse_operator(1.0, method)


@pytest.mark.parametrize(
    "options",
    [
        {"k": 2},
        {"criterion": lambda values: [0]},
        {"rank_tolerance": 1e-3},
        {"method": FullGram()},
        {"damping": vivit.BootstrapDamping()},
    ],
    ids=lambda options: next(iter(options)),
)
def test_selections_that_do_not_fit_flat(options):
    with pytest.raises(InputError, match="With flat=True the step has all directions"):
        problem("mlp").ggn().newton_step(**options, flat=True)


def test_parameters_that_have_changed():
    p = problem("mlp")
    model = deepcopy(p.model)
    ggn = vivit.GGN(model, p.loss_func, (p.x, p.y))
    v = ggn.gradient()
    operators = [ggn.inverse_operator(1.0), ggn.inverse_operator(1.0, ConjugateGradients())]
    with torch.no_grad():
        next(model.parameters()).add_(1)
    for compute in (lambda: ggn.solve(v, 1.0), *(lambda o=o: o @ v for o in operators)):
        with pytest.raises(vivit.StaleError):
            compute()


@cache
def linear_on_many():
    """A layer on many samples in single precision, and its dense GGN in double."""
    torch.manual_seed(0)
    model, x, y = nn.Linear(20, 5), torch.randn(2000, 20), torch.randint(5, (2000,))
    double = deepcopy(model).double()
    return model, x, y, oracle.ggn(double, CE, x.double(), y, ["weight", "bias"])


@pytest.mark.parametrize("form", ["sum", "products"])
@pytest.mark.parametrize("damping", [1e-3, 1e-5, 1e-6])
def test_residuals_of_few_parameters_in_single_precision(form, damping, monkeypatch):
    """What is told counts the rounding errors of the matrix itself."""
    if form == "products":
        monkeypatch.setattr("vivit.gram.forms.CLEARLY", 0.0)
    model, x, y, dense = linear_on_many()
    norm = float(dense.norm())
    ggn = vivit.GGN(model, CE, (x, y), workspace=10**4 if form == "sum" else None)
    why = ggn.plan().matrices[0].why
    assert ("columns do not fit" if form == "sum" else "D products") in why
    v, operator = vectors(len(dense), 2).float(), ggn.inverse_operator(damping * norm)
    found = residuals(dense, damping * norm, applied(operator, v), v)
    assert (found <= 3 * operator.residual + 1e-6).all()
