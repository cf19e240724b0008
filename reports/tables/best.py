"""Which method was best, among those that computed the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from benchmarks.records.record import Quantity, Status
from reports.words import labels

INACCURATE = 1e-3
"""Relative error above which a time belongs to a different result."""

AS_EXACT = 10.0
"""Unless the most exact method of a cell has an error of at least this part of it."""

COSTS = (Quantity.TIME.value, Quantity.MEMORY.value)

MARKED = (
    "Bold is the best of a case, among methods whose result was checked and is as exact as that "
    "of the others."
)
"""What captions say of tables with marks."""


def same_results(frame: pd.DataFrame) -> pd.DataFrame:
    """Times and memory of methods that computed the same.

    Args:
        frame: Measurements, accuracies among them.

    Returns:
        Its rows of methods, not of yardsticks, whose error was measured and is at most
        `INACCURATE`, or `AS_EXACT` times the least one of the cell.
    """
    others = [*labels.YARDSTICKS, labels.REFERENCE]
    done = frame[(frame["status"] == Status.OK.value) & ~frame["method"].isin(others)]
    checked = done[done["quantity"] == Quantity.ACCURACY.value]
    errors = checked.groupby(["cell", "method"])["value"].last()
    rows = done[done["quantity"].isin(COSTS) & (done["value"] > 0)]
    own = errors.reindex(pd.MultiIndex.from_frame(rows[["cell", "method"]])).to_numpy()
    rows = rows.assign(error=own).dropna(subset=["error"])
    least = rows.groupby("cell")["error"].transform("min")
    return rows[rows["error"] <= (AS_EXACT * least).clip(lower=INACCURATE)]


def best_marks(frame: pd.DataFrame, rows: pd.DataFrame, column: str) -> dict[tuple[int, str], str]:
    """Marks of the best of each cell.

    Args:
        frame: All measurements.
        rows: Those of one quantity, numbered from 0.
        column: Where the marks go.

    Returns:
        The kinds of cells, as a table has them; none where there is a single method.
    """
    same = same_results(frame)[["cell", "method"]].drop_duplicates()
    several = same[same["cell"].duplicated(keep=False)]
    known = {*several.itertuples(index=False, name=None)}
    pairs = zip(rows["cell"], rows["method"], strict=True)
    counted = rows[[pair in known for pair in pairs]].dropna(subset=["value"])
    return {(int(row), column): "best" for row in counted.groupby("cell")["value"].idxmin()}


@dataclass(frozen=True)
class Leader:
    """The method that was best in most cases.

    Attributes:
        method: The method.
        wins: Number of cases in which it was the best.
        cases: Number of cases.
        factors: In each case that it solved, by what factor it was ahead of the best other
            method; below 1 where that was better.
    """

    method: str
    wins: int
    cases: int
    factors: tuple[float, ...]


def are_compared(methods: Iterable[str]) -> bool:
    """Whether there is a choice: two methods that do not both run on vivit."""
    names = {"vivit" if method in labels.ON_VIVIT else method for method in methods}
    return len(names) > 1


def leader(cases: Sequence[Mapping[str, float]]) -> Leader | None:
    """The method that was best in most cases.

    Args:
        cases: Cost of each method, less is better; what runs on vivit is no rival of itself.

    Returns:
        The method, of equal ones the first in the order of the report; None if no case has two.
    """
    compared = [case for case in cases if are_compared(case)]
    if not compared:
        return None
    wins = Counter(min(case, key=lambda method: case[method]) for case in compared)
    first = min(wins, key=lambda method: (-wins[method], labels.method_rank(method)))
    factors = (_rival(case, first) / case[first] for case in compared if first in case)
    return Leader(first, wins[first], len(compared), tuple(factors))


def _rival(case: Mapping[str, float], method: str) -> float:
    """Cost of the best other method, not of another use of the same library."""
    own = labels.ON_VIVIT if method in labels.ON_VIVIT else (method,)
    return min(cost for name, cost in case.items() if name not in own)
