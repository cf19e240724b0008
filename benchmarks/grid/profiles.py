"""Profiles: the one grid of problems, methods and sizes that is measured."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from benchmarks.grid.comparison import Comparison
from benchmarks.grid.family import POINTS
from benchmarks.grid.matrix_free import MATRIX_FREE_POINTS
from benchmarks.grid.points import GRIDS
from benchmarks.grid.published import BUDGET, GROUPINGS, SIZES, is_exact, variants
from benchmarks.grid.suites import SCALED, Cell
from benchmarks.grid.targets import ORIGINAL, critical_methods_by_cell, methods_by_cell
from benchmarks.measure.critical import Limits
from benchmarks.problems.scaled_cnn import BASE_CLASSES, BASE_WIDTH, CLASSES, WIDTHS
from benchmarks.records.registry import Registry
from benchmarks.records.tasks import Approximation, Computed, Grouping, Subset, Task

HALF_GIB = 2**29

BASIC = ("gram", "naive_gram", "gradient")
BASIC_LEADING = ("gram", "power_iteration", "gradient")
"""Methods of the short profiles."""


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


def _quick_grid() -> tuple[Cell, ...]:
    sizes = (
        ("digits_mlp", 128),
        ("digits_cnn", 128),
        ("cifar10_3c3d", 128),
        ("fmnist_2c2d", 32),
        ("fmnist_2c2d", 128),
    )
    ks = (("digits_mlp", 10), ("digits_cnn", 10), ("cifar10_3c3d", 1), ("fmnist_2c2d", 1))
    return (
        *(Cell("eigenvalues", problem, size, methods=BASIC) for problem, size in sizes),
        *(Cell("leading", problem, 128, Task.leading(k), BASIC_LEADING) for problem, k in ks),
    )


def _laptop_grid() -> tuple[Cell, ...]:
    own = ("gram", "drop_in", "gradient")
    without_backpack = ("gram", "gradient")
    leading = Task.leading(10)
    iterations = ("gram", "gram_power_iteration", "lanczos", "lobpcg", "gradient")
    others = [Task(**variant) for variant in variants()[1:]]
    times = [
        Cell("eigenvalues", "cifar10_3c3d", 128, methods=(*own, "naive_gram", *ORIGINAL)),
        Cell("eigenvalues", "fmnist_2c2d", 128, methods=(*own, *ORIGINAL)),
        Cell("eigenvalues", "cifar10_resnet32", 32, methods=(*own, *ORIGINAL)),
        Cell("eigenvalues", "cifar10_wrn16_4", 8, methods=(*own, *ORIGINAL)),
        Cell("eigenvalues", "cifar100_vgg16", 2, methods=own),  # minutes a run of the original
        Cell("eigenvalues", "tiny_transformer", 64, methods=without_backpack),
        Cell("eigenvalues", "vision_transformer", 64, methods=without_backpack),
        *(Cell("eigenvalues", "cifar10_3c3d", 128, t, (*own, *ORIGINAL)) for t in others),
        Cell("leading", "cifar10_3c3d", 128, leading, (*iterations, "power_iteration")),
        Cell("leading", "fmnist_2c2d", 128, leading, iterations),
        Cell("leading", "tiny_transformer", 64, leading, iterations),
        Cell("leading", "language_model", 4, Task.leading(3), ("gram", "lanczos", "gradient")),
        Cell("eigenvalues", "logistic", 10_000, methods=without_backpack),
        Cell("batches", "several_batches", 256, leading),
        Cell("derivatives", "cifar10_3c3d", 128, Task(Computed.DERIVATIVES, 10)),
        Cell("newton", "fmnist_2c2d", 128, Task(Computed.NEWTON_STEP)),
        Cell("density", "cifar10_3c3d", 128, Task(Computed.DENSITY)),
        *(
            Cell("preconditioned", problem, size, Task(Computed.PRECONDITIONED))
            for problem, size in (("cifar10_3c3d", 128), ("cifar10_wrn16_4", 32))
        ),
    ]
    searched = [
        Cell("critical", problem, None, task, ("gram", *ORIGINAL), Limits(HALF_GIB))
        for problem in ("cifar10_3c3d", "fmnist_2c2d")
        for task in (Task(), Task.leading(1), Task(Computed.NEWTON_STEP))
    ]
    return (*times, *searched)


KFAC_SIZES = (32, 64, 128, 256, 512)
"""Of updates preconditioned by K-FAC, of which five are published, without saying which."""


def _paper_grid() -> tuple[Cell, ...]:
    """The published experiments 2, 3, 4, 6, 7, 8 and 10, and the one on K-FAC."""
    ours = ("gram", "drop_in", *ORIGINAL)
    grouped = variants(*GROUPINGS)
    cells = []
    for problem, size in SIZES.items():
        cells += [
            Cell("leading", problem, size, task, (*ours, *_iterations(problem, task)))
            for k, variant in itertools.product(range(1, 11), grouped)
            for task in [Task.leading(k, **variant)]
        ]
        tasks = [Task(**variant) for variant in grouped]
        cells += [Cell("eigenvalues", problem, size, task, ours) for task in tasks]
        tasks += [Task.leading(1, **variant) for variant in grouped]
        tasks.append(Task(Computed.NEWTON_STEP))
        cells += [Cell("critical", problem, None, task, ours, Limits(BUDGET)) for task in tasks]
    preconditioned = Task(Computed.PRECONDITIONED)
    linear = ("gram", "backpropagation", "naive_gram", "gradient")
    return (
        *cells,
        Cell("tolerance", "cifar10_3c3d", 128, Task.leading(10)),
        *(Cell("preconditioned", "cifar10_wrn16_4", n, preconditioned) for n in KFAC_SIZES),
        Cell("engine", "mlp_linear", 128, Task(Computed.GRAM), linear),
    )


def _iterations(problem: str, task: Task) -> tuple[str, ...]:
    """What else computes leading pairs of the exact GGN: in blocks, power iteration alone."""
    if not is_exact(task):
        return ()
    if task.grouping is not Grouping.NETWORK:
        return ("power_iteration",)
    on_gram = ("gram_power_iteration",) if problem == "cifar10_3c3d" else ()
    return ("power_iteration", "lanczos", *on_gram)


def _commits_grid() -> tuple[Cell, ...]:
    """All that asv and pytest-benchmark measure."""
    return tuple(
        Cell(grid.name, point.problem, point.batch_size, point.task, grid.methods(point))
        for grid in GRIDS.values()
        for point in map(grid.point, grid.possible)
    )


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


RANKS_POINTS = (
    ("digits_mlp", 128, Task()),
    ("digits_cnn", 128, Task()),
    ("cifar10_3c3d", 32, Task()),
    ("cifar10_3c3d", 64, Task()),
    ("cifar10_3c3d", 64, Task(Computed.GRAM)),
)
"""Eigenvalues, and the Gram matrix alone, which is the part that is shared."""


PROFILES = Registry(
    "profile",
    [
        Profile(
            "smoke",
            "one small real problem, in at most 90 seconds: does everything work?",
            (
                Cell("eigenvalues", "digits_mlp", 32, methods=BASIC),
                Cell("leading", "digits_mlp", 32, Task.leading(1), BASIC_LEADING),
            ),
            repeats=3,
            timeout=60,
            patience=10,
        ),
        Profile(
            "quick",
            "real and published problems, in at most 10 minutes on 2 cores",
            _quick_grid(),
            repeats=5,
            timeout=120,
            patience=20,
        ),
        Profile(
            "laptop",
            "every method on problems of every kind, and critical batch sizes on 512 MiB: "
            "between an hour and an hour and a half on 2 cores",
            _laptop_grid(),
            repeats=3,
            timeout=600,
            patience=20,
            threads=2,
        ),
        Profile(
            "paper",
            "the published grids of run times and critical batch sizes: very long, so for --shard "
            "or a cluster",
            _paper_grid(),
            repeats=20,
            timeout=1800,
            patience=600,
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
            "family",
            "kernels, Fisher, solves, traces and products, against torch.func, curvlinops, skerch "
            "and BackPACK",
            tuple(Cell("family", *point) for point in POINTS),
            repeats=5,
            timeout=600,
            patience=60,
            threads=2,
        ),
        Profile(
            "matrix_free",
            "products and leading pairs of transformers, against curvlinops and "
            "hessian-eigenthings: some minutes",
            tuple(Cell("matrix_free", *point) for point in MATRIX_FREE_POINTS),
            repeats=5,
            timeout=600,
            patience=60,
            threads=2,
        ),
        Profile(
            "ranks",
            "a batch that two processes share, against one process of two threads: some minutes",
            tuple(Cell("ranks", *point) for point in RANKS_POINTS),
            repeats=5,
            timeout=300,
            patience=30,
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
            "commits",
            "all points of the grid of asv and pytest-benchmark, by themselves",
            _commits_grid(),
            repeats=5,
            timeout=300,
            patience=10,
            threads=1,
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
