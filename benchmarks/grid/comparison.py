"""What is measured: methods on a problem, against each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.measure.critical import BudgetMode, Limits
from benchmarks.problems.own import OwnProblem, find_problem
from benchmarks.records.record import Quantity
from benchmarks.records.settings import SEPARATOR, split_method
from benchmarks.records.tasks import Task


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
        source: ``path/to/file.py:function`` of a user's own problem; None for one of ours.
        digest: Of the content of its file and of those it imports, when it was selected.
        data_root: Where data sets are, if they are to be used instead of synthetic data.
        with_memory: Whether memory is measured besides accuracy and time.
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
    source: str | None = None
    digest: str | None = None
    data_root: Path | None = None
    with_memory: bool = True

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """What is measured of each method."""
        if self.limits is not None:
            return (Quantity.CRITICAL,)
        memory = (Quantity.MEMORY,) if self.with_memory else ()
        return (Quantity.ACCURACY, Quantity.TIME, *memory)

    @property
    def parameters(self) -> dict[str, Any]:
        """What a record of it depends on."""
        limits = {} if self.limits is None else self.limits.parameters
        problem = find_problem(self.source or self.problem)
        own = {} if self.digest is None else {"source": self.digest}
        return {
            "batch_size": self.batch_size,
            **self.task.parameters,
            **limits,
            "repeats": self.repeats,
            "device": self.device,
            "dtype": "float32",
            "threads": self.threads,
            "seed": self.seed,
            "data": problem.kind_of_data(self.data_root),
            **problem.sizes,
            **own,
        }

    @property
    def title(self) -> str:
        """For the progress bar."""
        size = "N=?" if self.batch_size is None else f"N={self.batch_size}"
        return f"{self.problem} {size} {self.task.title}"

    def with_limits(self, **changes: Any) -> Comparison:
        """The same with other limits, if this is a search; what is None stays."""
        if self.limits is None:
            return self
        given = {name: value for name, value in changes.items() if value is not None}
        return replace(self, limits=replace(self.limits, **given))

    def at(self, batch_size: int | None) -> Comparison:
        """The same at another batch size, if one is given and it is not what is searched."""
        if batch_size is None or self.limits is not None:
            return self
        return replace(self, batch_size=batch_size)


def named(problem: str) -> dict[str, Any]:
    """What a comparison says of its problem.

    Args:
        problem: Of the registry, or ``path/to/file.py:function`` of a user's own.

    Returns:
        Fields of `Comparison`.

    Raises:
        KeyError: There is none of that name.
        ProblemError: There is no such file.
    """
    found = find_problem(problem)
    if isinstance(found, OwnProblem):
        return {"problem": found.name, "source": found.spec, "digest": found.digest}
    return {"problem": problem, "source": None, "digest": None}


@dataclass(frozen=True)
class Selection:
    """What of a grid is measured, and with which settings; None keeps what the grid says.

    Attributes:
        suites: These suites only.
        problems: These problems only, by name or ``path/to/file.py:function``; those that the grid
            lacks take the place of those of the grid.
        methods: These methods only, with the settings of the grid or others.
        of_no_suite: Those of them that no suite names: they are measured in every comparison.
        budget: Bytes, of searches for critical batch sizes.
        budget_mode: How it is enforced.
        batch_size: Of all comparisons but those searches.
        shard: ``(i, n)``: of the comparisons, every ``n``-th from the ``i``-th on, counted from 1.
        settings: Fields of `Comparison` to be replaced.
    """

    suites: list[str] | None = None
    problems: list[str] | None = None
    methods: list[str] | None = None
    of_no_suite: list[str] = field(default_factory=list)
    budget: int | None = None
    budget_mode: BudgetMode | None = None
    batch_size: int | None = None
    shard: tuple[int, int] = (1, 1)
    settings: dict[str, Any] = field(default_factory=dict)

    def of(self, comparisons: Iterable[Comparison]) -> list[Comparison]:
        """Narrow a grid down.

        Args:
            comparisons: The grid.

        Returns:
            Those that have a method left, each once with all of its methods.
        """
        changes = {name: value for name, value in self.settings.items() if value is not None}
        grid = [c for c in comparisons if self.suites is None or c.suite in self.suites]
        of_grid = {c.source or c.problem for c in grid}
        replacing = [named(name) for name in self.problems or () if name not in of_grid]
        selected: dict[Comparison, dict[str, None]] = {}
        for comparison in grid:
            methods = self._of_methods(comparison.methods)
            if not methods:
                continue
            for chosen in self._on_problems(comparison, replacing):
                limited = chosen.with_limits(budget=self.budget, mode=self.budget_mode)
                changed = replace(limited.at(self.batch_size), methods=(), **changes)
                selected.setdefault(changed, {}).update(dict.fromkeys(methods))
        index, number = self.shard
        found = [replace(comparison, methods=(*names,)) for comparison, names in selected.items()]
        return found[index - 1 :: number]

    def _of_methods(self, methods: Iterable[str]) -> list[str]:
        """Those that were named; settings take the place of those of the grid."""
        if self.methods is None:
            return [*methods]
        named = {split_method(m)[0] for m in methods}
        of_grid = [m for m in methods if split_method(m)[0] in self.methods]
        given = [m for m in self.methods if SEPARATOR in m and split_method(m)[0] in named]
        return list(dict.fromkeys([*of_grid, *given, *self.of_no_suite]))

    def _on_problems(
        self, comparison: Comparison, replacing: list[dict[str, Any]]
    ) -> Iterator[Comparison]:
        if self.problems is None or (comparison.source or comparison.problem) in self.problems:
            yield comparison
        for changes in replacing:
            yield replace(comparison, **changes)
