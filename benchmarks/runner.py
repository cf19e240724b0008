"""Runs comparisons, cell by cell.

At a batch size: accuracy first, then interleaved timing, then memory. Or the critical batch size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.critical import Limits, critical_batch_size
from benchmarks.methods import METHODS
from benchmarks.process import WorkerProcess, open_worker
from benchmarks.records import Quantity, Record, RecordStore, Status, cell_key
from benchmarks.suites import Comparison
from benchmarks.tasks import Computed

FINAL = {Status.OK, Status.OUT_OF_MEMORY, Status.TIMEOUT, Status.SKIPPED}
"""Outcomes that a second run does not try again; an error may have been mended."""

COUNTED = (Quantity.ACCURACY, Quantity.TIME, Quantity.MEMORY, Quantity.CRITICAL)
"""Cells that a run is announced to have; references and probes come in between."""

MIN_SAMPLES = 3
"""Timed runs that even the slowest method gets, if it is asked for as many; peaks of memory."""

Progress = Callable[[str, int], None]
"""Told what runs now, and how many cells were finished since it was last told."""

Answer = dict[str, Any]


def num_cells(comparisons: list[Comparison]) -> int:
    """Number of records that a run of these comparisons makes, references not counted.

    Args:
        comparisons: What to run.

    Returns:
        One for each method and quantity of a comparison; probes are not counted either.
    """
    return sum(len(c.methods) * len(c.quantities) for c in comparisons)


@dataclass
class Runner:
    """Measures comparisons and stores each record as soon as it is made.

    Attributes:
        store: Where records go, and where those of an earlier run are found.
        environment: Commit, machine and versions.
        timeout: Seconds that a single step may take.
        patience: Seconds after which a method is not timed again, once it has three samples.
        memory_limit: Bytes that a worker may allocate; None for no limit.
        progress: Is told what happens.
        peer_python: The interpreter of peers.
        made: Records of this run.
    """

    store: RecordStore
    environment: dict[str, Any]
    timeout: float
    patience: float
    memory_limit: int | None
    progress: Progress
    peer_python: Path
    made: list[Record] = field(default_factory=list, init=False)
    _done: dict[str, Record] = field(init=False)

    def __post_init__(self) -> None:
        """Find what an earlier run on this commit and machine has left."""
        self._done = {
            record.key: record
            for record in self.store.read()
            if self._is_final(record) and self._same_place(record)
        }

    def run(self, comparisons: list[Comparison]) -> None:
        """Measure everything that is not done yet.

        Args:
            comparisons: What to measure.
        """
        for comparison in comparisons:
            pending = {
                quantity: [
                    m for m in comparison.methods if not self._is_done(comparison, m, quantity)
                ]
                for quantity in comparison.quantities
            }
            count = sum(map(len, pending.values()))
            self.progress(comparison.title, num_cells([comparison]) - count)
            if not count:
                continue
            if comparison.limits is not None:
                self._search(comparison, comparison.limits, pending[Quantity.CRITICAL])
            else:
                self._measure(comparison, pending)

    def _measure(self, comparison: Comparison, pending: dict[Quantity, list[str]]) -> None:
        """Accuracy, time and memory."""
        reference = self._reference(comparison)
        failed = self._accuracy_and_time(comparison, pending, reference)
        for method in pending[Quantity.MEMORY]:
            self._tell(comparison, method, Quantity.MEMORY)
            answer = failed.get(method) or self._memory_of_runs(comparison, method)
            self._store([self._record(comparison, method, Quantity.MEMORY, answer)])

    def _search(self, comparison: Comparison, limits: Limits, methods: list[str]) -> None:
        """The critical batch size; each probe is a record, which a later run need not repeat."""
        for method in methods:
            probe = partial(self._probe, comparison, limits, method)
            answer = critical_batch_size(probe, limits)
            self._store([self._record(comparison, method, Quantity.CRITICAL, answer)])

    def _probe(self, comparison: Comparison, limits: Limits, method: str, size: int) -> Answer:
        """Whether a batch size fits into the budget, in a process of its own."""
        probed = replace(comparison, batch_size=size)
        who = (comparison.suite, comparison.problem, method)
        known = self._done.get(cell_key(*who, Quantity.PROBE.value, probed.parameters))
        if known is not None:
            return {"status": known.status, "samples": known.samples, "reason": known.reason}
        self._tell(probed, method, Quantity.PROBE)
        with open_worker(probed, method, limits.budget, self.peer_python) as worker:
            answer = worker.start(self.timeout)
            if answer["status"] == Status.OK.value:
                answer = worker.ask("probe", self.timeout)
        self._store([self._record(probed, method, Quantity.PROBE, answer)])
        return answer

    def _accuracy_and_time(
        self,
        comparison: Comparison,
        pending: dict[Quantity, list[str]],
        reference: Answer,
    ) -> dict[str, Answer]:
        """Check each method's accuracy, then time those that pass, in turns.

        Returns:
            What went wrong, by method.
        """
        failed: dict[str, Answer] = {}
        methods = [
            m
            for m in comparison.methods
            if m in pending[Quantity.ACCURACY] or m in pending[Quantity.TIME]
        ]
        with contextlib.ExitStack() as stack:
            live: dict[str, WorkerProcess] = {}
            for method in methods:
                self._tell(comparison, method, Quantity.ACCURACY)
                worker = stack.enter_context(self._worker(comparison, method))
                answer = self._check(worker, reference)
                if method in pending[Quantity.ACCURACY]:
                    self._store([self._record(comparison, method, Quantity.ACCURACY, answer)])
                if answer["status"] == Status.OK.value:
                    live[method] = worker
                else:
                    failed[method] = answer
                    worker.close()
            timed = [m for m in methods if m in pending[Quantity.TIME]]
            answers = {**failed, **self._time_in_turns(comparison, live, timed)}
            for method in timed:
                details = {**answers[method].get("details", {}), "interleaved_with": [*live]}
                answers[method] = {**answers[method], "details": details}
            self._store([self._record(comparison, m, Quantity.TIME, answers[m]) for m in timed])
        return failed

    def _check(self, worker: WorkerProcess, reference: Answer) -> Answer:
        if reference["status"] != Status.OK.value:
            return {"status": Status.ERROR.value, "reason": f"no reference: {reference['reason']}"}
        started = worker.start(self.timeout)
        if started["status"] != Status.OK.value:
            return started
        return worker.ask(
            "accuracy",
            self.timeout,
            reference=reference["samples"],
            facts=reference.get("details", {}),
        )

    def _time_in_turns(
        self,
        comparison: Comparison,
        live: dict[str, WorkerProcess],
        timed: list[str],
    ) -> dict[str, Answer]:
        """One sample of each method after the other, so that all see the same disturbances."""
        answers: dict[str, Answer] = {
            m: {"status": "ok", "samples": []} for m in timed if m in live
        }
        for repeat in range(comparison.repeats):
            for method, answer in _rotated(answers, repeat):
                if answer["status"] != Status.OK.value or self._has_enough(answer["samples"]):
                    continue
                self._tell(
                    comparison, method, Quantity.TIME, f" {repeat + 1}/{comparison.repeats}"
                )
                sample = live[method].ask("time", self.timeout)
                if sample["status"] == Status.OK.value:
                    answer["samples"] += sample["samples"]
                    answer["details"] = sample["details"]
                else:
                    answers[method] = sample
        return answers

    def _has_enough(self, samples: list[float]) -> bool:
        """Whether a slow method has been timed for long enough."""
        return len(samples) >= MIN_SAMPLES and sum(samples) > self.patience

    def _memory_of_runs(self, comparison: Comparison, method: str) -> Answer:
        """Peaks of some processes, for what an allocator keeps varies; of one if that is slow."""
        begin = perf_counter()
        answer = self._memory(comparison, method)
        for _ in range(1, min(comparison.repeats, MIN_SAMPLES)):
            if answer["status"] != Status.OK.value or perf_counter() - begin > self.patience:
                break
            another = self._memory(comparison, method)
            samples = [*answer["samples"], *another.get("samples", [])]
            answer = {**another, "samples": samples}
        return answer

    def _memory(self, comparison: Comparison, method: str) -> Answer:
        with self._worker(comparison, method) as worker:
            started = worker.start(self.timeout)
            if started["status"] != Status.OK.value:
                return started
            return worker.ask("memory", self.timeout)

    def _reference(self, comparison: Comparison) -> Answer:
        """The float64 result of a problem, computed once and kept as a record."""
        parameters, quantity = _reference_parameters(comparison), _reference_quantity(comparison)
        who = ("reference", comparison.problem, "reference", quantity)
        key = cell_key(*who, parameters)
        if key in self._done and self._done[key].status is Status.OK:
            known = self._done[key]
            return {"status": Status.OK.value, "samples": known.samples, "details": known.details}
        self._tell(comparison, "reference", quantity)
        with self._worker(comparison, "gram") as worker:
            answer = worker.start(self.timeout)
            if answer["status"] == Status.OK.value:
                answer = worker.ask("reference", self.timeout)
        self._store([self._make(*who, parameters, answer)])
        return answer

    def _worker(self, comparison: Comparison, method: str) -> WorkerProcess:
        return open_worker(comparison, method, self.memory_limit, self.peer_python)

    def _record(
        self, comparison: Comparison, method: str, quantity: Quantity, answer: Answer
    ) -> Record:
        suite, problem = comparison.suite, comparison.problem
        return self._make(suite, problem, method, quantity, comparison.parameters, answer)

    def _make(
        self,
        suite: str,
        problem: str,
        method: str,
        quantity: Quantity,
        parameters: dict[str, Any],
        answer: Answer,
    ) -> Record:
        return Record(
            suite=suite,
            problem=problem,
            method=method,
            quantity=quantity,
            parameters=parameters,
            status=Status(answer["status"]),
            samples=answer.get("samples", []) if answer["status"] == Status.OK.value else [],
            unit=quantity.unit,
            reason=answer.get("reason", ""),
            details={
                **answer.get("details", {}),
                "memory_limit": parameters.get("budget", self.memory_limit),
            },
            environment=self.environment,
            time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    def _store(self, records: list[Record]) -> None:
        self.store.append(records)
        self.made += records
        self._done.update({record.key: record for record in records})
        counted = [record for record in records if record.quantity in COUNTED]
        if counted:
            self.progress("", len(counted))

    def _is_done(self, comparison: Comparison, method: str, quantity: Quantity) -> bool:
        key = cell_key(
            comparison.suite, comparison.problem, method, quantity.value, comparison.parameters
        )
        return key in self._done

    def _is_final(self, record: Record) -> bool:
        """Whether not to try again; a peer that was skipped may have got its environment."""
        if record.status is Status.SKIPPED and record.method in METHODS:
            return not (METHODS[record.method].is_peer and self.peer_python.exists())
        return record.status in FINAL

    def _same_place(self, record: Record) -> bool:
        return all(
            record.environment.get(what) == self.environment.get(what)
            for what in ("commit", "changes", "machine", "versions")
        )

    def _tell(
        self, comparison: Comparison, method: str, quantity: Quantity, what: str = ""
    ) -> None:
        self.progress(f"{comparison.title}: {method}, {quantity.value}{what}", 0)


def _rotated(answers: dict[str, Answer], by: int) -> list[tuple[str, Answer]]:
    """Methods in turn, each repeat beginning with another one."""
    items = list(answers.items())
    by %= max(len(items), 1)
    return items[by:] + items[:by]


def _reference_quantity(comparison: Comparison) -> Quantity:
    """A step has a reference of its own; all else is checked against a spectrum."""
    is_step = comparison.task.computed is Computed.NEWTON_STEP
    return Quantity.STEP if is_step else Quantity.SPECTRUM


def _reference_parameters(comparison: Comparison) -> dict[str, Any]:
    """All but what does not matter for it."""
    dropped = ("computed", "k", "repeats")
    kept = {name: v for name, v in comparison.parameters.items() if name not in dropped}
    return kept | {"dtype": "float64"}


def failures(records: list[Record]) -> Iterator[str]:
    """One line for each record that is not ok.

    Args:
        records: Any records.

    Yields:
        What failed, and why; that a probe runs out of memory is no failure.
    """
    for record in records:
        probed = record.quantity is Quantity.PROBE and record.status is Status.OUT_OF_MEMORY
        if record.status is not Status.OK and not probed:
            what = f"{record.suite}/{record.problem}/{record.method}/{record.quantity.value}"
            yield f"{record.status.value:8} {what}: {record.reason}"
