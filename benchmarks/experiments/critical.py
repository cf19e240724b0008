"""Critical batch sizes: what three of the published experiments have in common."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.experiments.base import Measurement, Scale
from benchmarks.grid.published import BUDGET, GROUPINGS, SIZES, is_exact, variants
from benchmarks.grid.suites import Cell as Point
from benchmarks.grid.targets import ORIGINAL
from benchmarks.measure.critical import BudgetMode, Limits
from benchmarks.records.tasks import Computed, Grouping, Task

QUICK_BUDGET = 2**29
QUICK_PROBLEMS: tuple[str, ...] = ("cifar10_3c3d", "fmnist_2c2d")
SMOKE_LIMITS = Limits(2**23, largest=16, mode=BudgetMode.SIMULATED)


class CriticalBatchSize(Measurement):
    """The largest batch with which a process gets by on a budget of memory.

    Attributes:
        computed: What the process computes.
        k: Number of leading pairs, if that is what.
    """

    computed: Computed
    k: int | None = None
    scaled = (
        "Two of five networks, on 512 MiB instead of 11 GiB of a card or 31 GiB of a machine, at "
        "most 300 s instead of 1800 for a size, the whole network as one block; vivit-for-pytorch "
        "1.0.0 for the exact matrix only."
    )

    def points(self, scale: Scale) -> Sequence[Point]:
        """Networks, approximations and blocks."""
        if scale is Scale.SMOKE:
            return [self._point("digits_mlp", Task(self.computed, self.k), SMOKE_LIMITS, True)]
        alone = scale is Scale.QUICK
        limits = Limits(QUICK_BUDGET if alone else BUDGET)
        problems = QUICK_PROBLEMS if alone else tuple(SIZES)
        tasks = self._tasks(*(GROUPINGS[:1] if alone else GROUPINGS))
        return [
            self._point(problem, task, limits, alone and not is_exact(task))
            for problem in problems
            for task in tasks
        ]

    def _tasks(self, *groupings: Grouping) -> list[Task]:
        return [Task(self.computed, self.k, **variant) for variant in variants(*groupings)]

    def _point(self, problem: str, task: Task, limits: Limits, alone: bool) -> Point:
        methods = ("gram",) if alone else ("gram", *ORIGINAL)
        return Point(self.name, problem, None, task, methods, limits)
