"""The same measurements of two sides, and the ratio of their medians with its noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from benchmarks.records.record import Quantity, Status
from reports.sources.frame import varying
from reports.tables.change import ERROR, PROCESS, THRESHOLD, TIMES, Figure, judge, ratio
from reports.tables.table import Notes, Table, identity
from reports.words import labels, units

OK = Status.OK.value
CHANGE = "Change"
TEXTS: dict[str, Callable[[float], str]] = {
    Quantity.TIME.value: units.seconds,
    Quantity.MEMORY.value: units.size,
    Quantity.ACCURACY.value: units.error,
    Quantity.CRITICAL.value: units.count,
}
THRESHOLDS = {Quantity.MEMORY.value: PROCESS, Quantity.ACCURACY.value: ERROR}
"""Of what has few samples; times have repeats, and batch sizes no noise."""

CAPTION = (
    "The same measurement of both sides: medians, and B divided by A. In brackets is the range "
    "of that ratio from the quartiles of the repeats, where there are some. “Better” and “worse” "
    f"are changes by more than {THRESHOLD - 1:.0%} whose quartiles do not overlap; of memory, by "
    f"more than a factor of {PROCESS:g}; of times without repeats, of {TIMES:g}; of errors, "
    "which round-off decides, "
    f"of {ERROR:g}. Two machines differ in more than the code, and two runs see a different state "
    "of one machine: python -m benchmarks check measures two commits in turns."
)
MARKS = {"better": "better", "worse": "worse", "lost": "failed", "gained": "better"}
"""Kinds of changes, and how the page marks them."""


def pair_table(rows: pd.DataFrame) -> Table:
    """Both sides of each measurement.

    Args:
        rows: As `reports.sources.sides.pairs` gives them.

    Returns:
        One row per measurement, in the order of the report.
    """
    notes, context = Notes(), [name for name in varying(rows) if name != "environment"]
    shown = identity(rows, context).assign(
        Method=[labels.method_label(method) for method in rows["method"]],
        Quantity=[labels.QUANTITIES[name].short for name in rows["quantity"]],
    )
    sides = {"A": ("value", "status", "reason"), "B": ("value_b", "status_b", "reason_b")}
    for side, names in sides.items():
        columns = [rows[name] for name in ("quantity", *names)]
        shown[side] = [
            _text(quantity, value, status, notes, f"{side}: {reason or 'no reason recorded'}")
            for quantity, value, status, reason in zip(*columns, strict=True)
        ]
    changes = [_Pair(row) for _, row in rows.iterrows()]
    shown["B / A"] = [change.text for change in changes]
    shown[CHANGE] = [change.kind for change in changes]
    raw = pd.DataFrame(
        {
            "unit": [Quantity(name).unit for name in rows["quantity"]],
            "value of A": rows["value"],
            "value of B": rows["value_b"],
            "ratio": [change.ratio for change in changes],
            "ratio low": [change.ends[0] for change in changes],
            "ratio high": [change.ends[1] for change in changes],
        }
    )
    kinds = {(i, CHANGE): MARKS.get(change.kind, "plain") for i, change in enumerate(changes)}
    measured = ("A", "B", "B / A")
    return Table("compared", "Both sides", CAPTION, shown, raw, measured, kinds, (*notes.texts,))


def pair_summary(rows: pd.DataFrame) -> list[str]:
    """The comparison in words: a sentence for each quantity.

    Args:
        rows: As `reports.sources.sides.pairs` gives them.

    Returns:
        The sentences.
    """
    return [
        _sentence(labels.QUANTITIES[str(name)].label, [_Pair(row) for _, row in group.iterrows()])
        for name, group in rows.groupby("quantity", sort=False)
    ]


def as_text(shown: pd.DataFrame, right: Sequence[str] = ()) -> str:
    """A table for the terminal.

    Args:
        shown: Text only.
        right: Columns that are flush right.

    Returns:
        Lines.
    """
    columns = [[name, *shown[name]] for name in shown.columns]
    widths = [max(map(len, column)) for column in columns]
    lines = zip(*columns, strict=True)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(shown.columns, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


class _Pair:
    """What became of a measurement."""

    def __init__(self, row: pd.Series) -> None:
        self.quantity = str(row["quantity"])
        done = [row[name] == OK for name in ("status", "status_b")]
        self.kind = {(True, False): "lost", (False, True): "gained"}.get((done[0], done[1]), "")
        self.ratio, self.ends = math.nan, (math.nan, math.nan)
        if not self.kind:
            a, b = (_figure(row[f"samples{end}"], row[f"value{end}"]) for end in ("", "_b"))
            self.ratio = ratio(a.value, b.value)
            if a.has_noise and b.has_noise and a.low > 0:
                self.ends = b.low / a.high, b.high / a.low
            self.kind = judge(
                a,
                b,
                self._threshold(a, b),
                larger_is_better=self.quantity == Quantity.CRITICAL.value,
            )

    def _threshold(self, a: Figure, b: Figure) -> float:
        if self.quantity == Quantity.TIME.value and not (a.has_noise and b.has_noise):
            return TIMES
        return THRESHOLDS.get(self.quantity, THRESHOLD)

    @property
    def text(self) -> str:
        """The ratio, with its noise where that is known."""
        if math.isnan(self.ends[0]):
            return units.factor(self.ratio)
        low, high = (units.factor(end) for end in self.ends)
        return f"{units.factor(self.ratio)} ({low} to {high})"


def _figure(samples: list[float], value: float) -> Figure:
    """The median and the quartiles of some repeats."""
    if len(samples) < 2:
        return Figure(value)
    return Figure(value, *map(float, np.percentile(samples, [25, 75])))


def _text(quantity: str, value: float, status: str, notes: Notes, why: str) -> str:
    return (
        TEXTS[quantity](value) if status == OK else labels.status_label(status) + notes.mark(why)
    )


def _sentence(what: str, changes: Sequence[_Pair]) -> str:
    ratios = [change.ratio for change in changes if math.isfinite(change.ratio)]
    kinds = ("better", "worse", "unchanged", "lost", "gained")
    counts = {kind: sum(change.kind == kind for change in changes) for kind in kinds}
    parts = [f"{count} {kind}" for kind, count in counts.items() if count]
    if ratios:
        ends = [units.factor(end) for end in (min(ratios), max(ratios))]
        middle = f"B / A is {units.factor(float(np.median(ratios)))} (median; "
        parts.insert(0, middle + f"{ends[0]} to {ends[1]})")
    return f"{what}: {', '.join(parts)}, of {len(changes)} in common."
