"""Suites: the questions that comparisons answer, and the methods that can answer them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.grid.comparison import Comparison, named
from benchmarks.grid.family import FAMILY_METHODS
from benchmarks.grid.matrix_free import MATRIX_FREE_METHODS
from benchmarks.grid.targets import ORIGINAL, methods_by_cell
from benchmarks.measure.critical import Limits
from benchmarks.methods import find_method
from benchmarks.records.label import Label
from benchmarks.records.registry import Registry
from benchmarks.records.tasks import Computed, Task

SCALED = ("gram", "naive_gram", *ORIGINAL, "lanczos")
"""Methods of the scaling suites: all eigenvalues, but leading pairs for the last."""

STUDIED = [
    f"power_iteration:tolerance={10 ** (step / 5):.3g},most_iterations=1000000"
    for step in range(-25, -4)
]
"""Of the published study of time against accuracy: nothing but the tolerance ends an iteration. It
goes from 1e-5 to 0.1."""


@dataclass(frozen=True)
class Suite:
    """A question that comparisons answer.

    Attributes:
        name: Short name.
        label: Its name in reports.
        description: One line for people.
        methods: Names of the methods that can answer it.
        computed: What all of its comparisons compute; None if they differ.
        by_computed: Of those methods, those for some results, where not all can answer.
    """

    name: str
    label: Label
    description: str
    methods: tuple[str, ...]
    computed: Computed | None = None
    by_computed: Mapping[Computed, tuple[str, ...]] = field(default_factory=dict)

    def methods_for(self, computed: Computed) -> tuple[str, ...]:
        """Names of the methods of a comparison.

        Args:
            computed: Its result.

        Returns:
            Those that can give it, as far as the suite says; else all.
        """
        return self.by_computed.get(computed, self.methods)


def _names(methods: Mapping[Any, tuple[str, ...]]) -> tuple[str, ...]:
    """Each once, in the order in which they come."""
    return tuple(dict.fromkeys(name for names in methods.values() for name in names))


SUITES = Registry(
    "suite",
    [
        Suite(
            "eigenvalues",
            Label("all eigenvalues"),
            "the complete spectrum of the exact GGN",
            ("gram", "drop_in", "naive_gram", *ORIGINAL, "gradient"),
            Computed.EIGENVALUES,
        ),
        Suite(
            "leading",
            Label("leading eigenpairs"),
            "the k largest eigenvalues of the exact GGN, together with their eigenvectors",
            (
                "gram",
                "drop_in",
                *ORIGINAL,
                "power_iteration",
                "gram_power_iteration",
                "lanczos",
                "lobpcg",
                "sketched_eigh",
                "gradient",
            ),
            Computed.PAIRS,
        ),
        Suite(
            "batches",
            Label("leading eigenpairs of several batches", "batches"),
            "the k largest eigenvalues, with eigenvectors, of the GGN of several batches",
            ("gram", "block_lanczos", "lanczos"),
            Computed.PAIRS,
        ),
        Suite(
            "tolerance",
            Label("power iteration's tolerance", "tolerance"),
            "time against accuracy: leading eigenpairs by power iteration to several tolerances",
            ("gram", *(find_method(text).text for text in STUDIED)),
            Computed.PAIRS,
        ),
        Suite(
            "derivatives",
            Label("directional derivatives"),
            "first and second derivatives per sample along the k leading eigenvectors",
            ("gram", "drop_in", *ORIGINAL, "gradient"),
            Computed.DERIVATIVES,
        ),
        Suite(
            "newton",
            Label("Newton step"),
            "damped Newton steps along the eigenvectors above a cut-off",
            ("gram", "drop_in", *ORIGINAL, "gradient"),
            Computed.NEWTON_STEP,
        ),
        Suite(
            "density",
            Label("spectral density"),
            "the distribution of all eigenvalues",
            ("gram", "quadrature", "gradient"),
            Computed.DENSITY,
        ),
        Suite(
            "preconditioned",
            Label("preconditioned gradient"),
            "a gradient times the inverse of a Kronecker-factored curvature",
            ("kfac_expand", "kfac_reduce", "gradient"),
            Computed.PRECONDITIONED,
        ),
        Suite(
            "family",
            Label("kernels, Fisher, solves and traces", "family"),
            "what else the same backward passes give, against what people do instead",
            _names(FAMILY_METHODS),
            by_computed=FAMILY_METHODS,
        ),
        Suite(
            "matrix_free",
            Label("products and leading pairs of transformers", "transformers"),
            "a language model and a vision transformer, against those who have products alone",
            _names(MATRIX_FREE_METHODS),
            by_computed=MATRIX_FREE_METHODS,
        ),
        Suite(
            "ranks",
            Label("a batch that two processes share", "ranks"),
            "what it costs to share a batch between processes: two against one of two threads",
            ("gram", "ranks", "gradient"),
        ),
        Suite(
            "engine",
            Label("engine targets", "engine"),
            "the library's targets: ratios to the original, to Lanczos and to power iteration",
            _names(methods_by_cell()),
        ),
        Suite(
            "drop_in",
            Label("drop-in computations", "drop-in"),
            "the interface of vivit-for-pytorch 1.0.0: ours against the original",
            ("gram", "drop_in", *ORIGINAL),
        ),
        Suite(
            "critical",
            Label("critical batch size"),
            "the largest batch that fits into a budget of memory",
            ("gram", "drop_in", *ORIGINAL, "matrix_memory"),
        ),
        *(
            Suite(
                f"scaling_{what}",
                Label(f"scaling over the {words}", "scaling"),
                f"time and memory of {network}",
                SCALED,
            )
            for what, words, network in (
                ("batch", "batch size", "a small CNN, 10 classes, width 16"),
                ("classes", "classes", "a small CNN, width 16, batch of 32"),
                ("width", "width", "a small CNN, 10 classes, batch of 32"),
            )
        ),
    ],
)


@dataclass(frozen=True)
class Cell:
    """A point of a grid.

    Attributes:
        suite: Name of the suite.
        problem: Name of the problem, or ``path/to/file.py:function`` of a user's own.
        batch_size: ``N``; None to search the critical one.
        task: What is computed.
        methods: Names of the methods; None for all of the suite that give the result.
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
        methods = self.methods or SUITES[self.suite].methods_for(self.task.computed)
        return Comparison(
            suite=self.suite,
            methods=methods,
            batch_size=self.batch_size,
            task=self.task,
            repeats=repeats,
            limits=self.limits,
            **named(self.problem),
        )
