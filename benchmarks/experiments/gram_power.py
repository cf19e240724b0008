"""Power iteration on the Gram matrix, in place of the GGN."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.experiments.base import Measurement, Scale
from benchmarks.grid.suites import Cell as Point
from benchmarks.records.label import Label
from benchmarks.records.tasks import Task

METHODS = ("gram", "gram_power_iteration", "power_iteration")


class GramPower(Measurement):
    """The same iteration in a small space and in a large one."""

    name = "gram-power"
    label = Label("power iteration on the Gram matrix")
    description = "is power iteration faster on the Gram matrix than on the GGN?"
    published = "3c3d, batch of 128, k = 1 to 10, RTX 2080 Ti, 20 repeats"
    scaled = "A batch of 32, k = 1, 5, 10, 3 repeats."

    def points(self, scale: Scale) -> Sequence[Point]:
        """Numbers of pairs."""
        if scale is Scale.SMOKE:
            return [self._point("digits_mlp", 32, 1)]
        if scale is Scale.QUICK:
            return [self._point("cifar10_3c3d", 32, k) for k in (1, 5, 10)]
        return [self._point("cifar10_3c3d", 128, k) for k in range(1, 11)]

    def _point(self, problem: str, size: int, k: int) -> Point:
        return Point(self.name, problem, size, Task.leading(k), METHODS)


EXPERIMENT = GramPower()
