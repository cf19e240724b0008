"""The runner, on workers that follow a script instead of measuring."""

import itertools
import threading
import time
from dataclasses import replace

import pytest

from benchmarks.grid.comparison import Comparison
from benchmarks.grid.profiles import PROFILES
from benchmarks.grid.suites import SUITES
from benchmarks.measure.critical import BudgetMode, Limits
from benchmarks.records.record import Quantity, RecordStore, Status
from benchmarks.records.tasks import Approximation, Computed, Grouping, Subset, Task
from benchmarks.run import pool
from benchmarks.run.cells import KNOWN_PAIRS, num_cells
from benchmarks.run.process import RETURNING, YIELDING
from benchmarks.run.runner import Runner, failures

COMPARISON = Comparison("eigenvalues", "digits_mlp", ("gram", "gradient"), 8, Task(), repeats=3)
SEARCH = replace(COMPARISON, suite="critical", batch_size=None, limits=Limits(10_000, 500, 0.0))
PLACE = {"commit": "abc", "machine": {"cpu": "x"}, "versions": {}}


class ScriptedWorker:
    """Answers as `script` says: (method, command) -> answer; everything else is fine."""

    log: list
    references: list
    script: dict
    settings: dict

    def __init__(self, comparison, method, memory_limit, peer_python, settings):
        self.method, self.closed, self.environment = method, False, settings
        self.batch_size, self.memory_limit = comparison.batch_size, memory_limit

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def start(self, timeout):
        return self.ask("start", timeout)

    def ask(self, command, timeout, **arguments):
        assert not self.closed
        self.log.append((self.method, command))
        self.settings.setdefault(command, []).append(self.environment)
        if command == "accuracy":
            self.references.append((self.method, arguments["reference"]))
        answer = self.script.get((self.method, command), {})
        if callable(answer):
            answer = answer(self.batch_size, self.memory_limit)
        if isinstance(answer, BaseException):
            raise answer
        count = sum(entry == (self.method, command) for entry in self.log)
        return {"status": "ok", "samples": [float(count)], "details": {}, **answer}

    def kill(self):
        self.log.append((self.method, "killed"))

    def close(self):
        self.closed = True
        self.log.append((self.method, "closed"))


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Make runners on one file of records, with a script for the workers."""

    def make(script=None, place=PLACE, patience=1e9, workers=1, timeout=10, limit=1000):
        class Worker(ScriptedWorker):
            pass

        Worker.log, Worker.script = [], script or {}
        ScriptedWorker.references, ScriptedWorker.settings = [], {}
        monkeypatch.setattr(pool, "open_worker", Worker)
        store = RecordStore(tmp_path / "records.jsonl")
        told = []
        runner = Runner(
            store,
            place,
            timeout,
            patience,
            limit,
            lambda what, n: told.append((what, n)),
            tmp_path / "python",
            workers,
        )
        return runner, Worker.log, told

    return make


def outcomes(runner):
    return {(r.method, r.quantity.value): (r.status, r.samples) for r in runner.store.read()}


def test_order_of_measurements(make):
    """Accuracy before time, times in turns, memory in fresh processes."""
    runner, log, told = make()
    runner.run([COMPARISON])
    timed = [method for method, command in log if command == "time"]
    assert timed == ["gram", "gradient", "gradient", "gram", "gram", "gradient"]
    commands = [command for _, command in log]
    assert commands.index("time") > max(i for i, c in enumerate(commands) if c == "accuracy")
    assert commands.index("memory") > max(i for i, c in enumerate(commands) if c == "time")
    assert log.count(("gram", "start")) == 5  # reference, time, three times memory
    assert outcomes(runner) == {
        ("reference", "spectrum"): (Status.OK, [1.0]),
        ("gram", "accuracy"): (Status.OK, [1.0]),
        ("gradient", "accuracy"): (Status.OK, [1.0]),
        ("gram", "time"): (Status.OK, [1.0, 2.0, 3.0]),
        ("gradient", "time"): (Status.OK, [1.0, 2.0, 3.0]),
        ("gram", "memory"): (Status.OK, [1.0, 2.0, 3.0]),
        ("gradient", "memory"): (Status.OK, [1.0, 2.0, 3.0]),
    }
    assert sum(finished for _, finished in told) == num_cells([COMPARISON]) == 6
    assert [m for m, c in log if c == "closed"].count("gram") == 5


@pytest.mark.parametrize("workers", [1, 2])
def test_environment_of_workers(make, workers):
    """What is timed runs as users run it; at the side of others, threads that wait yield."""
    runner, _, _ = make(workers=workers)
    runner.run([COMPARISON, SEARCH])
    yielding = YIELDING if workers > 1 else {}
    expected = {
        "reference": yielding,
        "accuracy": {},
        "time": {},
        "memory": RETURNING | yielding,
        "probe": yielding,
    }
    for command, settings in expected.items():
        used = ScriptedWorker.settings[command]
        assert used == [settings] * len(used), command


def test_memory_of_what_is_slow_is_measured_once(make):
    runner, log, _ = make(patience=0)
    runner.run([COMPARISON])
    assert log.count(("gram", "memory")) == log.count(("gradient", "memory")) == 1


def test_record_is_complete(make):
    runner, _, _ = make()
    runner.run([COMPARISON])
    record = next(r for r in runner.made if r.quantity is Quantity.TIME and r.method == "gram")
    assert record.parameters == {
        "batch_size": 8,
        "computed": "eigenvalues",
        "k": None,
        "approximation": "exact",
        "subset": "whole",
        "grouping": "network",
        "repeats": 3,
        "device": "cpu",
        "dtype": "float32",
        "threads": 1,
        "seed": 0,
        "data": "real",
    }
    assert record.unit == "s"
    assert record.environment == PLACE
    assert record.details == {
        "interleaved_with": ["gram", "gradient"],
        "memory_limit": 1000,
        "timeout": 10,
        "workers": 1,
    }
    assert record.time


def test_settings_are_in_the_record_and_make_a_cell(make):
    """The method's name is the same for all; a run that was killed goes on where it stopped."""
    methods = ("gram", "lanczos", "lanczos:tolerance=0.1", "lanczos:tolerance=0.2")
    comparison = replace(COMPARISON, methods=methods)
    runner, _, _ = make({("lanczos:tolerance=0.2", "time"): {"status": "error", "reason": "x"}})
    runner.run([comparison])
    records = runner.store.read()
    times = [r for r in records if r.quantity is Quantity.TIME]
    assert [r.method for r in times] == ["gram", "lanczos", "lanczos", "lanczos"]
    settings = [r.parameters.get("settings") for r in times]
    assert settings == [None, None, {"tolerance": 0.1}, {"tolerance": 0.2}]
    assert [r.text for r in times] == [*methods]
    assert len({r.key for r in times}) == 4
    assert next(failures(records)).startswith(
        "error    eigenvalues/digits_mlp/lanczos:tolerance=0.2/"
    )
    again, log, _ = make()
    again.run([comparison])
    assert {method for method, _ in log} == {"lanczos:tolerance=0.2"}
    assert [r.text for r in again.made] == ["lanczos:tolerance=0.2"]


