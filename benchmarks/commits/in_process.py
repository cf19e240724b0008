"""Methods in this very process, for asv and pytest-benchmark, which bring their own."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.grid.points import Point
from benchmarks.measure.critical import BudgetMode, Limits, critical_batch_size
from benchmarks.methods import gram
from benchmarks.problems import PROBLEMS
from benchmarks.problems.problem import Instance
from benchmarks.records.record import Status
from benchmarks.run.journal import Answer
from benchmarks.run.serve import status_of
from benchmarks.run.worker import Worker

THREADS = 1
"""Of torch: on a shared machine, one is disturbed less than several."""

SEED = 0
"""For weights and data."""

LARGEST = 1024
"""The largest batch size that a search tries: the digits are not many more."""


def worker_at(point: Point, method: str = "gram") -> Worker:
    """A method at a point of the grid; nothing is computed yet.

    Args:
        point: Of a grid.
        method: Name of the method.

    Returns:
        The worker.

    Raises:
        ValueError: The point has no batch size.
    """
    return _worker(point, method, _size(point))


def check(worker: Worker, reference: Answer) -> Answer:
    """Run once, and compare with a reference; goes before any measurement of time.

    Args:
        worker: What is to be measured.
        reference: What its or another method's `Worker.reference` gave.

    Returns:
        The relative error in ``samples``, and facts in ``details``.

    Raises:
        ArithmeticError: The error exceeds the method's tolerance.
    """
    return worker.accuracy(reference["samples"], reference["details"])


def num_columns(point: Point) -> int:
    """Columns of the factor ``V`` of the GGN at a point, whichever method is measured there."""
    return gram.num_columns(instance_at(point), point.task)


def instance_at(point: Point) -> Instance:
    """The problem at a point of the grid."""
    return PROBLEMS[point.problem].make(_size(point), "cpu", torch.float32, SEED)


def backward_passes(run: Callable[[], object]) -> int:
    """How often autograd's engine is started: backward passes, and products with them.

    Args:
        run: What is called once.

    Returns:
        The number.
    """
    passes: list[None] = []
    engine = torch.autograd._engine_run_backward  # type: ignore[attr-defined]

    def counted(*args: Any, **kwargs: Any) -> Any:
        passes.append(None)
        return engine(*args, **kwargs)

    with patch.object(torch.autograd, "_engine_run_backward", counted):
        run()
    return len(passes)


def ratio_of_times(ours: Worker, other: Worker, repeats: int = 5) -> float:
    """How many times as long another method takes, measured in turns.

    Args:
        ours: The one to compare with; it has been checked.
        other: Also checked.
        repeats: Samples of each.

    Returns:
        The ratio of the medians.
    """
    samples = [[worker.time()["samples"][0] for worker in (ours, other)] for _ in range(repeats)]
    first, second = (median(times) for times in zip(*samples, strict=True))
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


def _size(point: Point) -> int:
    if point.batch_size is None:
        raise ValueError(f"Expected a point with a batch size, got {point.title}.")
    return point.batch_size


def _worker(point: Point, method: str, batch_size: int, budget: int | None = None) -> Worker:
    task = point.task.parameters
    return Worker(point.problem, method, batch_size, task, "cpu", THREADS, SEED, budget=budget)
