"""Suites and profiles: the one grid of problems, methods and sizes that is measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.problems import PROBLEMS
from benchmarks.registry import Registry


@dataclass(frozen=True)
class Comparison:
    """Methods that do the same on the same problem, measured against each other.

    Attributes:
        suite: Name of the suite.
        problem: Name of the problem.
        methods: Names of the methods.
        batch_size: ``N``.
        k: Number of leading eigenpairs; None for all eigenvalues.
        repeats: Timed runs of each method.
        device: As torch names it.
        threads: For torch's operations.
        seed: For weights, data and random starts.
    """

    suite: str
    problem: str
    methods: tuple[str, ...]
    batch_size: int
    k: int | None
    repeats: int
    device: str = "cpu"
    threads: int = 1
    seed: int = 0

    @property
    def parameters(self) -> dict[str, Any]:
        """What a record of it depends on."""
        return {
            "batch_size": self.batch_size,
            "k": self.k,
            "repeats": self.repeats,
            "device": self.device,
            "dtype": "float32",
            "threads": self.threads,
            "seed": self.seed,
            "data": PROBLEMS[self.problem].data,
        }

    @property
    def title(self) -> str:
        """For the progress bar."""
        what = "all eigenvalues" if self.k is None else f"{self.k} leading"
        return f"{self.problem} N={self.batch_size} {what}"


@dataclass(frozen=True)
class Suite:
    """A question that comparisons answer.

    Attributes:
        name: Short name.
        description: One line for people.
        methods: Names of the methods that can answer it.
    """

    name: str
    description: str
    methods: tuple[str, ...]


SUITES = Registry(
    "suite",
    [
        Suite(
            "eigenvalues",
            "all eigenvalues of the exact GGN",
            ("gram", "naive_gram", "gradient"),
        ),
        Suite(
            "leading",
            "k leading eigenpairs of the exact GGN",
            ("gram", "power_iteration", "gradient"),
        ),
    ],
)


@dataclass(frozen=True)
class Profile:
    """A selection of comparisons that fits a time budget.

    Attributes:
        name: Short name.
        description: One line for people.
        grid: ``(suite, problem, batch size, k)`` of each comparison.
        repeats: Timed runs of each method.
        timeout: Seconds that a single step of a measurement may take.
        patience: Seconds after which a slow method is not timed again.
    """

    name: str
    description: str
    grid: tuple[tuple[str, str, int, int | None], ...]
    repeats: int
    timeout: float
    patience: float

    def comparisons(self) -> list[Comparison]:
        """The grid as comparisons of all methods of each suite."""
        return [
            Comparison(suite, problem, SUITES[suite].methods, batch_size, k, self.repeats)
            for suite, problem, batch_size, k in self.grid
        ]


PROFILES = Registry(
    "profile",
    [
        Profile(
            "smoke",
            "one small real problem, in at most 90 seconds: does everything work?",
            (("eigenvalues", "digits_mlp", 32, None), ("leading", "digits_mlp", 32, 1)),
            repeats=3,
            timeout=60,
            patience=10,
        ),
        Profile(
            "quick",
            "real and published problems, in at most 10 minutes on 2 cores",
            (
                ("eigenvalues", "digits_mlp", 128, None),
                ("eigenvalues", "digits_cnn", 128, None),
                ("eigenvalues", "cifar10_3c3d", 128, None),
                ("eigenvalues", "fmnist_2c2d", 32, None),
                ("eigenvalues", "fmnist_2c2d", 128, None),
                ("leading", "digits_mlp", 128, 10),
                ("leading", "digits_cnn", 128, 10),
                ("leading", "cifar10_3c3d", 128, 1),
                ("leading", "fmnist_2c2d", 128, 1),
            ),
            repeats=5,
            timeout=120,
            patience=20,
        ),
    ],
)


def select(
    comparisons: Iterable[Comparison],
    suites: list[str] | None = None,
    problems: list[str] | None = None,
    methods: list[str] | None = None,
    **settings: Any,
) -> list[Comparison]:
    """Narrow comparisons down and change their settings.

    Args:
        comparisons: Where to start from.
        suites: Keep these only; None for all, as for the next two.
        problems: Keep these only.
        methods: Keep these only.
        **settings: Fields of `Comparison` to be replaced, unless None.

    Returns:
        Those comparisons that have a method left.
    """
    changes = {name: value for name, value in settings.items() if value is not None}
    selected = []
    for comparison in comparisons:
        kept = tuple(m for m in comparison.methods if methods is None or m in methods)
        if (
            kept
            and (suites is None or comparison.suite in suites)
            and (problems is None or comparison.problem in problems)
        ):
            selected.append(replace(comparison, methods=kept, **changes))
    return selected
