"""The search for critical batch sizes, against functions whose critical size is known."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.grid.comparison import Comparison
from benchmarks.measure.critical import BudgetMode, Limits, critical_batch_size
from benchmarks.measure.tracker import SimulatedOutOfMemoryError
from benchmarks.records.record import Status
from benchmarks.records.tasks import Task
from benchmarks.run.process import open_worker
from benchmarks.run.serve import _limit_memory, status_of
from benchmarks.run.worker import Worker
from vivit import InsufficientMemoryError

GIB = 2**30


def prober(critical, peak):
    """A process that fits up to a size, and the sizes that it was asked for."""
    asked = []

    def probe(size, attempt):
        assert attempt == 1 + asked.count(size)
        asked.append(size)
        if size > critical:
            return {"status": "oom", "reason": "too large"}
        return {"status": "ok", "samples": [float(peak(size))]}

    return probe, asked


@given(
    critical=st.integers(0, 2000),
    largest=st.integers(1, 2000),
    resolution=st.sampled_from([0.0, 1 / 32, 0.5]),
    coefficients=st.tuples(st.floats(1, 2e9), st.floats(0, 1e8), st.floats(0, 1e6)),
)
@example(critical=256, largest=256, resolution=0.0, coefficients=(756241964.0151011, 0.0, 0.0))
def test_any_memory_function(critical, largest, resolution, coefficients):
    """Whatever the model predicts, the bracket is right, narrow, and probed at both ends."""
    constant, linear, quadratic = coefficients
    probe, asked = prober(critical, lambda n: constant + linear * n + quadratic * n**2)
    answer = critical_batch_size(probe, Limits(GIB, largest, resolution))
    fits, too_large = answer["details"]["fits"], answer["details"]["does_not_fit"]
    assert answer["status"] == "ok"
    assert fits <= critical
    assert max(asked.count(size) for size in asked) <= 2
    assert max(asked) <= largest
    if critical >= largest:
        assert answer["samples"] == [largest + 1]
        assert too_large is None
    else:
        assert answer["samples"] == [fits]
        assert critical < too_large <= fits + max(resolution * fits, 1)
        assert asked.count(too_large) == 2  # what does not fit has to fail twice
        assert fits in asked or fits == 0


@pytest.mark.parametrize(("critical", "largest", "found"), [(0, 100, 0), (500, 100, 101)])
def test_outside_of_the_range(critical, largest, found):
    probe, _ = prober(critical, lambda n: 1e6 * n)
    assert critical_batch_size(probe, Limits(GIB, largest))["samples"] == [found]


@pytest.mark.parametrize(
    "peak",
    [
        lambda n: 3e8 + 1e6 * n,
        lambda n: 3e8 + 2e5 * n + 500 * n**2,
        lambda n: 1e6 * n**2,
        lambda n: 2e8 + 3e6 * n + 8.0 * (9 * n) ** 2,
    ],
    ids=["linear", "with matrix", "matrix alone", "3c3d"],
)
def test_a_good_model_saves_probes(peak):
    """Plain bisection would take 15, half of which run to their ends."""
    budget = 4 * GIB
    critical = max(n for n in range(2**15) if peak(n) <= budget)
    probe, asked = prober(critical, peak)
    answer = critical_batch_size(probe, Limits(budget))
    assert critical / (1 + 1 / 32) - 1 <= answer["samples"][0] <= critical
    assert len(asked) <= 10
    assert sum(size <= critical for size in asked if size > critical / 2) <= 2


@pytest.mark.parametrize("more", [1.3, 2.0, 20.0])
def test_no_probe_is_far_beyond_a_prediction_that_was_too_low(more):
    """As of a method that gets by with less when memory becomes scarce."""
    budget = 4 * GIB
    critical = int(400 * more)
    probe, asked = prober(critical, lambda n: min(1e7 * n, budget))
    answer = critical_batch_size(probe, Limits(budget))
    assert critical / (1 + 1 / 32) - 1 <= answer["samples"][0] <= critical
    assert max(asked) <= 3 * critical
    assert len(asked) <= 20


@given(
    critical=st.integers(0, 300),
    resolution=st.sampled_from([0.0, 1 / 32]),
    flaky=st.sets(st.integers(1, 300), max_size=40),
)
def test_probes_that_fail_once_by_chance(critical, resolution, flaky):
    """Memory runs out the first time, for reasons of its own, at sizes that fit."""
    steady, asked = prober(critical, lambda n: 1e6 * n)

    def probe(size, attempt):
        answer = steady(size, attempt)
        return {"status": "oom"} if size in flaky and attempt == 1 else answer

    answer = critical_batch_size(probe, Limits(2**28, 300, resolution))
    details, upper = answer["details"], answer["details"]["does_not_fit"]
    assert answer["status"] == "ok"
    assert details["fits"] <= critical
    assert set(details["contradicted"]) <= flaky
    if upper is not None:
        assert asked.count(upper) == 2
        assert critical < upper <= details["fits"] + max(resolution * details["fits"], 1)


@pytest.mark.parametrize("status", ["error", "timeout", "skipped"])
@pytest.mark.parametrize("at", [16, 300])
def test_no_other_failure_counts_as_too_large(status, at):
    probe, _ = prober(400, lambda n: 1e7 * n)

    def failing(size, attempt):
        return {"status": status, "reason": "broken"} if size >= at else probe(size, attempt)

    answer = critical_batch_size(failing, Limits(4 * GIB))
    assert answer["status"] == status
    assert answer["reason"].startswith("at batch size ")
    assert answer["reason"].endswith(": broken")
    assert answer["details"]["fits"] < at


@pytest.mark.parametrize(
    ("budget", "largest", "resolution"), [(0, 1, 0), (1, 0, 0), (1, 1, 1), (1, 1, -0.1)]
)
def test_limits_that_make_no_sense(budget, largest, resolution):
    with pytest.raises(ValueError, match="Expected a budget and a largest batch size"):
        Limits(budget, largest, resolution)


@pytest.mark.parametrize(("spare", "status"), [(1.02, "ok"), (0.98, "oom")])
def test_a_simulated_budget_is_exact_and_of_tensors_only(spare, status):
    """The same matrices, and nothing but them, the parameters and the data."""
    size = 300
    matrices, others = 2 * 4 * (9 * size) ** 2, 4 * (6570 + 64 * size) + 8 * size
    limits = Limits(int(spare * (matrices + others)), mode=BudgetMode.SIMULATED)
    comparison = Comparison("critical", "digits_mlp", (), size, Task(), 1, limits=limits)
    with open_worker(comparison, "matrix_memory", limits.budget, None) as worker:
        assert worker.start(60)["status"] == "ok"
        answer = worker.ask("probe", 60)
    assert answer["status"] == status, answer
    if status == "ok":
        assert matrices < answer["samples"][0] < 1.02 * (matrices + others)
    else:
        assert "exceed the simulated budget" in answer["details"]["stderr"]


def transformer(size, budget):
    threads = torch.get_num_threads()
    return Worker(
        "tiny_transformer", "gram", size, Task().parameters, "cpu", threads, 0, budget=budget
    )


@pytest.mark.parametrize("size", [28, 31, 32, 44])
def test_a_method_that_takes_a_budget_is_told_what_the_forward_pass_leaves_of_it(size):
    """Or it would plan with more, and fail at some sizes that are smaller than others."""
    assert transformer(size, 2**26).probe()["samples"][0] <= 2**26


@pytest.mark.parametrize("budget", [1000, 10**6])
def test_a_budget_that_data_and_forward_pass_exceed_is_too_small(budget):
    with pytest.raises((SimulatedOutOfMemoryError, InsufficientMemoryError)) as error:
        transformer(8, budget).probe()
    assert status_of(error.value, simulated=True) is Status.OUT_OF_MEMORY


def test_budget_is_enforced():
    """Two matrices of known size fit if the process has room for them, and else do not.

    The room is what a process without them holds, and the bytes of the matrices.
    """
    size, per_sample = 600, 9
    matrices = 2 * 4 * (per_sample * size) ** 2
    held = _held_before()
    for spare, status in ((1.05, "ok"), (0.95, "oom")):
        budget = held + int(spare * matrices)
        comparison = Comparison("critical", "digits_mlp", (), size, Task(), 1)
        with open_worker(comparison, "matrix_memory", budget, None) as worker:
            assert worker.start(60)["status"] == "ok"
            answer = worker.ask("probe", 60)
        assert answer["status"] == status, answer


def _held_before():
    """Data of a worker that has only imported and prepared."""
    comparison = Comparison("critical", "digits_mlp", (), 1, Task(), 1)
    with open_worker(comparison, "matrix_memory", None, None) as worker:
        assert worker.start(60)["status"] == "ok"
        assert worker.ask("probe", 60)["status"] == "ok"
        status = Path(f"/proc/{worker.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmData:")]
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:1", 1)])
def test_a_budget_of_a_card_is_a_fraction_of_its_memory(monkeypatch, device, index):
    """A fake card, for there may be none."""
    asked = []
    properties = SimpleNamespace(total_memory=4 * GIB)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda *arguments: asked.append(arguments)
    )
    _limit_memory(GIB, device)
    assert asked == [(0.25, index)]
    with pytest.raises(ValueError, match=f"is more than the {4 * GIB} bytes of {device}"):
        _limit_memory(5 * GIB, device)


def test_only_the_count_decides_where_the_budget_is_simulated():
    """What the machine lacks, or the library foresees of it, is another matter."""
    real, counted = torch.OutOfMemoryError("real"), SimulatedOutOfMemoryError("counted")
    assert status_of(real, simulated=False) is Status.OUT_OF_MEMORY
    assert status_of(real, simulated=True) is Status.ERROR
    assert status_of(counted, simulated=True) is Status.OUT_OF_MEMORY
    assert status_of(InsufficientMemoryError("plan"), simulated=True) is Status.OUT_OF_MEMORY
    assert status_of(ValueError("wrong"), simulated=False) is Status.ERROR
