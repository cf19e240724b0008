"""What power iteration costs, depending on the accuracy that is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.experiments.base import Measurement, Scale
from benchmarks.grid.suites import STUDIED
from benchmarks.grid.suites import Cell as Point
from benchmarks.methods import find_method
from benchmarks.records.label import Label
from benchmarks.records.tasks import Task

TOLERANCES = tuple(find_method(text).text for text in STUDIED)
"""From the smallest on."""

QUICK = TOLERANCES[5:18:2]
"""From 1e-4 to 2.5e-2: below, power iteration takes minutes."""


class PowerTolerance(Measurement):
    """Time against accuracy."""

    name = "power-tolerance"
    label = Label("power iteration's tolerance")
    description = "what does power iteration cost, depending on how accurate it has to be?"
    published = (
        "3c3d, batch of 128, 10 leading pairs, RTX 2080 Ti; 21 tolerances from 1e-5 to 0.1, up to "
        "1e6 iterations, 20 repeats"
    )
    scaled = "A batch of 32, 7 of the tolerances (1e-4 to 0.025), 3 repeats."

    def points(self, scale: Scale) -> Sequence[Point]:
        """One comparison of many tolerances."""
        if scale is Scale.SMOKE:
            return [self._point("digits_mlp", 32, 1, TOLERANCES[-1:])]
        if scale is Scale.QUICK:
            return [self._point("cifar10_3c3d", 32, 10, QUICK)]
        return [self._point("cifar10_3c3d", 128, 10, TOLERANCES)]

    def _point(self, problem: str, size: int, k: int, methods: tuple[str, ...]) -> Point:
        return Point(self.name, problem, size, Task.leading(k), ("gram", *methods))


EXPERIMENT = PowerTolerance()
