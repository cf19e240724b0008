"""What the leading eigenpairs cost, by ourselves and by power iteration."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from benchmarks.experiments.base import Measurement, Scale
from benchmarks.grid.published import GROUPINGS, SIZES, is_exact, variants
from benchmarks.grid.suites import Cell as Point
from benchmarks.grid.targets import ORIGINAL
from benchmarks.records.label import Label
from benchmarks.records.tasks import Grouping, Task

QUICK_KS = {"digits_cnn": (1, 2, 5, 10), "cifar10_3c3d": (1, 2, 5, 10), "fmnist_2c2d": (1, 10)}
QUICK_SIZE = 128


class RuntimeEigenpairs(Measurement):
    """Seconds for the k leading eigenpairs."""

    name = "runtime-eigenpairs"
    label = Label("run time of leading eigenpairs")
    description = "how long do the k leading eigenpairs take, compared with power iteration?"
    published = (
        "five networks, k = 1 to 10, on an RTX 2080 Ti and a Core i7-8700K; four approximations "
        "against power iteration on the exact GGN; the whole network or layer by layer"
    )
    scaled = (
        "Two of the networks and one on real digits, k = 1, 2, 5, 10 (2c2d: 1, 10), the whole "
        "network as one block, 3 repeats instead of 20."
    )

    def points(self, scale: Scale) -> Sequence[Point]:
        """Networks, numbers of pairs, approximations and blocks."""
        if scale is Scale.SMOKE:
            return [self._point("digits_mlp", 32, Task.leading(1), ())]
        if scale is Scale.QUICK:
            return [
                self._point(problem, QUICK_SIZE, Task.leading(k, **variant), ())
                for problem, ks in QUICK_KS.items()
                for k, variant in itertools.product(ks, variants())
            ]
        return [
            self._point(problem, size, Task.leading(k, **variant), ORIGINAL)
            for problem, size in SIZES.items()
            for k, variant in itertools.product(range(1, 11), variants(*GROUPINGS))
        ]

    def _point(self, problem: str, size: int, task: Task, others: tuple[str, ...]) -> Point:
        in_blocks = task.grouping is not Grouping.NETWORK
        lanczos = () if in_blocks else ("lanczos",)
        iterations = ("power_iteration", *lanczos) if is_exact(task) else ()
        return Point(self.name, problem, size, task, ("gram", *others, *iterations))


EXPERIMENT = RuntimeEigenpairs()
