"""How long a run may take, from what earlier runs of the same cells took."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from statistics import median

from benchmarks.comparison import Comparison
from benchmarks.records import Quantity, Record, Status
from benchmarks.runner import MIN_SAMPLES, num_cells

START = 5.0
"""Seconds to start a process, import torch and make a problem."""

RUNS_BESIDES = 3
"""Of a method, besides the timed ones: to check it, and its memory by tracker and by profiler."""


class Estimate:
    """Seconds per run of methods, as far as records tell."""

    def __init__(self, records: Iterable[Record]) -> None:
        """Collect times; of several records of the same kind the last one counts.

        Args:
            records: From any commit and machine.
        """
        self._seconds: dict[tuple[object, ...], float] = {}
        for record in records:
            parameters, problem = record.parameters, record.problem
            if record.quantity is Quantity.TIME and record.status is Status.OK:
                key = _key(problem, record.method, parameters)
                self._seconds[key] = median(record.samples)

    def seconds(self, comparison: Comparison, patience: float) -> float | None:
        """Of a comparison, all methods together.

        Args:
            comparison: What is measured.
            patience: Seconds after which a slow method is not timed again.

        Returns:
            An estimate; None if a method has not been measured before.
        """
        total = START
        for method in comparison.methods:
            single = self._seconds.get(_key(comparison.problem, method, comparison.parameters))
            if single is None:
                return None
            few = min(comparison.repeats, MIN_SAMPLES)
            timed = min(comparison.repeats * single, max(patience, few * single))
            memory = few if few * single < patience else 1
            total += timed + (memory + RUNS_BESIDES) * single + (1 + memory) * START
        return total

    def lines(self, comparisons: list[Comparison], patience: float) -> Iterator[str]:
        """The cells of a run for people, and its length.

        Args:
            comparisons: What is measured.
            patience: As for `seconds`.

        Yields:
            A line for each comparison, and a summary.
        """
        known = 0.0
        unknown = 0
        for comparison in comparisons:
            seconds = self.seconds(comparison, patience)
            shown = "   ?  " if seconds is None else f"{seconds / 60:4.1f} min"
            yield f"{shown:>9}  {comparison.title}: {', '.join(comparison.methods)}"
            known += seconds or 0.0
            unknown += seconds is None
        left = f", and {unknown} that nothing is known of" if unknown else ""
        yield (
            f"{num_cells(comparisons)} cells in {len(comparisons)} comparisons: about "
            f"{known / 60:.0f} min for those that were measured before{left}. References in "
            "float64 come on top where they are not there yet."
        )


def _key(problem: str, method: str, parameters: dict[str, object]) -> tuple[object, ...]:
    """What the time of a run depends on most."""
    names = ("batch_size", "computed", "k", "approximation", "subset", "grouping", "threads")
    return problem, method, *(parameters.get(name) for name in names)
