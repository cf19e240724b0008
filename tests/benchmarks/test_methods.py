"""Every method computes what it says, on a problem small enough for the dense oracle."""

import copy

import oracle
import pytest
import torch
from torch import nn

from benchmarks.measure import peak_bytes, runs_per_sample, seconds_per_run
from benchmarks.methods import METHODS, NotApplicableError, Outcome, Task
from benchmarks.methods.base import spectral_error
from benchmarks.methods.power_iteration import MAX_ITERATIONS, power_iteration
from benchmarks.problems import Instance
from benchmarks.reference import largest_residual, reference_spectrum
from benchmarks.suites import SUITES
from vivit import GGN


def instance(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4))
    x = torch.randn(6, 1, 4, 4, generator=generator)
    y = torch.randint(4, (6,), generator=generator)
    return Instance(model.to(dtype), nn.CrossEntropyLoss(), x.to(dtype), y)


def exact_spectrum(problem):
    names = [name for name, _ in problem.model.named_parameters()]
    dense = oracle.ggn(problem.model, problem.loss_func, problem.inputs, problem.targets, names)
    return torch.linalg.eigvalsh(dense)


@pytest.mark.parametrize("name", ["gram", "naive_gram"])
def test_all_eigenvalues(name):
    problem = instance()
    run = METHODS[name].prepare(problem, Task(k=None))
    for _ in range(2):  # a second run must not be disturbed by the first
        values = run().values
        assert spectral_error(values, exact_spectrum(problem)) < 1e-12
    assert len(values) >= 18
    assert all(p.grad is None for p in problem.model.parameters())


@pytest.mark.parametrize(("name", "tolerance"), [("gram", 1e-12), ("power_iteration", 2e-2)])
@pytest.mark.parametrize("k", [1, 3])
def test_leading_eigenvalues(name, tolerance, k):
    problem = instance()
    outcome = METHODS[name].prepare(problem, Task(k))()
    assert len(outcome.values) == k
    assert METHODS[name].error(outcome, problem, exact_spectrum(problem)) < tolerance
    assert outcome.vectors.shape == (k, problem.num_parameters)
    residual = largest_residual(problem, outcome.values, outcome.vectors)
    assert residual < (tolerance if name == "gram" else 0.1)


def test_power_iteration_follows_the_protocol():
    problem = instance()
    ggn = GGN(problem.model, problem.loss_func, (problem.inputs, problem.targets))
    generator = torch.Generator().manual_seed(0)
    values, vectors, iterations = power_iteration(ggn, 3, generator, problem.inputs)
    assert max(iterations) <= MAX_ITERATIONS
    assert (vectors.norm(dim=1) - 1).abs().max() < 1e-12
    off_diagonal = (vectors @ vectors.T - torch.eye(3)).abs().max()
    assert off_diagonal < 0.1  # orthogonal up to the last, unorthogonalised product
    assert (values[:-1] >= 0.9 * values[1:]).all()


def test_gradient():
    problem = instance(torch.float32)
    outcome = METHODS["gradient"].prepare(problem, Task(None))()
    double = copy.deepcopy(problem.model).double()
    names = [name for name, _ in double.named_parameters()]
    exact = oracle.gradient(
        double, problem.loss_func, problem.inputs.double(), problem.targets, names
    )
    error = METHODS["gradient"].error(outcome, problem, torch.empty(0))
    assert error == pytest.approx(float((outcome.values - exact).norm() / exact.norm()), rel=1e-6)
    assert error < 1e-6
    wrong = METHODS["gradient"].error(Outcome(1.5 * outcome.values), problem, torch.empty(0))
    assert wrong == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize(("name", "k"), [("power_iteration", None), ("naive_gram", 2)])
def test_tasks_that_a_method_does_not_do(name, k):
    with pytest.raises(NotApplicableError):
        METHODS[name].prepare(instance(), Task(k))


def test_suites_name_methods_that_exist():
    for suite in SUITES.values():
        for method in suite.methods:
            assert method in METHODS


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 2.0, 4.0], 0.0), ([2.0, 4.4], 0.1), ([0.2, 1.0, 2.0, 4.0], 0.05), ([4.0], 0.0)],
)
def test_spectral_error(values, expected):
    reference = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    assert spectral_error(torch.tensor(values), reference) == pytest.approx(expected, rel=1e-6)


def test_reference():
    problem = instance()
    values, residual = reference_spectrum(problem)
    assert spectral_error(values, exact_spectrum(problem)) < 1e-12
    assert residual < 1e-12


def test_reference_is_put_to_the_test(monkeypatch):
    """A wrong spectrum does not pass the independent check."""
    eigh = GGN.eigh

    def wrong(self, **options):
        pairs = eigh(self, **options)
        pairs.values.mul_(1.001)
        return pairs

    monkeypatch.setattr(GGN, "eigh", wrong)
    with pytest.raises(ArithmeticError, match="relative residual of"):
        reference_spectrum(instance())


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
