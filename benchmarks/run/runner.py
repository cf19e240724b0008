"""Runs comparisons, cell by cell.

At a batch size: accuracy first, then interleaved timing, then memory. Or the critical batch size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.grid.comparison import Comparison
from benchmarks.measure.critical import Limits, critical_batch_size
from benchmarks.records.record import Quantity, Record, RecordStore, Status
from benchmarks.run.cells import cell_of, has_reference, num_cells, reference_cell
from benchmarks.run.journal import Answer, Conditions, Journal, answer_of
from benchmarks.run.pool import Pool
from benchmarks.run.probe import probe
from benchmarks.run.process import RETURNING, WorkerProcess

MIN_SAMPLES = 3
"""Timed runs that even the slowest method gets, if it is asked for as many; peaks of memory."""

MEMORY_FRACTION = 0.6
"""Share of the machine's memory beyond which allocations of all workers together fail."""

Progress = Callable[[str, int], None]
"""Told what runs now, and how many cells were finished since it was last told."""

NOTHING: Answer = {"status": Status.OK.value, "samples": [], "details": {}}
"""The reference of what has none."""


@dataclass
class Runner:
    """Measures comparisons and stores each record as soon as it is made.

    Attributes:
        store: Where records go, and where those of an earlier run are found.
        environment: Code, machine and versions.
        timeout: Seconds that a single step may take.
        patience: Seconds after which a method is not timed again, once it has three samples.
        memory_limit: Bytes that a worker may allocate; None for no limit.
        progress: Is told what happens.
        peer_python: The interpreter of peers.
        workers: How many processes may run side by side, where they do not disturb each other.
    """

    store: RecordStore
    environment: dict[str, Any]
    timeout: float
    patience: float
    memory_limit: int | None
    progress: Progress
    peer_python: Path
    workers: int = 1
    _journal: Journal = field(init=False)
    _pool: Pool = field(init=False)
    _references: dict[str, Answer] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Find what an earlier run of this code on this machine has left."""
        conditions = Conditions(self.timeout, self.memory_limit, self.workers, self.peer_python)
        finished = partial(self.progress, "")
        self._journal = Journal(self.store, self.environment, conditions, finished)
        self._pool = Pool(self.workers, self.memory_limit, self.peer_python, self._journal.close)

    @property
    def made(self) -> list[Record]:
        """Records of this run."""
        return self._journal.made

    def run(self, comparisons: list[Comparison]) -> None:
        """Measure everything that is not done yet.

        Times come first, one comparison after the other and by themselves. References before, and
        memory and searches after them run side by side.

        Args:
            comparisons: What to measure.
        """
        pending = [(comparison, self._pending(comparison)) for comparison in comparisons]
        for comparison, cells in pending:
            count = sum(map(len, cells.values()))
            self.progress(comparison.title, num_cells([comparison]) - count)
        left = [(comparison, cells) for comparison, cells in pending if any(cells.values())]
        referred = [c for c, _ in left if has_reference(c)]
        references = {reference_cell(c).key: partial(self._make_reference, c) for c in referred}
        self._pool.run(references.values())
        jobs: list[Callable[[], object]] = []
        for comparison, cells in left:
            if comparison.limits is not None:
                searches = partial(self._search, comparison, comparison.limits)
                jobs += [partial(searches, m) for m in cells[Quantity.CRITICAL]]
                continue
            reference = NOTHING
            if has_reference(comparison):
                reference = self._references[reference_cell(comparison).key]
            failed = self._accuracy_and_time(comparison, cells, reference)
            measure = partial(self._measure_memory, comparison, failed)
            jobs += [partial(measure, m) for m in cells.get(Quantity.MEMORY, ())]
        self._pool.run(jobs)

    def _pending(self, comparison: Comparison) -> dict[Quantity, list[str]]:
        return {
            quantity: [
                m for m in comparison.methods if not self._journal.cell(comparison, m, quantity)
            ]
            for quantity in comparison.quantities
        }

    def _measure_memory(
        self, comparison: Comparison, failed: dict[str, Answer], method: str
    ) -> None:
        self._tell(comparison, method, Quantity.MEMORY)
        answer = failed.get(method) or self._memory_of_runs(comparison, method)
        self._journal.write(comparison, Quantity.MEMORY, {method: answer})

    def _search(self, comparison: Comparison, limits: Limits, method: str) -> None:
        """The critical batch size; each probe is a record, which a later run need not repeat."""
        answer = critical_batch_size(partial(self._probe, comparison, limits, method), limits)
        self._journal.write(comparison, Quantity.CRITICAL, {method: answer})

    def _probe(
        self, comparison: Comparison, limits: Limits, method: str, size: int, attempt: int
    ) -> Answer:
        """Whether a batch size fits into the budget, in a process of its own."""
        probed = replace(comparison, batch_size=size)
        cell = cell_of(probed, method, Quantity.PROBE, attempt)
        known = self._journal.find(cell)
        if known is not None:
            return answer_of(known)
        self._tell(probed, method, Quantity.PROBE)
        side = self._pool.at_the_side
        answer = probe(
            lambda budget: self._pool.worker(probed, method, budget, side), limits, self.timeout
        )
        self._journal.add({cell: answer})
        return answer

    def _accuracy_and_time(
        self,
        comparison: Comparison,
        pending: dict[Quantity, list[str]],
        reference: Answer,
    ) -> dict[str, Answer]:
        """Check each method's accuracy, then time those that pass, in turns.

        Returns:
            What went wrong, by method; also in an earlier run.
        """
        failed = {
            m: answer_of(done)
            for m in comparison.methods
            if (done := self._journal.cell(comparison, m, Quantity.ACCURACY)) is not None
            and done.status is not Status.OK
        }
        methods = [
            m
            for m in comparison.methods
            if m in pending[Quantity.ACCURACY] or m in pending[Quantity.TIME]
        ]
        with contextlib.ExitStack() as stack:
            live: dict[str, WorkerProcess] = {}
            for method in methods:
                self._tell(comparison, method, Quantity.ACCURACY)
                worker = stack.enter_context(self._pool.worker(comparison, method))
                answer = self._check(worker, reference)
                if method in pending[Quantity.ACCURACY]:
                    self._journal.write(comparison, Quantity.ACCURACY, {method: answer})
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
            self._journal.write(comparison, Quantity.TIME, {m: answers[m] for m in timed})
        return failed

    def _check(self, worker: WorkerProcess, reference: Answer) -> Answer:
        if reference["status"] != Status.OK.value:
            skipped = reference["status"] == Status.SKIPPED.value
            status = Status.SKIPPED if skipped else Status.ERROR
            return {"status": status.value, "reason": f"no reference: {reference['reason']}"}
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
        answer = self._memory(comparison, method, further=True)
        for _ in range(1, min(comparison.repeats, MIN_SAMPLES)):
            if answer["status"] != Status.OK.value or perf_counter() - begin > self.patience:
                break
            another = self._memory(comparison, method)
            samples = [*answer["samples"], *another.get("samples", [])]
            details = {**answer.get("details", {}), **another.get("details", {})}
            answer = {**another, "samples": samples, "details": details}
        return answer

    def _memory(self, comparison: Comparison, method: str, further: bool = False) -> Answer:
        """Peak memory in a process of its own, and other figures of it from further runs."""
        with self._pool.worker(
            comparison, method, settings=RETURNING | self._pool.at_the_side
        ) as worker:
            answer = worker.start(self.timeout)
            if answer["status"] == Status.OK.value:
                answer = worker.ask("memory", self.timeout)
            if further and answer["status"] == Status.OK.value:
                more = worker.ask("footprint", self.timeout)
                reason = {"footprint": more["reason"]} if "reason" in more else {}
                details = {**answer.get("details", {}), **more.get("details", {}), **reason}
                answer = {**answer, "details": details}
        return answer

    def _make_reference(self, comparison: Comparison) -> None:
        """The float64 result of a problem, computed once and kept as a record."""
        cell = reference_cell(comparison)
        known = self._journal.find(cell)
        if known is not None and known.status is Status.OK:
            self._references[cell.key] = answer_of(known)
            return
        self._tell(comparison, "reference", cell.quantity)
        with self._pool.worker(comparison, "gram", settings=self._pool.at_the_side) as worker:
            answer = worker.start(self.timeout)
            if answer["status"] == Status.OK.value:
                answer = worker.ask("reference", self.timeout)
        self._references[cell.key] = answer
        self._journal.add({cell: answer})

    def _tell(
        self, comparison: Comparison, method: str, quantity: Quantity, what: str = ""
    ) -> None:
        self.progress(f"{comparison.title}: {method}, {quantity.value}{what}", 0)


def _rotated(answers: dict[str, Answer], by: int) -> list[tuple[str, Answer]]:
    """Methods in turn, each repeat beginning with another one."""
    items = list(answers.items())
    by %= max(len(items), 1)
    return items[by:] + items[:by]


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
            what = f"{record.suite}/{record.problem}/{record.text}/{record.quantity.value}"
            yield f"{record.status.value:8} {what}: {record.reason}"