@pytest.mark.parametrize("status", ["oom", "timeout", "skipped", "error"])
def test_a_failing_method_does_not_end_the_run(make, status):
    failed = {"status": status, "reason": "because"}
    runner, log, _ = make({("gram", "accuracy"): failed})
    runner.run([COMPARISON])
    found = outcomes(runner)
    for quantity in ("accuracy", "time", "memory"):
        assert found["gram", quantity] == (Status(status), [])
        assert found["gradient", quantity][0] is Status.OK
    assert ("gram", "time") not in log
    lines = list(failures(runner.made))
    assert lines[0] == f"{status:8} eigenvalues/digits_mlp/gram/accuracy: because"
    assert len(lines) == 3


def test_failure_while_timing_keeps_the_other_methods(make):
    runner, log, _ = make({("gram", "time"): {"status": "timeout", "reason": "slow"}})
    runner.run([COMPARISON])
    found = outcomes(runner)
    assert found["gram", "time"] == (Status.TIMEOUT, [])
    assert found["gradient", "time"] == (Status.OK, [1.0, 2.0, 3.0])
    assert found["gram", "memory"][0] is Status.OK
    assert log.count(("gram", "time")) == 1


@pytest.mark.parametrize("status", [Status.ERROR, Status.SKIPPED])
def test_without_reference_nothing_is_timed(make, status):
    runner, log, _ = make({("gram", "reference"): {"status": status.value, "reason": "wrong"}})
    runner.run([COMPARISON])
    assert all(command not in ("accuracy", "time", "memory") for _, command in log)
    assert outcomes(runner)["gradient", "time"] == (status, [])
    assert "no reference: wrong" in list(failures(runner.made))[1]


