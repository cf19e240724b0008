"""Every method computes what it says, on a problem small enough for the dense oracle."""

import copy

import oracle
import pytest
import torch
from benchmark_cases import TASKS, small_problem

from benchmarks.accuracy import Outcome, Reference
from benchmarks.measure import peak_bytes, runs_per_sample, seconds_per_run
from benchmarks.methods import METHODS, NotApplicableError
from benchmarks.methods.power_iteration import MAX_ITERATIONS, power_iteration
from benchmarks.reference import largest_residual, make_reference
from benchmarks.suites import SUITES
from benchmarks.tasks import Task
from vivit import GGN

EMPTY = Reference.single(torch.empty(0))
DONE_BY = {
    "gram": set(TASKS),
    "naive_gram": {"all eigenvalues", "Gram matrix"},
    "power_iteration": {"1 leading", "3 leading"},
}
TOLERANCES = {"power_iteration": 2e-2}


@pytest.mark.parametrize("title", TASKS)
@pytest.mark.parametrize("name", DONE_BY)
def test_methods_agree_with_the_reference(name, title):
    """Or refuse, in words; a second run is not disturbed by the first."""
    problem, task = small_problem(batch_size=16), TASKS[title]
    if title not in DONE_BY[name]:
        with pytest.raises(
            NotApplicableError, match=f"{name} is measured for .*, not for: {title}"
        ):
            METHODS[name].prepare(problem, task)
        return
    reference, _ = make_reference(problem, task)
    run = METHODS[name].prepare(problem, task)
    for _ in range(2):
        check = METHODS[name].check(run(), problem, task, reference)
        assert check.error < TOLERANCES.get(name, 1e-10)
        assert check.tolerance >= 1e-4
    assert all(p.grad is None for p in problem.model.parameters())


@pytest.mark.parametrize("name", ["gram", "power_iteration"])
def test_eigenvectors(name):
    problem = small_problem()
    outcome = METHODS[name].prepare(problem, Task.leading(3))()
    assert outcome.vectors.shape == (3, problem.num_parameters)
    residual = largest_residual(problem, outcome.values, outcome.vectors)
    assert residual < (1e-12 if name == "gram" else 0.1)


def test_power_iteration_follows_the_protocol():
    problem = small_problem()
    ggn = GGN(problem.model, problem.loss_func, (problem.inputs, problem.targets))
    generator = torch.Generator().manual_seed(0)
    values, vectors, iterations = power_iteration(ggn, 3, generator, problem.inputs)
    assert max(iterations) <= MAX_ITERATIONS
    assert (vectors.norm(dim=1) - 1).abs().max() < 1e-12
    off_diagonal = (vectors @ vectors.T - torch.eye(3)).abs().max()
    assert off_diagonal < 0.1  # orthogonal up to the last, unorthogonalised product
    assert (values[:-1] >= 0.9 * values[1:]).all()


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
            assert method in METHODS


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
