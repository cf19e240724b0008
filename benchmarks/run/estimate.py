"""How long a run may take, from what earlier runs of the same cells took."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from statistics import median

from benchmarks.grid.comparison import Comparison
from benchmarks.records.record import Quantity, Record, Status
from benchmarks.run.runner import MIN_SAMPLES, num_cells

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
                key = _key(problem, record.text, parameters)
                self._seconds[key] = median(record.samples)

    def seconds(self, comparison: Comparison, method: str, patience: float) -> float | None:
        """Of all that is measured of a method.

        Args:
            comparison: What is measured.
            method: Name of the method.
            patience: Seconds after which a slow method is not timed again.

        Returns:
            An estimate; None if it has not been measured before.
        """
        single = self._seconds.get(_key(comparison.problem, method, comparison.parameters))
        if single is None:
            return None
        few = min(comparison.repeats, MIN_SAMPLES)
        timed = min(comparison.repeats * single, max(patience, few * single))
        processes = few if few * single < patience else 1
        return timed + (processes + RUNS_BESIDES) * single + (1 + processes) * START

    def lines(self, comparisons: list[Comparison], patience: float) -> Iterator[str]:
        """The cells of a run for people, and its length.

        Args:
            comparisons: What is measured.
            patience: As for `seconds`.

        Yields:
            A line for each comparison, and a summary.
        """
        total, unknown = 0.0, 0
        for comparison in comparisons:
            found = [self.seconds(comparison, m, patience) for m in comparison.methods]
            known = [seconds for seconds in found if seconds is not None]
            more = "+" if len(known) < len(found) else " "
            shown = f"{sum(known) / 60:4.1f}{more} min"
            yield f"{shown}  {comparison.title}: {', '.join(comparison.methods)}"
            total += sum(known)
            unknown += len(found) - len(known)
        yield (
            f"{num_cells(comparisons)} cells in {len(comparisons)} comparisons. What was measured "
            f"before takes about {total / 60:.0f} min; nothing is known of {unknown} methods of "
            "comparisons (+). References in float64, and cells that are done, are not considered."
        )


def _key(problem: str, method: str, parameters: dict[str, object]) -> tuple[object, ...]:
    """What the time of a run depends on most."""
    names = (
        "batch_size",
        "computed",
        "k",
        "approximation",
        "subset",
        "grouping",
        "threads",
        "device",
    )
    return problem, method, *(parameters.get(name) for name in names)
