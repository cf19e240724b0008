"""Suites: the questions that comparisons answer, and the methods that can answer them."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.grid.comparison import Comparison
from benchmarks.grid.targets import ORIGINAL, methods_by_cell
from benchmarks.measure.critical import Limits
from benchmarks.methods import METHODS
from benchmarks.records.registry import Registry
from benchmarks.records.tasks import Task

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
            ("gram", "drop_in", "naive_gram", *ORIGINAL, "gradient"),
        ),
        Suite(
            "leading",
            "k leading eigenpairs of the exact GGN",
            (
                "gram",
                "drop_in",
                *ORIGINAL,
                "power_iteration",
                "gram_power_iteration",
                "lanczos",
                "lobpcg",
                "gradient",
            ),
        ),
        Suite(
            "tolerance",
            "time against accuracy: leading eigenpairs by power iteration to several tolerances",
            ("gram", *(name for name in METHODS if name.startswith("power_iteration_"))),
        ),
        Suite(
            "derivatives",
            "directional derivatives per sample along k leading eigenvectors",
            ("gram", "drop_in", *ORIGINAL, "gradient"),
        ),
        Suite(
            "newton",
            "damped Newton steps along the eigenvectors above a cut-off",
            ("gram", "drop_in", *ORIGINAL, "gradient"),
        ),
        Suite(
            "density",
            "the distribution of all eigenvalues",
            ("gram", "quadrature", "gradient"),
        ),
        Suite(
            "preconditioned",
            "a gradient preconditioned by Kronecker factors, what an update of K-FAC takes",
            ("kfac_expand", "kfac_reduce", "gradient"),
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
            ("gram", "drop_in", *ORIGINAL, "matrix_memory"),
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
