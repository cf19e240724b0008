"""The grid on which developers follow the library: of asv, of pytest-benchmark, of `check`.

Nothing here imports torch, so that a point that is skipped costs asv no more than an interpreter.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from benchmarks.records.names import did_you_mean
from benchmarks.records.registry import Registry
from benchmarks.records.tasks import Approximation, Computed, Grouping, Subset, Task

SELECTION = "VIVIT_BENCHMARKS"
"""Environment variable: ``some`` (the default), or ``all`` points of each grid."""

SEED = 0
"""Of the choice of some points."""


@dataclass(frozen=True)
class Axis:
    """A parameter of a grid.

    Attributes:
        name: With its unit, if it has one.
        values: In order.
    """

    name: str
    values: tuple[Any, ...]


VARIANTS: dict[str, dict[str, Any]] = {
    "exact": {},
    "monte_carlo": {"approximation": Approximation.MONTE_CARLO},
    "first_eighth": {"subset": Subset.EIGHTH},
    "both": {"approximation": Approximation.MONTE_CARLO, "subset": Subset.EIGHTH},
}
"""Approximation and subset, as the published experiments combine them."""

WITH_BACKPACK = ("digits_mlp", "digits_cnn", "fmnist_2c2d", "cifar10_3c3d")
"""Problems that BackPACK can pass."""

PROBLEM = Axis("problem", (*WITH_BACKPACK, "tiny_transformer"))
SIZE = Axis("batch size [samples]", (16, 32))
VARIANT = Axis("variant", tuple(VARIANTS))
GROUPING = Axis("grouping", tuple(grouping.value for grouping in Grouping))
COUNT = Axis("directions [1]", (1, 10))


@dataclass(frozen=True)
class Point:
    """A point of a grid.

    Attributes:
        problem: Name of the problem.
        batch_size: ``N``; None if the critical one is searched.
        task: What is computed.
    """

    problem: str
    batch_size: int | None
    task: Task

    @property
    def is_possible(self) -> bool:
        """Whether there are as many directions as are asked for: one per Monte-Carlo column."""
        if self.batch_size is None or self.task.approximation is Approximation.EXACT:
            return True
        return (self.task.k or 0) <= self.task.num_samples(self.batch_size)

    @property
    def title(self) -> str:
        """For people."""
        size = "N=?" if self.batch_size is None else f"N={self.batch_size}"
        return f"{self.problem} {size} {self.task.title}"


@dataclass(frozen=True)
class Grid:
    """All combinations of some values, and some of them.

    Attributes:
        name: Of the suite that asks the same question.
        computed: What is computed.
        axes: The first is the problem.
        per_problem: How many points of each problem are chosen by default.
        baselines: Methods that compute the same as ours, where nothing is approximated; those that
            need BackPACK only on problems that it can pass.
    """

    name: str
    computed: Computed
    axes: tuple[Axis, ...]
    per_problem: int
    baselines: tuple[str, ...] = ()

    def point(self, values: Sequence[Any]) -> Point:
        """A point by its coordinates.

        Args:
            values: One of each axis.

        Returns:
            The point.
        """
        names = (axis.name for axis in self.axes)
        named = dict(zip(names, values, strict=True))
        task = Task(
            self.computed,
            named.get(COUNT.name),
            grouping=Grouping(named.get(GROUPING.name, Grouping.NETWORK)),
            **VARIANTS[named.get(VARIANT.name, "exact")],
        )
        return Point(named[PROBLEM.name], named.get(SIZE.name), task)

    @cached_property
    def all(self) -> list[tuple[Any, ...]]:
        """All coordinates, in the order of `itertools.product`, which asv counts in."""
        return [*itertools.product(*(axis.values for axis in self.axes))]

    @cached_property
    def possible(self) -> list[tuple[Any, ...]]:
        """All but those that ask for more directions than there are."""
        return [values for values in self.all if self.point(values).is_possible]

    @cached_property
    def some(self) -> list[tuple[Any, ...]]:
        """Few coordinates of each problem, the same every time: the exact GGN first.

        Others keep their rank when an axis gains a value.
        """
        chosen: set[tuple[Any, ...]] = set()
        for problem in self.axes[0].values:
            of_problem = [values for values in self.possible if values[0] == problem]
            ranked = sorted(of_problem, key=_rank)
            plain = next(values for values in ranked if self.point(values).task.is_plain)
            others = [values for values in ranked if values != plain]
            chosen |= {plain, *others[: self.per_problem - 1]}
        return [values for values in self.all if values in chosen]

    @property
    def selected(self) -> list[tuple[Any, ...]]:
        """What the environment variable `SELECTION` asks for.

        Raises:
            ValueError: It has another value than ``some`` or ``all``.
        """
        selection = os.environ.get(SELECTION, "some")
        if selection not in ("some", "all"):
            guess = did_you_mean(selection, ("some", "all"))
            raise ValueError(
                f"Expected {SELECTION} to be 'some' or 'all', got {selection!r}{guess}"
            )
        return self.possible if selection == "all" else self.some

    def methods(self, point: Point) -> tuple[str, ...]:
        """Who can be compared at a point.

        Args:
            point: Of this grid.

        Returns:
            Names of methods, ours first.
        """
        has_backpack = point.problem in WITH_BACKPACK
        plain = self.baselines if point.task.is_plain else ()
        others = [m for m in ("drop_in", *plain) if has_backpack or m not in NEED_BACKPACK]
        left_out = set()
        if (point.problem, point.batch_size) in TOO_LARGE:
            left_out.add("naive_gram")
        if point.problem in TRAINED and point.task.approximation is Approximation.MONTE_CARLO:
            left_out.add("drop_in")
        return ("gram", *(m for m in others if m not in left_out))


def _rank(values: tuple[Any, ...]) -> str:
    """A number that looks random, and depends on the coordinates alone."""
    return hashlib.sha256(f"{SEED} {values}".encode()).hexdigest()


NEED_BACKPACK = ("drop_in", "naive_gram")

TRAINED = ("digits_mlp", "digits_cnn")
"""Problems of confident networks: there, rare draws make up the mean, so that other draws say
nothing about those of a method."""

TOO_LARGE = (("fmnist_2c2d", 32),)
"""Problems and batch sizes at which the columns of a naive Gram matrix take many GiB."""

GRIDS = Registry(
    "grid",
    [
        Grid(
            "eigenvalues",
            Computed.EIGENVALUES,
            (PROBLEM, SIZE, VARIANT, GROUPING),
            2,
            ("naive_gram", "gradient"),
        ),
        Grid(
            "leading",
            Computed.PAIRS,
            (PROBLEM, SIZE, COUNT, VARIANT),
            2,
            ("power_iteration", "lanczos"),
        ),
        Grid("derivatives", Computed.DERIVATIVES, (PROBLEM, SIZE, COUNT), 1),
        Grid("newton", Computed.NEWTON_STEP, (PROBLEM, SIZE), 1),
    ],
)
