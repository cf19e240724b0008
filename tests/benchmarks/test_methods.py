"""Every method computes what it says, on a problem small enough for the dense oracle."""

import copy
import math
from dataclasses import asdict, replace

import oracle
import pytest
import torch
from benchmark_cases import TASKS, regression_problem, small_problem
from torch import nn

from benchmarks.grid.suites import SUITES
from benchmarks.measure.accuracy import Outcome, Reference
from benchmarks.measure.time_and_memory import (
    OUT_OF_MEMORY,
    peak_bytes,
    runs_per_sample,
    seconds_per_run,
)
from benchmarks.methods import METHODS, NotApplicableError, find_method, lanczos
from benchmarks.methods.base import refuse_batches
from benchmarks.methods.power_iteration import Rule, power_iteration
from benchmarks.problems.problem import Instance
from benchmarks.records.tasks import Computed, Grouping, Subset, Task
from benchmarks.run.reference import largest_residual, make_reference, residual_of_pairs
from vivit import GGN
from vivit.errors import ALLOCATION_FAILED

EMPTY = Reference.single(torch.empty(0))
DONE_BY = {
    "gram": set(TASKS) - {"preconditioned gradient"},
    "naive_gram": {"all eigenvalues", "Gram matrix"},
    "ranks": {"all eigenvalues", "Gram matrix"},
    "power_iteration": {"1 leading", "3 leading", "3 leading, per layer"},
    "gram_power_iteration": {"1 leading", "3 leading"},
    "block_lanczos": {"1 leading", "3 leading"},
    "lanczos": {"1 leading", "3 leading"},
    "lobpcg": {"1 leading", "3 leading"},
    "quadrature": {"spectral density"},
    "sketched_eigh": {"1 leading", "3 leading"},
    "kfac_expand": {"preconditioned gradient", "damped solve"},
    "kfac_reduce": {"preconditioned gradient", "damped solve"},
    "ntk_jacobian": {"neural tangent kernel"},
    "ntk_products": {"neural tangent kernel"},
    "per_sample_gradients": {"eigenvalues of the empirical Fisher"},
    "conjugate_gradients": {"damped solve"},
    "diagonal_trace": {"trace"},
    "curvlinops_trace": {"trace"},
    "skerch_trace": {"trace"},
    "matrix_free_product": {"product with a vector"},
    "eigenthings": {"1 leading", "3 leading", "product with a vector"},
    "eigenthings_differences": {"1 leading", "3 leading", "product with a vector"},
    "damped_newton": {"preconditioned gradient"},
    "damped_newton_leading": {"preconditioned gradient"},
}
TOLERANCES = {
    "power_iteration": 2e-2,
    "gram_power_iteration": 2e-2,
    "lanczos": 1e-3,
    "lobpcg": 1e-3,
    "quadrature": 0.9,
    "sketched_eigh": 0.2,
    "curvlinops_trace": 0.1,
    "skerch_trace": 0.1,
    "conjugate_gradients": 1e-3,
    "eigenthings": 1e-3,
    "eigenthings_differences": 2e-2,
}
APPROXIMATE = {"kfac_expand": 3, "kfac_reduce": 3}
"""Errors of solves: ignoring curvature is an error of one."""
OF_BATCHES = {
    "conjugate_gradients": Task(Computed.SOLVE),
    "curvlinops_trace": Task(Computed.TRACE),
    "skerch_trace": Task(Computed.TRACE),
    "matrix_free_product": Task(Computed.PRODUCT),
}
IN_SINGLE_PRECISION = ("lanczos", "lobpcg")


