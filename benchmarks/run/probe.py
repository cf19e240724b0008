"""A probe: does a method get by on a budget of memory, in a process of its own?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from benchmarks.measure.critical import BudgetMode, Limits
from benchmarks.measure.time_and_memory import may_be_out_of_memory
from benchmarks.records.record import Status
from benchmarks.run.journal import Answer
from benchmarks.run.process import WorkerProcess

ONLY_WITH_BUDGET = "which it does not say without the budget"


def probe(
    worker: Callable[[int | None], AbstractContextManager[WorkerProcess]],
    limits: Limits,
    timeout: float,
) -> Answer:
    """Run once with the budget; where that fails without saying why, once more without it.

    Args:
        worker: Opens a process that may allocate as many bytes; None for what all may.
        limits: Of the search.
        timeout: Seconds.

    Returns:
        What the process says; that memory ran out, if only the budget can be the reason.
    """
    answer = _once(worker, limits.budget, timeout)
    if _is_unclear(answer, limits):
        without = _once(worker, None, timeout)
        if without["status"] == Status.OK.value:
            reason = f"{answer['reason']}, {ONLY_WITH_BUDGET}"
            return answer | {"status": Status.OUT_OF_MEMORY.value, "reason": reason}
    return answer


def _once(
    worker: Callable[[int | None], AbstractContextManager[WorkerProcess]],
    budget: int | None,
    timeout: float,
) -> Answer:
    with worker(budget) as process:
        answer = process.start(timeout)
        if answer["status"] == Status.OK.value:
            answer = process.ask("probe", timeout)
    return answer


def _is_unclear(answer: Answer, limits: Limits) -> bool:
    """Whether it failed, and does not say whether the budget is the reason."""
    failed, is_counted = (
        answer["status"] == Status.ERROR.value,
        limits.mode is BudgetMode.SIMULATED,
    )
    return failed and not is_counted and may_be_out_of_memory(answer["reason"])
