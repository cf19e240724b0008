"""References are right, and checks find what is wrong."""

from dataclasses import replace

import numpy as np
import oracle
import pytest
import torch
from benchmark_cases import TASKS, small_problem

from benchmarks.measure.accuracy import (
    STEP_TOLERANCE,
    TRACE_DEVIATIONS,
    Outcome,
    Reference,
    check,
    check_draws,
    density_error,
    derivatives_error,
    mean_error,
    spectral_error,
)
from benchmarks.measure.vectors import sketch
from benchmarks.methods.conventions import blocks
from benchmarks.records.tasks import NEWTON_CUTOFF, Approximation, Computed, Grouping, Subset, Task
from benchmarks.run import reference as reference_module
from benchmarks.run.reference import (
    DRAWS,
    deviation_from_orthonormal,
    make_reference,
    residual_of_pairs,
)
from vivit import GGN, MonteCarlo


def sampled(problem, seed):
    approximation = MonteCarlo(samples=1, seed=seed)
    data = (problem.inputs, problem.targets)
    return GGN(problem.model, problem.loss_func, data, approximation=approximation).eigvalsh()


def dense(problem, names=None):
    names = names or [name for name, _ in problem.model.named_parameters()]
    return oracle.ggn(problem.model, problem.loss_func, problem.inputs, problem.targets, names)


@pytest.mark.parametrize("count", [16, 2], ids=["whole", "eighth"])
def test_spectrum(count):
    problem = small_problem(batch_size=16)
    task = Task(subset=Subset.WHOLE if count == 16 else Subset.EIGHTH)
    reference, facts = make_reference(problem, task)
    exact = torch.linalg.eigvalsh(dense(problem.first(count)))
    assert spectral_error(reference.values, exact) < 1e-12
    assert facts["residual"] < 1e-12


@pytest.mark.parametrize("grouping", [Grouping.NETWORK, Grouping.LAYER])
def test_leading_pairs_of_a_large_matrix(monkeypatch, grouping):
    """From products alone, ours and an independent implementation's: those of the spectrum."""
    monkeypatch.setattr(reference_module, "KNOWN_PAIRS", 4)
    problem, task = small_problem(batch_size=16), replace(Task.leading(3), grouping=grouping)
    whole, _ = make_reference(problem, task)
    monkeypatch.setattr(reference_module, "LARGEST_DECOMPOSED", 10)
    reference, facts = make_reference(problem, task)
    assert reference.blocks == (4,) * len(whole.blocks)
    for part, exact in zip(
        reference.values.split(4), whole.values.split(whole.blocks), strict=True
    ):
        assert spectral_error(part, exact) < 1e-12
    assert facts["residual"] < 1e-12


@pytest.mark.parametrize(
    ("grouping", "names"),
    [
        (Grouping.NETWORK, [["0.weight", "0.bias", "3.weight", "3.bias"]]),
        (Grouping.LAYER, [["0.weight", "0.bias"], ["3.weight", "3.bias"]]),
        (Grouping.PARAMETER, [["0.weight"], ["0.bias"], ["3.weight"], ["3.bias"]]),
    ],
)
def test_blocks(grouping, names):
    problem = small_problem()
    reference, _ = make_reference(problem, Task(grouping=grouping))
    assert blocks(problem.model, grouping) == names
    parts = reference.values.split(reference.blocks)
    for part, block in zip(parts, names, strict=True):
        assert spectral_error(part, torch.linalg.eigvalsh(dense(problem, block))) < 1e-12
    drawn = Task(grouping=grouping, approximation=Approximation.MONTE_CARLO)
    reference, _ = make_reference(problem, drawn)
    whole, _ = make_reference(problem, replace(drawn, grouping=Grouping.NETWORK))
    assert len(reference.blocks) == len(names)
    assert torch.allclose(reference.values.sum(), whole.values.sum())


def test_newton_step():
    problem = small_problem()
    reference, facts = make_reference(problem, Task(Computed.NEWTON_STEP))
    names = [name for name, _ in problem.model.named_parameters()]
    gradient = oracle.gradient(
        problem.model, problem.loss_func, problem.inputs, problem.targets, names
    )
    values, vectors = torch.linalg.eigh(dense(problem))
    vectors = vectors[:, values > NEWTON_CUTOFF]
    damped = values[values > NEWTON_CUTOFF] + 1.0
    step = -vectors @ ((vectors.T @ gradient) / damped)
    assert (reference.values - sketch(step)).norm() < 1e-10 * step.norm()
    assert facts["residual"] < 1e-10


