"""Methods in this very process, for asv and pytest-benchmark, which bring their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.critical import BudgetMode, Limits, critical_batch_size
from benchmarks.grid import Point
from benchmarks.journal import Answer
from benchmarks.records import Status
from benchmarks.worker import Worker, status_of

THREADS = 1
"""Of torch: on a shared machine, one is disturbed less than several."""

LARGEST = 1024
"""The largest batch size that a search tries: the digits are not many more."""


class InProcess:
    """A method at a point of the grid.

    Attributes:
        point: What is computed.
        method: By which method.
        details: What is known about it.
    """

    def __init__(self, point: Point, method: str = "gram") -> None:
        """Choose; nothing is computed yet.

        Args:
            point: Of a grid.
            method: Name of the method.

        Raises:
            ValueError: The point has no batch size.
        """
        self.point, self.method = point, method
        self.details: dict[str, Any] = {}
        if point.batch_size is None:
            raise ValueError(f"Expected a point with a batch size, got {point.title}.")
        self._worker = _worker(point, method, point.batch_size)

    def reference(self) -> Answer:
        """The result in float64, certified by an independent implementation."""
        return self._worker.reference()

    def check(self, reference: Answer) -> float:
        """Run once, and compare with the reference; goes before any measurement of time.

        Args:
            reference: What `reference` gave.

        Returns:
            The relative error.

        Raises:
            ArithmeticError: It exceeds the method's tolerance.
        """
        answer = self._worker.accuracy(reference["samples"], reference["details"])
        self.details = answer["details"]
        return answer["samples"][0]

    @property
    def num_columns(self) -> int:
        """Columns of the factor ``V`` of the GGN."""
        return self._worker.num_columns

    def prepare(self) -> Callable[[], object]:
        """The function to be measured, without having run it."""
        return self._worker.prepare()

    @property
    def run(self) -> Callable[[], object]:
        """The function that `check` has run."""
        return self._worker.run

    @property
    def first(self) -> float:
        """Seconds that the run took which `check` has checked."""
        return self._worker.first

    @property
    def number(self) -> int:
        """How often to repeat `run` within a sample of its time."""
        return self._worker.number

    def seconds(self) -> float:
        """One sample of the time of `run`."""
        return self._worker.time()["samples"][0]

    def peak_of_tensors(self) -> int:
        """Bytes that tensors hold at once, besides model and data; the same in every run."""
        return self._worker.peak_of_tensors()

    def backward_passes(self) -> int:
        """How often `run` starts autograd's engine: backward passes, and products with them."""
        with _counted_passes() as passes:
            self.run()
        return len(passes)


def ratio_of_times(ours: InProcess, other: InProcess, repeats: int = 5) -> float:
    """How many times as long another method takes, measured in turns.

    Args:
        ours: The one to compare with; it has been checked.
        other: Also checked.
        repeats: Samples of each.

    Returns:
        The ratio of the medians.
    """
    pairs = [(ours.seconds(), other.seconds()) for _ in range(repeats)]
    first, second = (median(samples) for samples in zip(*pairs, strict=True))
    return second / first


def simulated_critical_batch_size(point: Point, budget: int, method: str = "gram") -> int:
    """The largest batch whose tensors stay within a budget.

    Args:
        point: Problem and task.
        budget: Bytes.
        method: Name of the method.

    Returns:
        The batch size; 0 if none fits, one more than `LARGEST` if all do.

    Raises:
        RuntimeError: A batch size failed for another reason than the budget.
    """

    def probe(size: int, attempt: int) -> Answer:
        try:
            return {"status": Status.OK.value, **_worker(point, method, size, budget).probe()}
        except Exception as error:
            status = status_of(error, simulated=True)
            if status is not Status.OUT_OF_MEMORY:
                raise
            return {"status": status.value, "reason": str(error)}

    limits = Limits(budget, LARGEST, mode=BudgetMode.SIMULATED)
    answer = critical_batch_size(probe, limits)
    return int(answer["samples"][0])


def _worker(point: Point, method: str, batch_size: int, budget: int | None = None) -> Worker:
    task = point.task.parameters
    return Worker(point.problem, method, batch_size, task, "cpu", THREADS, 0, budget=budget)


@contextmanager
def _counted_passes() -> Iterator[list[None]]:
    """Each start of autograd's engine adds an item."""
    passes: list[None] = []
    engine = torch.autograd._engine_run_backward  # type: ignore[attr-defined]

    def counted(*args: Any, **kwargs: Any) -> Any:
        passes.append(None)
        return engine(*args, **kwargs)

    with patch.object(torch.autograd, "_engine_run_backward", counted):
        yield passes
