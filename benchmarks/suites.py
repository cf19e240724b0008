"""Suites and profiles: the one grid of problems, methods and sizes that is measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from benchmarks.critical import Limits
from benchmarks.problems import BASE_CLASSES, BASE_WIDTH, CLASSES, PROBLEMS, WIDTHS
from benchmarks.records import Quantity
from benchmarks.registry import Registry
from benchmarks.targets import ORIGINAL, critical_methods_by_cell, methods_by_cell
from benchmarks.tasks import Approximation, Computed, Grouping, Subset, Task


@dataclass(frozen=True)
class Comparison:
    """Methods that do the same on the same problem, measured against each other.

    Attributes:
        suite: Name of the suite.
        problem: Name of the problem.
        methods: Names of the methods.
        batch_size: ``N``; None if the critical one is searched.
        task: What they compute.
        repeats: Timed runs of each method.
        device: As torch names it.
        threads: For torch's operations.
        seed: For weights, data and random starts.
        limits: Of the search for the critical batch size; None if the batch size is given.
    """

    suite: str
    problem: str
    methods: tuple[str, ...]
    batch_size: int | None
    task: Task
    repeats: int
    device: str = "cpu"
    threads: int = 1
    seed: int = 0
    limits: Limits | None = None

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """What is measured of each method."""
        if self.limits is not None:
            return (Quantity.CRITICAL,)
        return (Quantity.ACCURACY, Quantity.TIME, Quantity.MEMORY)

    @property
    def parameters(self) -> dict[str, Any]:
        """What a record of it depends on."""
        limits = {} if self.limits is None else asdict(self.limits)
        return {
            "batch_size": self.batch_size,
            **self.task.parameters,
            **limits,
            "repeats": self.repeats,
            "device": self.device,
            "dtype": "float32",
            "threads": self.threads,
            "seed": self.seed,
            "data": PROBLEMS[self.problem].data,
            **PROBLEMS[self.problem].sizes,
        }

    @property
    def title(self) -> str:
        """For the progress bar."""
        size = "N=?" if self.batch_size is None else f"N={self.batch_size}"
        return f"{self.problem} {size} {self.task.title}"

    def with_budget(self, budget: int | None) -> Comparison:
        """Another budget, if this is a search and one is given."""
        if self.limits is None or budget is None:
            return self
        return replace(self, limits=replace(self.limits, budget=budget))


SCALED = ("gram", "naive_gram", *ORIGINAL, "lanczos")
"""Methods of the scaling suites: all eigenvalues, but leading pairs for the last."""


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
        Suite(
            "engine",
            "the library's targets: ratios to the original, to Lanczos and to power iteration",
            tuple(dict.fromkeys(name for names in methods_by_cell().values() for name in names)),
        ),
        Suite(
            "drop_in",
            "the interface of vivit-for-pytorch 1.0.0: ours against the original",
            ("gram", "drop_in", *ORIGINAL),
        ),
        Suite(
            "critical",
            "critical batch size: the largest batch that fits into a budget of memory",
            ("gram", *ORIGINAL, "matrix_memory"),
        ),
        *(
            Suite(f"scaling_{what}", f"time and memory over the {words}", SCALED)
            for what, words in (
                ("batch", "batch size"),
                ("classes", "number of classes"),
                ("width", "width of the network"),
            )
        ),
    ],
)


@dataclass(frozen=True)
class Cell:
    """A point of a grid.

    Attributes:
        suite: Name of the suite.
        problem: Name of the problem.
        batch_size: ``N``; None to search the critical one.
        task: What is computed.
        methods: Names of the methods; None for all of the suite.
        limits: Of the search.
    """

    suite: str
    problem: str
    batch_size: int | None
    task: Task = field(default_factory=Task)
    methods: tuple[str, ...] | None = None
    limits: Limits | None = None

    def comparison(self, repeats: int) -> Comparison:
        """What is measured at this point.

        Args:
            repeats: Timed runs of each method.

        Returns:
            The comparison.
        """
        methods = self.methods or SUITES[self.suite].methods
        return Comparison(
            self.suite,
            self.problem,
            methods,
            self.batch_size,
            self.task,
            repeats,
            limits=self.limits,
        )


@dataclass(frozen=True)
class Profile:
    """A selection of comparisons that fits a time budget.

    Attributes:
        name: Short name.
        description: One line for people.
        grid: The points to measure.
        repeats: Timed runs of each method.
        timeout: Seconds that a single step of a measurement may take.
        patience: Seconds after which a slow method is not timed again.
        threads: Of torch; None for all cores.
    """

    name: str
    description: str
    grid: tuple[Cell, ...]
    repeats: int
    timeout: float
    patience: float
    threads: int | None = None

    def comparisons(self) -> list[Comparison]:
        """The grid as comparisons."""
        return [cell.comparison(self.repeats) for cell in self.grid]


def _engine_grid() -> tuple[Cell, ...]:
    return tuple(
        Cell("engine", problem, batch_size, task, methods)
        for (problem, batch_size, task), methods in methods_by_cell().items()
    )


def _drop_in_grid() -> tuple[Cell, ...]:
    """Every variant that the original has, on the network that it was shown on."""
    tasks = [
        Task(approximation=approximation, subset=subset, grouping=grouping)
        for grouping in Grouping
        for approximation in Approximation
        for subset in Subset
    ]
    tasks += [Task.leading(10), Task(Computed.NEWTON_STEP)]
    return tuple(Cell("drop_in", "cifar10_3c3d", 128, task) for task in tasks)


BASE_BATCH = 32
BATCHES = (16, 32, 64, 128, 256)


def _scaling_grid() -> tuple[Cell, ...]:
    """Batch size, classes and width, one at a time."""
    base = (BASE_CLASSES, BASE_WIDTH)
    points = [("batch", base, batch_size) for batch_size in BATCHES]
    points += [("classes", (classes, BASE_WIDTH), BASE_BATCH) for classes in CLASSES]
    points += [("width", (BASE_CLASSES, width), BASE_BATCH) for width in WIDTHS]
    return tuple(
        Cell(f"scaling_{what}", f"cnn_c{classes}_w{width}", batch_size, task, methods)
        for what, (classes, width), batch_size in points
        for task, methods in ((Task(), SCALED[:-1]), (Task.leading(10), SCALED[-1:]))
    )


PROFILES = Registry(
    "profile",
    [
        Profile(
            "smoke",
            "one small real problem, in at most 90 seconds: does everything work?",
            (
                Cell("eigenvalues", "digits_mlp", 32),
                Cell("leading", "digits_mlp", 32, Task.leading(1)),
            ),
            repeats=3,
            timeout=60,
            patience=10,
        ),
        Profile(
            "quick",
            "real and published problems, in at most 10 minutes on 2 cores",
            (
                Cell("eigenvalues", "digits_mlp", 128),
                Cell("eigenvalues", "digits_cnn", 128),
                Cell("eigenvalues", "cifar10_3c3d", 128),
                Cell("eigenvalues", "fmnist_2c2d", 32),
                Cell("eigenvalues", "fmnist_2c2d", 128),
                Cell("leading", "digits_mlp", 128, Task.leading(10)),
                Cell("leading", "digits_cnn", 128, Task.leading(10)),
                Cell("leading", "cifar10_3c3d", 128, Task.leading(1)),
                Cell("leading", "fmnist_2c2d", 128, Task.leading(1)),
            ),
            repeats=5,
            timeout=120,
            patience=20,
        ),
        Profile(
            "engine",
            "the targets of the engine, against the original and others: hours on 2 cores",
            _engine_grid(),
            repeats=5,
            timeout=3600,
            patience=60,
            threads=2,
        ),
        Profile(
            "drop_in",
            "the interface of vivit-for-pytorch 1.0.0 in every variant, against the original",
            _drop_in_grid(),
            repeats=3,
            timeout=600,
            patience=60,
            threads=2,
        ),
        Profile(
            "critical",
            "critical batch sizes on 4 GiB, ours and the original's: about an hour on 2 cores",
            tuple(
                Cell("critical", problem, None, task, methods, Limits(budget))
                for (problem, task, budget), methods in critical_methods_by_cell().items()
            ),
            repeats=1,
            timeout=1800,
            patience=0,
            threads=2,
        ),
        Profile(
            "scaling",
            "time and memory over batch size, classes and width, in at most 15 minutes",
            _scaling_grid(),
            repeats=3,
            timeout=120,
            patience=10,
            threads=2,
        ),
    ],
)


def select(
    comparisons: Iterable[Comparison],
    suites: list[str] | None = None,
    problems: list[str] | None = None,
    methods: list[str] | None = None,
    budget: int | None = None,
    **settings: Any,
) -> list[Comparison]:
    """Narrow comparisons down and change their settings.

    Args:
        comparisons: Where to start from.
        suites: Keep these only; None for all, as for the next two.
        problems: Keep these only.
        methods: Keep these only.
        budget: Bytes, for searches of the critical batch size; None for theirs.
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
            selected.append(replace(comparison, methods=kept, **changes).with_budget(budget))
    return selected