@pytest.mark.parametrize("title", TASKS)
@pytest.mark.parametrize("name", DONE_BY)
def test_methods_agree_with_the_reference(name, title):
    """Or refuse, in words; a second run is not disturbed by the first."""
    dtype = torch.float32 if name in IN_SINGLE_PRECISION else torch.float64
    problem, task = small_problem(dtype, batch_size=16), TASKS[title]
    if title not in DONE_BY[name]:
        with pytest.raises(
            NotApplicableError, match=f"{name} is measured for .*, not for: {title}"
        ):
            METHODS[name].prepare(problem, task)
        return
    reference, _ = make_reference(problem.double(), task)
    run = METHODS[name].prepare(problem, task)
    for _ in range(2):
        check = METHODS[name].check(run(), problem, task, reference)
        largest = APPROXIMATE.get(name, 0) if task.computed is Computed.SOLVE else 0
        assert check.error < (largest or TOLERANCES.get(name, 1e-10))
        assert check.tolerance >= 1e-4
    assert all(p.grad is None for p in problem.model.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_samples_in_several_batches(name):
    """They are those of a single batch, or refused."""
    method, task = METHODS[name], OF_BATCHES.get(name, Task.leading(3))
    dtype = torch.float32 if name in IN_SINGLE_PRECISION else torch.float64
    problem = replace(small_problem(dtype, batch_size=16), pieces=3)
    assert [len(y) for _, y in problem.batches] == [6, 6, 4]
    if not method.takes_batches:
        with pytest.raises(NotApplicableError, match="samples in a single batch, not in 3"):
            refuse_batches(method, problem)
        return
    refuse_batches(method, problem)
    reference, _ = make_reference(replace(problem, pieces=1).double(), task)
    outcome = method.prepare(problem, task)()
    assert method.check(outcome, problem, task, reference).error < TOLERANCES.get(name, 1e-10)
    if outcome.vectors is not None:
        assert residual_of_pairs(outcome, problem, task) < TOLERANCES.get(name, 1e-3)


@pytest.mark.parametrize("name", ["gram", "original", "original_lean"])
@pytest.mark.parametrize(
    "task",
    [
        Task(Computed.DERIVATIVES, 3, subset=Subset.EIGHTH),
        Task(Computed.DERIVATIVES, 3, grouping=Grouping.LAYER),
        Task(Computed.GRAM, grouping=Grouping.LAYER),
        Task(Computed.NTK, grouping=Grouping.LAYER),
        Task(Computed.TRACE, subset=Subset.EIGHTH),
    ],
    ids=lambda task: task.title,
)
def test_combinations_without_a_reference_are_refused(name, task):
    with pytest.raises(NotApplicableError, match=f"{name} is measured .*, not for: {task.title}"):
        METHODS[name].prepare(small_problem(), task)


@pytest.mark.parametrize("grouping", [Grouping.NETWORK, Grouping.LAYER])
@pytest.mark.parametrize("subset", [*Subset])
def test_steps_of_variants(subset, grouping):
    """They have no reference: two implementations must agree, on slopes of all samples."""
    task = Task(Computed.NEWTON_STEP, subset=subset, grouping=grouping)
    problem = small_problem(batch_size=16)
    ours, drop_in = (METHODS[name].prepare(problem, task)() for name in ("gram", "drop_in"))
    torch.testing.assert_close(ours.values, drop_in.values)
    assert len(ours.values) == problem.num_parameters
    if not task.is_plain:
        with pytest.raises(NotApplicableError, match=f"no reference for: {task.title}. Steps of"):
            make_reference(problem, task)


def test_lobpcg_refuses_what_scipy_would_decompose():
    """With 56 parameters, 11 pairs are found by iteration; 12 would be by other means, wrongly."""
    problem, method = small_problem(torch.float32, batch_size=16), METHODS["lobpcg"]
    reference, _ = make_reference(small_problem(batch_size=16), Task.leading(11))
    outcome = method.prepare(problem, Task.leading(11))()
    check = method.check(outcome, problem, Task.leading(11), reference)
    assert check.error < check.tolerance
    with pytest.raises(NotApplicableError, match="at least 5 parameters for each of 12 pairs, go"):
        method.prepare(problem, Task.leading(12))


@pytest.mark.parametrize(("computed", "number"), [("eigenvalues", 2), ("newton_step", 4)])
def test_memory_of_the_matrices(computed, number):
    """The Gram matrix, and what LAPACK holds beside it."""
    problem, task = small_problem(torch.float32, batch_size=16), Task(Computed(computed))
    run = METHODS["matrix_memory"].prepare(problem, task)
    columns = GGN(problem.model, problem.loss_func, (problem.inputs, problem.targets)).num_columns
    outcome = run()
    assert outcome.details == {"num_columns": columns, "matrices": number}
    assert METHODS["matrix_memory"].check(outcome, problem, task, EMPTY).error == 0


def test_memory_of_the_matrices_refuses_what_has_none():
    with pytest.raises(NotApplicableError, match="a yardstick of eigenvalues and steps, not of"):
        METHODS["matrix_memory"].prepare(small_problem(), Task(Computed.GRAM))


@pytest.mark.parametrize(
    "name", ["gram", "power_iteration", "gram_power_iteration", "lanczos", "lobpcg"]
)
def test_eigenvectors(name):
    problem = small_problem(torch.float32 if name in IN_SINGLE_PRECISION else torch.float64)
    outcome = METHODS[name].prepare(problem, Task.leading(3))()
    (vectors,) = outcome.vectors
    assert vectors.shape == (3, problem.num_parameters)
    residual = largest_residual(problem, outcome.values, vectors)
    assert residual < (1e-12 if name == "gram" else 0.1)


@pytest.mark.parametrize("name", ["gram", "drop_in"])
def test_eigenvectors_of_blocks(name):
    problem, task = small_problem(torch.float64, 16), Task.leading(3, grouping=Grouping.LAYER)
    outcome = METHODS[name].prepare(problem, task)()
    assert outcome.blocks == (3, 3)
    assert [vectors.shape for vectors in outcome.vectors] == [(3, 20), (3, 36)]
    assert residual_of_pairs(outcome, problem, task) < 1e-7
    swapped = replace(outcome, vectors=(outcome.vectors[0].roll(1, dims=0), outcome.vectors[1]))
    assert residual_of_pairs(swapped, problem, task) > 1e-2


def test_lanczos_counts_its_products():
    problem = small_problem(torch.float32)
    outcome = METHODS["lanczos"].prepare(problem, Task.leading(2))()
    assert outcome.values.dtype is torch.float32
    assert (outcome.values.diff() > 0).all()
    assert outcome.details["products"] >= 4


def test_quadrature_weighs_what_it_finds():
    """Weights sum up to one; the mean that they give is that of the eigenvalues by and large."""
    problem = small_problem(batch_size=16)
    outcome = METHODS["quadrature"].prepare(problem, Task(Computed.DENSITY))()
    assert float(outcome.weights.sum()) == pytest.approx(1)
    assert outcome.details["products"] == len(outcome.values) == problem.num_parameters


def test_kfac_of_one_sample_and_one_layer():
    """Then it is the GGN, but for the damping of its factors: ``(A + a I) x (B + b I)``."""
    problem = regression_problem().first(1)
    linear = problem.model[0].requires_grad_(False)
    problem = replace(problem, model=nn.Sequential(linear, problem.model[2]))
    layer, x = problem.model[1], problem.model[0](problem.inputs)[0].detach()
    outcome = METHODS["kfac_expand"].prepare(problem, Task(Computed.PRECONDITIONED))()
    a, b = torch.outer(x, x), torch.eye(2).double()  # the loss Hessian of a mean of two squares
    pi = ((2 * a.trace()) / (5 * b.trace())) ** 0.5
    root = 1e-3**0.5
    a = a + pi * root * torch.eye(5)
    b = b + root / pi * torch.eye(2)
    error = layer(x) - problem.targets[0]
    weight = -torch.linalg.solve(b, torch.outer(error, x)) @ torch.linalg.inv(a)
    assert torch.allclose(outcome.values[:10], weight.flatten())


def test_kfac_reduce_sums_over_positions_first():
    """One sample through one convolution: the factor of inputs is of the summed windows."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten()).double()
    x, y = torch.randn(1, 1, 3, 3).double(), torch.randn(1, 8).double()
    problem = Instance(model, nn.MSELoss(), x, y)
    task = Task(Computed.PRECONDITIONED)
    reduced, expanded = (
        METHODS[name].prepare(problem, task)().values for name in ("kfac_reduce", "kfac_expand")
    )
    windows = nn.functional.unfold(x, 2)[0]  # [inputs, positions]
    mean = windows.mean(dim=1)
    a = torch.outer(mean, mean)
    b = torch.eye(2).double() * 4 * 2 / 8  # cotangents summed over the four positions
    pi = ((2 * a.trace()) / (4 * b.trace())) ** 0.5
    a = a + pi * 1e-3**0.5 * torch.eye(4)
    b = b + 1e-3**0.5 / pi * torch.eye(2)
    error = (model(x) - y).reshape(2, 4) * 2 / 8
    weight = -torch.linalg.solve(b, error @ windows.T) @ torch.linalg.inv(a)
    assert torch.allclose(reduced[:8], weight.flatten())
    assert not torch.allclose(expanded[:8], weight.flatten())


def test_backpropagation_gives_the_factor_at_the_first_layer():
    problem = regression_problem(torch.float32)
    method, task = METHODS["backpropagation"], Task(Computed.GRAM)
    outcome = method.prepare(problem, task)()
    linear, _, last = problem.model
    active = (linear(problem.inputs) > 0).float()
    expected = 0.5 * last.weight[:, None, :] * active  # sqrt(2 / (N C)) = 1 / 2
    assert torch.allclose(outcome.values, expected, atol=1e-6)
    assert method.check(outcome, problem, task, EMPTY).error < 1e-6
    wrong = method.check(Outcome(1.5 * outcome.values), problem, task, EMPTY)
    assert wrong.error == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize(
    ("problem", "task"),
    [(regression_problem(), Task()), (small_problem(), Task(Computed.GRAM))],
    ids=["another task", "another loss"],
)
def test_backpropagation_is_for_gram_matrices_of_square_losses(problem, task):
    with pytest.raises(NotApplicableError, match=f"square losses, not of: {task.title}, "):
        METHODS["backpropagation"].prepare(problem, task)


@pytest.mark.parametrize("name", ["gram", "naive_gram"])
def test_square_losses(name):
    problem, task = regression_problem(), Task(Computed.GRAM)
    reference, _ = make_reference(problem, task)
    outcome = METHODS[name].prepare(problem, task)()
    assert METHODS[name].check(outcome, problem, task, reference).error < 1e-12


def test_matrix_products_have_the_planned_flops():
    problem = small_problem(torch.float32)
    method, task = METHODS["matrix_product"], Task(Computed.GRAM)
    outcome = method.prepare(problem, task)()
    plan = GGN(problem.model, problem.loss_func, (problem.inputs, problem.targets)).plan()
    size = plan.num_columns
    assert len(outcome.values) == size
    assert abs(outcome.details["flops"] - plan.flops) <= size**2
    assert method.check(outcome, problem, task, EMPTY).error < 1e-5
    wrong = Outcome(1.5 * outcome.values, details=outcome.details)
    assert method.check(wrong, problem, task, EMPTY).error == pytest.approx(0.5, rel=1e-4)
    with pytest.raises(NotApplicableError, match="yardstick of Gram matrices, not of: all eig"):
        method.prepare(problem, Task())


def test_power_iteration_follows_the_protocol():
    problem = small_problem()
    ggn = GGN(problem.model, problem.loss_func, (problem.inputs, problem.targets))
    generator = torch.Generator().manual_seed(0)
    values, vectors, iterations = power_iteration(ggn, 3, generator, problem.inputs, Rule())
    assert max(iterations) <= 100
    assert (vectors.norm(dim=1) - 1).abs().max() < 1e-12
    off_diagonal = (vectors @ vectors.T - torch.eye(3)).abs().max()
    assert off_diagonal < 1e-10
    assert (values[:-1] >= 0.9 * values[1:]).all()


def test_a_study_of_tolerances_keeps_what_is_inaccurate():
    """A finer tolerance takes more products and gives better values; none is refused."""
    problem = small_problem(batch_size=16)
    task = Task.leading(3)
    reference, _ = make_reference(problem, task)
    found = {}
    for text in ("power_iteration:tolerance=0.1", "power_iteration:tolerance=1e-5"):
        method = find_method(text)
        outcome = method.prepare(problem, task)()
        check = method.check(outcome, problem, task, reference)
        assert check.error <= check.tolerance == float("inf")
        found[text] = (check.error, sum(outcome.details["iterations"]))
    (rough, few), (fine, many) = found.values()
    assert fine < 1e-3 < rough
    assert few < many
    assert METHODS["power_iteration"].tolerance == 0.1  # the registry's own is another object


@pytest.mark.parametrize("name", METHODS)
def test_settings_are_part_of_a_method(name):
    """One way to write each: what is the method's own is left out, numbers are as Python's."""
    method = METHODS[name]
    assert method.text == find_method(name).text == name
    own = {} if method.settings is None else asdict(method.settings)
    for setting, value in own.items():
        assert find_method(f"{name}:{setting}={value}").text == name
        chosen = find_method(f"{name}:{setting}={value * 10:e}")
        assert chosen.text == f"{name}:{setting}={value * 10}"
        assert getattr(chosen.settings, setting) == value * 10
        assert type(getattr(chosen.settings, setting)) is type(value)
        assert chosen.name == name
        assert chosen.tolerance == math.inf
        assert find_method(chosen.text).settings == chosen.settings


@pytest.mark.parametrize("tolerance", [0.5, 1e-6])
def test_tolerance_of_lanczos_is_used(tolerance, monkeypatch):
    given = []
    monkeypatch.setattr(lanczos, "eigsh", lambda *_, tol, **__: given.append(tol) or (None, None))
    run = find_method(f"lanczos:tolerance={tolerance}").prepare(small_problem(), Task.leading(2))
    with pytest.raises(TypeError):  # there is no result
        run()
    assert given == [tolerance]


def test_settings_are_used():
    """The number of products, or of iterations, is another one."""
    problem, density = small_problem(), Task(Computed.DENSITY)
    counts = [
        find_method(text).prepare(problem, task)().details[what]
        for text, task, what in (
            ("quadrature:steps=7", density, "products"),
            ("lobpcg:most_iterations=1", Task.leading(2), "products"),
            ("lobpcg", Task.leading(2), "products"),
            ("power_iteration:most_iterations=3", Task.leading(2), "iterations"),
        )
    ]
    assert counts[0] == 7
    assert counts[1] < counts[2]
    assert counts[3] == [3, 3]


def test_power_iteration_in_blocks():
    problem, task = small_problem(batch_size=16), Task.leading(2, grouping=Grouping.LAYER)
    outcome = METHODS["power_iteration"].prepare(problem, task)()
    assert outcome.blocks == (2, 2)
    assert len(outcome.details["iterations"]) == 4
    reference, _ = make_reference(problem, task)
    check = METHODS["power_iteration"].check(outcome, problem, task, reference)
    assert check.error < 2e-2


def test_gradient():
    problem = small_problem(torch.float32)
    outcome = METHODS["gradient"].prepare(problem, Task())()
    double = copy.deepcopy(problem.model).double()
    names = [name for name, _ in double.named_parameters()]
    exact = oracle.gradient(
        double, problem.loss_func, problem.inputs.double(), problem.targets, names
    )
    error = METHODS["gradient"].check(outcome, problem, Task(), EMPTY).error
    assert error == pytest.approx(float((outcome.values - exact).norm() / exact.norm()), rel=1e-6)
    assert error < 1e-6
    wrong = METHODS["gradient"].check(Outcome(1.5 * outcome.values), problem, Task(), EMPTY)
    assert wrong.error == pytest.approx(0.5, rel=1e-4)


def test_suites_name_methods_that_exist():
    for suite in SUITES.values():
        for method in suite.methods:
            assert find_method(method).text == method


def test_time():
    calls = []
    seconds = seconds_per_run(lambda: calls.append(sum(range(20_000))), number=5)
    assert len(calls) == 5
    assert seconds > 0
    assert [runs_per_sample(s) for s in (0.0, 0.006, 0.02, 3.0)] == [20_000_000, 4, 1, 1]


def test_peak_memory():
    """Known allocations are found, what was there before is not counted."""
    kept = torch.ones(2**22)
    peak = peak_bytes(lambda: torch.ones(2**24).sum(), "cpu")
    assert peak == pytest.approx(2**26, rel=0.1)
    assert kept.sum() == 2**22


def test_the_library_knows_the_same_errors_of_allocation():
    """Two lists, since the harness must not import the library before a method does."""
    assert OUT_OF_MEMORY == ALLOCATION_FAILED