def test_derivatives():
    problem = small_problem()
    reference, facts = make_reference(problem, Task(Computed.DERIVATIVES, 3))
    _, vectors = torch.linalg.eigh(dense(problem))
    names = [name for name, _ in problem.model.named_parameters()]
    rows = []
    for n in range(len(problem.inputs)):
        data = problem.inputs[n : n + 1], problem.targets[n : n + 1]
        parts = problem.model, problem.loss_func, *data, names
        gamma = oracle.gradient(*parts) @ vectors[:, -3:]
        curvature = (vectors[:, -3:].T @ oracle.ggn(*parts) @ vectors[:, -3:]).diagonal()
        rows.append(torch.stack([gamma, curvature]))
    exact = torch.stack(rows, dim=1).flatten()
    assert derivatives_error(reference.values, exact, 3) < 1e-10
    assert derivatives_error(1.5 * reference.values, exact, 3) == pytest.approx(0.5)
    assert facts["residual"] < 1e-9
    flipped = reference.values.reshape(2, -1, 3) * torch.tensor([1, -1, 1])
    flipped[1] = reference.values.reshape(2, -1, 3)[1]
    assert derivatives_error(flipped.flatten(), exact, 3) < 1e-10
    flipped[0, 0] *= -1  # of one sample only: no sign of a direction explains that
    assert derivatives_error(flipped.flatten(), exact, 3) > 1e-2


def test_distance_of_densities():
    """Of two eigenvalues out of four: by hand, as areas between distribution functions."""
    reference = Reference(torch.tensor([1.0, 3.0], dtype=torch.float64), (2,), size=4)
    assert density_error(Outcome(torch.tensor([1.0, 3.0])), reference) == 0
    assert density_error(Outcome(torch.tensor([1.0])), reference) == pytest.approx(3 / 4)
    zeros = Outcome(torch.zeros(3), weights=torch.ones(3) / 3)
    assert density_error(zeros, reference) == pytest.approx(1)
    ritz = Outcome(torch.tensor([0.5, 2.5]), weights=torch.tensor([0.5, 0.5]))
    # 1/4 from 0 to 2.5, 1/4 from 1 to 2.5, 1/4 from 2.5 to 3
    expected = 0.5 * 0.5 + 0.5 * 0 + 0.25 * 1.5 + 0.25 * 0.5
    assert density_error(ritz, reference) == pytest.approx(expected)
    with pytest.raises(ArithmeticError, match="weights of a density sum up to 2"):
        density_error(Outcome(torch.ones(2), weights=torch.ones(2)), reference)


def test_monte_carlo_knows_the_exact_trace():
    problem = small_problem()
    reference, facts = make_reference(problem, Task(approximation=Approximation.MONTE_CARLO))
    assert len(reference.values) == 6
    assert reference.exact_trace == facts["exact_trace"]
    assert reference.exact_trace == pytest.approx(float(dense(problem).trace()), rel=1e-10)
    other = Outcome(sampled(problem, seed=99))
    found = check_draws(other, Task(approximation=Approximation.MONTE_CARLO), reference)
    assert found.error < found.tolerance < 1
    assert facts["trace_deviation"] == reference.trace_deviation


def test_monte_carlo_knows_sums_of_leading_eigenvalues():
    """Of other draws; all eigenvalues of a draw sum up to its trace."""
    problem = small_problem()
    task = Task.leading(2, approximation=Approximation.MONTE_CARLO)
    reference, facts = make_reference(problem, task)
    assert reference.leading_sums == tuple(facts["leading_sums"])
    means = [mean for mean, _ in reference.leading_sums]
    draws = [sampled(problem, seed) for seed in range(1, 1 + DRAWS)]
    assert means[1] == pytest.approx(np.mean([float(draw[-2:].sum()) for draw in draws]))
    assert means[-1] == pytest.approx(np.mean([float(draw.sum()) for draw in draws]))
    found = check_draws(Outcome(sampled(problem, seed=99)[-2:]), task, reference)
    assert found.error < found.tolerance
    assert "sum of the 2 leading eigenvalues over other draws" in found.against
    twice = check_draws(Outcome(2 * sampled(problem, seed=99)[-2:]), task, reference)
    assert twice.error > 0.5


@pytest.mark.parametrize(
    ("task", "what"), [(Task(), "spectrum"), (Task(Computed.NEWTON_STEP), "eigenpairs")]
)
def test_a_wrong_spectrum_does_not_pass(monkeypatch, task, what):
    eigh = GGN.eigh

    def wrong(self, **options):
        pairs = eigh(self, **options)
        pairs.values.mul_(1.001)
        return pairs

    monkeypatch.setattr(GGN, "eigh", wrong)
    with pytest.raises(ArithmeticError, match=f"reference's {what} has a relative residual of"):
        make_reference(small_problem(), task)


