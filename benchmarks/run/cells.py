"""Cells: single figures to be measured, as records name them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.grid.comparison import Comparison
from benchmarks.methods import find_method
from benchmarks.records.record import Quantity, cell_key
from benchmarks.records.settings import FIELD
from benchmarks.records.tasks import FAMILY, Computed

KNOWN_PAIRS = 32
"""Leading ones in the reference of a Monte-Carlo approximation, or of a matrix too large to
decompose. Whoever needs more has a reference of its own."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One thing to be measured, as its record names it."""

    suite: str
    problem: str
    method: str
    quantity: Quantity
    parameters: dict[str, Any]

    @property
    def key(self) -> str:
        """That of its records."""
        names = self.suite, self.problem, self.method, self.quantity.value
        return cell_key(*names, self.parameters)


def cell_of(comparison: Comparison, method: str, quantity: Quantity, attempt: int = 1) -> Cell:
    """What is measured of a method, with its settings where they are not its own.

    Args:
        comparison: Problem, size and task.
        method: Name of the method, and perhaps settings.
        quantity: Which figure.
        attempt: Of a probe; later ones are cells of their own.

    Returns:
        The cell.
    """
    chosen = find_method(method)
    parameters = comparison.parameters
    if chosen.changed:
        parameters[FIELD] = chosen.changed
    if attempt > 1:
        parameters["attempt"] = attempt
    return Cell(comparison.suite, comparison.problem, chosen.name, quantity, parameters)


def num_cells(comparisons: list[Comparison]) -> int:
    """Number of records that a run of these comparisons makes, references not counted.

    Args:
        comparisons: What to run.

    Returns:
        One for each method and quantity of a comparison; probes are not counted either.
    """
    return sum(len(c.methods) * len(c.quantities) for c in comparisons)


def has_reference(comparison: Comparison) -> bool:
    """Whether there is a reference in float64.

    Searches need none, and each way to precondition a gradient gives another one.

    Args:
        comparison: What is measured.

    Returns:
        Whether its results are compared with one.
    """
    return comparison.limits is None and comparison.task.computed is not Computed.PRECONDITIONED


def reference_cell(comparison: Comparison) -> Cell:
    """The reference of a comparison; those that differ in what does not matter share one.

    Args:
        comparison: What is measured.

    Returns:
        The cell.
    """
    quantity = _reference_quantity(comparison)
    parameters = _reference_parameters(comparison)
    return Cell("reference", comparison.problem, "reference", quantity, parameters)


def _reference_quantity(comparison: Comparison) -> Quantity:
    """Steps, derivatives and the family have their own; all else is checked by a spectrum."""
    quantities = {
        Computed.NEWTON_STEP: Quantity.STEP,
        Computed.DERIVATIVES: Quantity.DERIVATIVES,
        **dict.fromkeys(FAMILY, Quantity.RESULT),
    }
    return quantities.get(comparison.task.computed, Quantity.SPECTRUM)


def _reference_parameters(comparison: Comparison) -> dict[str, Any]:
    """All but what does not matter for it."""
    dropped, task = {"computed", "k", "repeats"}, comparison.task
    if task.computed is Computed.DERIVATIVES or (task.k or 0) > KNOWN_PAIRS:
        dropped.remove("k")
    if task.computed.is_of_family:
        dropped.remove("computed")
    kept = {name: v for name, v in comparison.parameters.items() if name not in dropped}
    return kept | {"dtype": "float64"}