def test_slow_methods_get_three_samples(make):
    runner, _, _ = make(patience=2.0)
    runner.run([Comparison("eigenvalues", "digits_mlp", ("gram",), 8, Task(), repeats=10)])
    assert outcomes(runner)["gram", "time"] == (Status.OK, [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("task", "quantity", "spectra"),
    [
        (Task.leading(3), Quantity.SPECTRUM, 1),
        (Task.leading(KNOWN_PAIRS), Quantity.SPECTRUM, 1),
        (Task.leading(KNOWN_PAIRS + 1), Quantity.SPECTRUM, 2),
        (Task(Computed.GRAM), Quantity.SPECTRUM, 1),
        (Task(Computed.NEWTON_STEP), Quantity.STEP, 2),
        (Task(Computed.FISHER), Quantity.RESULT, 2),
        (Task(approximation=Approximation.MONTE_CARLO), Quantity.SPECTRUM, 2),
        (Task(subset=Subset.EIGHTH), Quantity.SPECTRUM, 2),
        (Task(grouping=Grouping.LAYER), Quantity.SPECTRUM, 2),
    ],
    ids=lambda value: value.title if isinstance(value, Task) else None,
)
def test_tasks_share_a_reference_where_they_can(make, task, quantity, spectra):
    """With all eigenvalues of the exact GGN, which is measured first."""
    runner, log, _ = make()
    runner.run([COMPARISON, replace(COMPARISON, task=task)])
    references = [r for r in runner.made if r.method == "reference"]
    assert len(references) == log.count(("gram", "reference")) == spectra
    assert references[-1].quantity is quantity


def test_second_run_goes_on_where_the_first_stopped(make):
    first, _, _ = make({("gradient", "time"): KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        first.run([COMPARISON])
    assert set(outcomes(first)) == {
        ("reference", "spectrum"),
        ("gram", "accuracy"),
        ("gradient", "accuracy"),
    }
    second, log, told = make()
    second.run([COMPARISON])
    assert ("gram", "reference") not in log
    assert {(r.method, r.quantity.value) for r in second.made} == set(
        itertools.product(["gram", "gradient"], ["time", "memory"])
    )
    assert sum(finished for _, finished in told) == 6
    third, log, _ = make()
    third.run([COMPARISON])
    assert log == third.made == []


@pytest.mark.parametrize(
    "change",
    [
        {"commit": "def"},
        {"changes": "edited"},
        {"machine": {"cpu": "y"}},
        {"versions": {"t": "2"}},
    ],
)
def test_records_of_another_place_do_not_count(make, change):
    make()[0].run([COMPARISON])
    other, _, _ = make(place={**PLACE, **change})
    other.run([COMPARISON])
    assert len(other.made) == 7


@pytest.mark.parametrize(
    ("earlier", "now", "count"),
    [
        ({"code": "1"}, {"code": "1", "commit": "def", "dirty": True}, 0),
        ({"code": "1"}, {"code": "2"}, 7),
        ({"code": "1"}, {"code": "1", "machine": {"cpu": "y"}}, 7),
        ({"code": "1"}, {"code": "1", "versions": {"t": "2"}}, 7),
        ({"dirty": False, "changes": None}, {"code": "1", "dirty": False}, 0),
        ({"dirty": False, "changes": None}, {"code": "1", "dirty": True}, 7),
        ({"dirty": True, "changes": "edited"}, {"code": "1", "dirty": True}, 7),
        ({"dirty": False, "changes": None}, {"code": "1", "dirty": False, "commit": "def"}, 7),
    ],
)
def test_the_same_code_is_the_same_place(make, earlier, now, count):
    """Whatever the commit; records that know no code are compared by the commit."""
    make(place={**PLACE, **earlier})[0].run([COMPARISON])
    other, _, _ = make(place={**PLACE, **now})
    other.run([COMPARISON])
    assert len(other.made) == count


def test_errors_are_tried_again_other_failures_are_not(make):
    script = {
        ("gram", "accuracy"): {"status": "error", "reason": "bug"},
        ("gradient", "accuracy"): {"status": "oom", "reason": "large"},
    }
    make(script)[0].run([COMPARISON])
    again, _, _ = make()
    again.run([COMPARISON])
    assert {r.method for r in again.made} == {"gram"}
    assert len(again.made) == 3


def test_skipped_peers_are_tried_again_once_they_can_run(make, tmp_path):
    comparison = replace(COMPARISON, methods=("gram", "original"))
    skipped = {"status": "skipped", "reason": "no interpreter"}
    script = {(method, "accuracy"): skipped for method in ("gram", "original")}
    make(script)[0].run([comparison])
    same, _, _ = make()
    same.run([comparison])
    assert same.made == []
    (tmp_path / "python").touch()
    again, _, _ = make()
    again.run([comparison])
    assert {r.method for r in again.made} == {"original"}
    assert {r.status for r in again.made} == {Status.OK}


def bytes_100_per_sample(size, limit):
    fits = 100 * size <= limit
    return {"samples": [100.0 * size]} if fits else {"status": "oom", "reason": "too large"}


def test_critical_batch_size(make):
    """Each probe has the budget as its limit, and is a record beside the result."""
    script = {(method, "probe"): bytes_100_per_sample for method in SEARCH.methods}
    runner, log, told = make(script)
    runner.run([SEARCH])
    found = [r for r in runner.made if r.quantity is Quantity.CRITICAL]
    probes = [r for r in runner.made if r.quantity is Quantity.PROBE]
    assert [(r.method, r.samples, r.unit) for r in found] == [
        ("gram", [100.0], "samples"),
        ("gradient", [100.0], "samples"),
    ]
    assert found[0].parameters["batch_size"] is None
    assert found[0].parameters["budget"] == found[0].details["memory_limit"] == 10_000
    own = [r.parameters["batch_size"] for r in probes if r.method == "gram"]
    assert own == found[0].details["probed"]
    assert {r.status for r in probes} == {Status.OK, Status.OUT_OF_MEMORY}
    assert log.count(("gram", "start")) == log.count(("gram", "closed")) == len(own)
    assert list(failures(runner.made)) == []
    assert num_cells([SEARCH]) == 2 == sum(finished for _, finished in told)


UNCLEAR = {"status": "error", "reason": "RuntimeError: could not execute a primitive"}


@pytest.mark.parametrize(
    ("mode", "without_budget", "critical", "says"),
    [
        (BudgetMode.PROCESS, {"samples": [1.0]}, [100.0], "not say without the budget"),
        (BudgetMode.PROCESS, UNCLEAR, [], "could not execute a primitive"),
        (BudgetMode.PROCESS, {"status": "oom", "reason": "all"}, [], "could not execute a"),
        (BudgetMode.SIMULATED, {"samples": [1.0]}, [], "could not execute a primitive"),
    ],
)
def test_what_fails_without_saying_why_is_tried_without_the_budget(
    make, mode, without_budget, critical, says
):
    """OneDNN does not tell a lack of memory from a fault: what only fails with a budget is one."""

    def unclear(size, limit):
        if limit != SEARCH.limits.budget:
            return without_budget
        return bytes_100_per_sample(size, limit) if 100 * size <= limit else UNCLEAR

    search = replace(SEARCH, methods=("gram",), limits=replace(SEARCH.limits, mode=mode))
    runner, _, _ = make({("gram", "probe"): unclear})
    runner.run([search])
    (found,) = [r for r in runner.made if r.quantity is Quantity.CRITICAL]
    assert found.samples == critical
    reasons = [r.reason for r in runner.made if r.quantity is Quantity.PROBE and r.reason]
    assert reasons
    assert all(says in reason for reason in reasons)


def test_a_search_goes_on_where_it_was_killed(make):
    def killed(size, limit):
        return KeyboardInterrupt() if size > 90 else bytes_100_per_sample(size, limit)

    first, _, _ = make({("gram", "probe"): killed})
    with pytest.raises(KeyboardInterrupt):
        first.run([SEARCH])
    before = {r.parameters["batch_size"] for r in first.made}
    assert before
    second, _, _ = make({(method, "probe"): bytes_100_per_sample for method in SEARCH.methods})
    second.run([SEARCH])
    again = {r.parameters["batch_size"] for r in second.made if r.method == "gram"}
    assert not again & before
    assert outcomes(second)["gram", "critical_batch_size"] == (Status.OK, [100.0])


def test_a_probe_that_fails_otherwise_ends_the_search(make):
    broken = {"status": "error", "reason": "bug"}
    script = {("gram", "probe"): broken, ("gradient", "probe"): bytes_100_per_sample}
    runner, _, _ = make(script)
    runner.run([SEARCH])
    assert outcomes(runner)["gram", "critical_batch_size"] == (Status.ERROR, [])
    assert outcomes(runner)["gradient", "critical_batch_size"] == (Status.OK, [100.0])
    assert [line.split(":")[-1] for line in failures(runner.made)] == [" bug", " bug"]


def test_profiles_use_suites_that_exist():
    for profile in PROFILES.values():
        for comparison in profile.comparisons():
            assert set(comparison.methods) <= set(SUITES[comparison.suite].methods)
            assert comparison.parameters["data"] in ("real", "synthetic")


def test_side_by_side_but_for_times(make):
    """Memory of two methods at once: each waits for the other to have begun."""
    together = threading.Barrier(2, timeout=30)

    def measured(batch_size, limit):
        together.wait()
        return {}

    script = {(method, "memory"): measured for method in COMPARISON.methods}
    runner, log, _ = make(script, workers=2)
    runner.run([COMPARISON, replace(COMPARISON, suite="leading", task=Task.leading(1))])
    commands = [command for _, command in log]
    assert commands.count("reference") == 1
    timed = [i for i, command in enumerate(commands) if command == "time"]
    assert all(i > max(timed) for i, command in enumerate(commands) if command == "memory")
    assert len(timed) == 12
    assert all(record.status is Status.OK for record in runner.made)
    assert len(runner.made) == 13


def test_an_interrupt_ends_what_runs_side_by_side(make):
    """No answer of a process that was killed becomes a record."""
    begun = threading.Event()

    def waiting(batch_size, limit):
        begun.wait(30)
        time.sleep(0.2)
        return {"status": "error", "reason": "killed"}

    def interrupted(batch_size, limit):
        begun.set()
        return KeyboardInterrupt()

    script = {("gram", "memory"): waiting, ("gradient", "memory"): interrupted}
    runner, log, _ = make(script, workers=2)
    with pytest.raises(KeyboardInterrupt):
        runner.run([COMPARISON])
    assert ("gram", "killed") in log
    assert not [r for r in runner.made if r.quantity is Quantity.MEMORY]


def test_further_figures_of_memory(make):
    script = {
        ("gram", "footprint"): {"samples": [], "details": {"tensors": 5, "whole_process": 9}},
        ("gradient", "footprint"): {"status": "error", "reason": "no profiler"},
    }
    runner, _, _ = make(script)
    runner.run([COMPARISON])
    details = {r.method: r.details for r in runner.made if r.quantity is Quantity.MEMORY}
    assert (details["gram"]["tensors"], details["gram"]["whole_process"]) == (5, 9)
    assert details["gradient"]["footprint"] == "no profiler"
    assert all(r.samples == [1, 2, 3] for r in runner.made if r.quantity is Quantity.MEMORY)


def test_what_has_no_reference_takes_none_from_others(make):
    """A preconditioned gradient on the problem whose spectrum is compared as well."""
    task = Task(Computed.PRECONDITIONED)
    other = replace(COMPARISON, suite="preconditioned", methods=("kfac_expand",), task=task)
    runner, log, _ = make()
    runner.run([COMPARISON, other])
    assert [command for _, command in log].count("reference") == 1
    assert dict(ScriptedWorker.references) == {"gram": [1.0], "gradient": [1.0], "kfac_expand": []}


@pytest.mark.parametrize(("timeout", "again"), [(10, False), (20, True)])
def test_what_took_too_long_may_have_more_time(make, timeout, again):
    slow = {"status": "timeout", "reason": "slow"}
    first, _, _ = make({("gram", "memory"): slow})
    first.run([COMPARISON])
    second, log, _ = make(timeout=timeout)
    second.run([COMPARISON])
    assert (("gram", "memory") in log) is again


@pytest.mark.parametrize(("limit", "again"), [(500, False), (1000, False), (2000, True)])
def test_what_ran_out_of_memory_may_have_more(make, limit, again):
    first, _, _ = make({("gram", "memory"): {"status": "oom", "reason": "too large"}})
    first.run([COMPARISON])
    second, log, _ = make(limit=limit)
    second.run([COMPARISON])
    assert (("gram", "memory") in log) is again


def test_what_took_too_long_beside_others_is_tried_alone(make):
    slow = {"status": "timeout", "reason": "slow"}
    first, _, _ = make({("gram", "memory"): slow}, workers=2)
    first.run([COMPARISON])
    second, log, _ = make()
    second.run([COMPARISON])
    assert ("gram", "memory") in log


def test_memory_of_what_was_wrong_in_an_earlier_run_is_not_measured(make):
    """The run ended between its check and its memory."""
    wrong = {"status": "error", "reason": "wrong"}
    late = {"status": "timeout", "reason": "slow"}
    script = {("gram", "accuracy"): late, ("gradient", "memory"): KeyboardInterrupt()}
    first, _, _ = make({**script, ("gram", "reference"): {}})
    with pytest.raises(KeyboardInterrupt):
        first.run([replace(COMPARISON, methods=("gradient", "gram"))])
    second, log, _ = make({("gram", "accuracy"): wrong})
    second.run([replace(COMPARISON, methods=("gradient", "gram"))])
    assert ("gram", "memory") not in log
    assert outcomes(second)["gram", "memory"] == (Status.TIMEOUT, [])