def test_a_wrong_step_does_not_pass(monkeypatch):
    monkeypatch.setattr(reference_module, "NEWTON_DAMPING", 1.001)
    step = GGN.newton_step
    monkeypatch.setattr(
        GGN, "newton_step", lambda self, _, criterion: step(self, 1.0, None, criterion)
    )
    with pytest.raises(ArithmeticError, match="reference's Newton step has a relative residual"):
        make_reference(small_problem(), Task(Computed.NEWTON_STEP))


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 2.0, 4.0], 0.0), ([2.0, 4.4], 0.1), ([0.2, 1.0, 2.0, 4.0], 0.05), ([4.0], 0.0)],
)
def test_spectral_error(values, expected):
    reference = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    assert spectral_error(torch.tensor(values), reference) == pytest.approx(expected, rel=1e-6)


def test_each_block_is_relative_to_its_own_largest_eigenvalue():
    reference = Reference(torch.tensor([1.0, 2.0, 0.1], dtype=torch.float64), (2, 1))
    outcome = Outcome(torch.tensor([1.0, 2.0, 0.0, 0.11]), blocks=(2, 2))
    found = check(outcome, Task(grouping=Grouping.LAYER), reference, 1e-4)
    assert (found.error, found.tolerance) == (pytest.approx(0.1, rel=1e-5), 1e-4)


def test_step_is_compared_by_projections():
    step = torch.randn(1000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    reference = Reference.single(sketch(step))
    found = check(Outcome(1.5 * step), Task(Computed.NEWTON_STEP), reference, 1e-4)
    assert (found.error, found.tolerance) == (pytest.approx(0.5), STEP_TOLERANCE)
    assert "64 projections" in found.against
    assert float(sketch(step).norm() / step.norm()) == pytest.approx(1, abs=0.3)


def test_nothing_excuses_nan():
    """Wherever it is: Python's `max` drops one that is not the first."""
    reference = Reference(torch.ones(4, dtype=torch.float64), (2, 2))
    outcome = Outcome(torch.tensor([1.0, 1.0, torch.nan, torch.nan]), blocks=(2, 2))
    assert np.isnan(check(outcome, Task(), reference, 1e-4).error)
    values = torch.arange(1.0, 9.0)
    wrong = torch.cat([values[:4], torch.full((4,), torch.nan)])
    assert np.isnan(derivatives_error(wrong, values, 2))
    problem, task = small_problem(), Task.leading(2)
    vectors = torch.full((2, problem.num_parameters), torch.nan, dtype=torch.float64)
    found = Outcome(torch.ones(2, dtype=torch.float64), (vectors,))
    assert np.isnan(residual_of_pairs(found, problem, task))


def test_orthonormality():
    vectors = torch.eye(3)[:2]
    assert deviation_from_orthonormal([vectors]) == 0
    assert deviation_from_orthonormal([vectors, vectors[[0, 0]]]) == 1
    assert deviation_from_orthonormal([2 * vectors]) == 3


def test_trace():
    reference = Reference(torch.zeros(2, dtype=torch.float64), (2,), 4.0, 0.5)
    found = check_draws(Outcome(torch.tensor([2.0, 3.0])), Task(), reference)
    assert (found.error, found.tolerance) == (0.25, TRACE_DEVIATIONS * 0.125)
    assert "draws differ" in found.against
    for task in (Task(), Task.leading(2)):
        with pytest.raises(ValueError, match="got None and None for: " + task.title):
            check_draws(Outcome(torch.ones(2)), task, Reference.single(torch.ones(2)))


@pytest.mark.parametrize("title", TASKS)
def test_tasks_survive_a_record(title):
    assert Task.from_parameters(TASKS[title].parameters) == TASKS[title]


@pytest.mark.parametrize(("k", "computed"), [(None, Computed.EIGENVALUES), (10, Computed.PAIRS)])
def test_older_records_know_only_k(k, computed):
    assert Task.from_parameters({"batch_size": 8, "k": k}) == Task(computed, k)


@pytest.mark.parametrize(("computed", "k"), [(Computed.PAIRS, None), (Computed.EIGENVALUES, 3)])
def test_pairs_need_their_number(computed, k):
    with pytest.raises(ValueError, match=f"need their number k; got k = {k} for {computed.value}"):
        Task(computed, k)


@pytest.mark.parametrize(("batch_size", "count"), [(128, 16), (16, 2), (8, 1), (2, 1)])
def test_an_eighth_is_at_least_one(batch_size, count):
    assert Task(subset=Subset.EIGHTH).num_samples(batch_size) == count
    assert Task().num_samples(batch_size) == batch_size


def test_mean_error_of_leading_eigenvalues():
    """Of each block the largest ones, each relative to itself; zeros do not count."""
    reference = Reference(torch.tensor([0.0, 1.0, 2.0, 4.0, 0.0, 10.0]).double(), (4, 2))
    outcome = Outcome(torch.tensor([1.8, 4.4, 1e-3, 10.5]), blocks=(2, 2))
    assert mean_error(outcome, reference) == pytest.approx((0.1 + 0.1 + 0.05) / 3)
    assert mean_error(Outcome(torch.zeros(1)), Reference.single(torch.zeros(3))) == 0
