"""What has been measured: the records of a run and of earlier ones at the same place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from threading import Lock
from typing import Any

from benchmarks.grid.comparison import Comparison
from benchmarks.methods import METHODS
from benchmarks.records.record import (
    Quantity,
    Record,
    RecordStore,
    Status,
    identity,
)
from benchmarks.run.cells import Cell, cell_of
from benchmarks.run.process import PEER_PYTHON

FINAL = {Status.OK, Status.OUT_OF_MEMORY, Status.TIMEOUT, Status.SKIPPED}
"""Outcomes that a second run does not try again; an error may have been mended."""

COUNTED = (Quantity.ACCURACY, Quantity.TIME, Quantity.MEMORY, Quantity.CRITICAL)
"""Cells that a run is announced to have; references and probes come in between."""

Answer = dict[str, Any]
"""Of a worker: ``status``, ``samples``, ``details``, ``reason``."""


@dataclass(frozen=True)
class Conditions:
    """What decides whether an outcome would be the same again.

    Attributes:
        timeout: Seconds that a single step may take; None for no limit.
        memory_limit: Bytes that a worker may allocate; None for no limit.
        workers: How many processes may run side by side.
        peer_python: The interpreter of peers.
    """

    timeout: float | None = None
    memory_limit: int | None = None
    workers: int = 1
    peer_python: Path = PEER_PYTHON


class Journal:
    """Writes records as they are made, and knows which cells are done.

    Attributes:
        made: Records of this run.
        is_closed: Whether nothing is written any more.
    """

    def __init__(
        self,
        store: RecordStore,
        environment: dict[str, Any],
        conditions: Conditions,
        finished: Callable[[int], None],
    ) -> None:
        """Read what an earlier run of the same code on this machine has left.

        Args:
            store: The file.
            environment: Code, machine and versions.
            conditions: Under which this run measures.
            finished: Told how many cells were finished.
        """
        self.made: list[Record] = []
        self.is_closed = False
        self._store, self._environment, self._finished = store, environment, finished
        self._conditions, self._lock = conditions, Lock()
        self._done = {
            record.key: record
            for record in store.read()
            if self._is_final(record) and self._is_from_here(record)
        }

    def find(self, cell: Cell) -> Record | None:
        """The record of a cell, if it is done."""
        return self._done.get(cell.key)

    def cell(self, comparison: Comparison, method: str, quantity: Quantity) -> Record | None:
        """The record of a method's figure, if it is done."""
        return self.find(cell_of(comparison, method, quantity))

    def write(
        self, comparison: Comparison, quantity: Quantity, answers: Mapping[str, Answer]
    ) -> None:
        """Record what methods of a comparison gave.

        Args:
            comparison: What was measured.
            quantity: Which figure.
            answers: By method.
        """
        self.add({cell_of(comparison, m, quantity): answer for m, answer in answers.items()})

    def add(self, answers: Mapping[Cell, Answer]) -> None:
        """Write records through to disk.

        Args:
            answers: What was measured, and what came out.

        Raises:
            KeyboardInterrupt: The journal is closed: what a killed process gave is no result.
        """
        with self._lock:
            if self.is_closed:
                raise KeyboardInterrupt
            records = [self._record(cell, answer) for cell, answer in answers.items()]
            self._store.append(records)
            self.made += records
            self._done.update({record.key: record for record in records})
            counted = [record for record in records if record.quantity in COUNTED]
            if counted:
                self._finished(len(counted))

    def close(self) -> None:
        """Write nothing any more."""
        with self._lock:
            self.is_closed = True

    def _record(self, cell: Cell, answer: Answer) -> Record:
        conditions = self._conditions
        return Record(
            suite=cell.suite,
            problem=cell.problem,
            method=cell.method,
            quantity=cell.quantity,
            parameters=cell.parameters,
            status=Status(answer["status"]),
            samples=answer.get("samples", []) if answer["status"] == Status.OK.value else [],
            unit=cell.quantity.unit,
            reason=answer.get("reason", ""),
            details={
                **answer.get("details", {}),
                "memory_limit": cell.parameters.get("budget", conditions.memory_limit),
                "timeout": conditions.timeout,
                "workers": conditions.workers,
            },
            environment=self._environment,
            time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

    def _is_final(self, record: Record) -> bool:
        """Whether not to try again: what was lacking may be there now.

        That is the environment of a peer, time, fewer processes beside it, or memory.
        """
        here, then = self._conditions, record.details
        limit = then.get("memory_limit")
        if record.status is Status.SKIPPED and record.method in METHODS:
            return not (METHODS[record.method].is_peer and here.peer_python.exists())
        if record.status is Status.TIMEOUT:
            had, has = (_or_infinite(x) for x in (then.get("timeout", here.timeout), here.timeout))
            had_as_long = had >= has
            return had_as_long and then.get("workers", here.workers) <= here.workers
        if record.status is Status.OUT_OF_MEMORY and "budget" not in record.parameters:
            had, has = _or_infinite(limit), _or_infinite(here.memory_limit)
            return had >= has
        return record.status in FINAL

    def _is_from_here(self, record: Record) -> bool:
        then, here = record.environment, self._environment
        if "code" not in then:
            here = {name: value for name, value in here.items() if name != "code"}
        return identity(then) == identity(here)


def _or_infinite(limit: float | None) -> float:
    return math.inf if limit is None else limit


def answer_of(record: Record) -> Answer:
    """What a worker answered."""
    return {
        "status": record.status.value,
        "samples": record.samples,
        "details": record.details,
        "reason": record.reason,
    }
