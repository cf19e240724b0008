"""A row for each method beside ours: time, memory and error, and the ratios to ours."""

from __future__ import annotations

import math

import pandas as pd

from benchmarks.records.record import Quantity, Status
from reports.tables.ratios import ratio_kind
from reports.tables.table import Notes, Table, identity
from reports.words import labels, units

OK = Status.OK.value
COLUMNS = {
    Quantity.TIME: ("Time", "to vivit's time", units.seconds, "s"),
    Quantity.MEMORY: ("Memory", "to vivit's memory", units.size, "bytes"),
}


def beside(frame: pd.DataFrame, name: str, title: str, caption: str) -> Table:
    """Methods beside ours, cell by cell.

    Args:
        frame: Times, memory and accuracies of one setting.
        name: Stem of the CSV file.
        title: Heading.
        caption: How to read it.

    Returns:
        One row per method of a cell, in the order of the report.
    """
    frame = frame[frame["method"] != labels.REFERENCE]
    rows = frame.drop_duplicates(["cell", "method"]).reset_index(drop=True)
    shown = identity(rows).assign(Method=[labels.method_label(m) for m in rows["method"]])
    by_cell = frame.set_index(["cell", "method", "quantity"])
    raw, kinds, notes = pd.DataFrame(index=rows.index), dict[tuple[int, str], str](), Notes()
    for quantity, (column, ratio_column, text, unit) in COLUMNS.items():
        found = [_find(by_cell, row, row["method"], quantity) for _, row in rows.iterrows()]
        ours = [_find(by_cell, row, labels.OURS, quantity) for _, row in rows.iterrows()]
        pairs = zip(rows["method"], found, ours, strict=True)
        ratios = [_ratio(method, value, own) for method, (value, _, _), (own, _, _) in pairs]
        shown[column] = [
            text(value) if status == OK else _outcome(method, status, reason, notes)
            for method, (value, status, reason) in zip(rows["method"], found, strict=True)
        ]
        shown[ratio_column] = [units.factor(ratio) for ratio in ratios]
        raw[f"{quantity.value} [{unit}]"] = [value for value, _, _ in found]
        raw[f"{quantity.value} ratio"] = ratios
        kinds |= {
            (i, ratio_column): ratio_kind(ratio, method)
            for i, (ratio, method) in enumerate(zip(ratios, rows["method"], strict=True))
            if not math.isnan(ratio)
        }
        kinds |= {(i, column): "failed" for i, (_, s, _) in enumerate(found) if s != OK}
    errors = [_find(by_cell, r, r["method"], Quantity.ACCURACY)[0] for _, r in rows.iterrows()]
    shown["Error"] = [units.NOTHING if math.isnan(e) else units.error(e) for e in errors]
    raw["error"] = errors
    measured = (*(c for column in COLUMNS.values() for c in column[:2]), "Error")
    return Table(name, title, caption, shown, raw, measured, kinds, tuple(notes.texts))


def _find(
    by_cell: pd.DataFrame, row: pd.Series, method: str, quantity: Quantity
) -> tuple[float, str, str]:
    """Value, outcome and reason of a measurement."""
    key = (row["cell"], method, quantity.value)
    if key not in by_cell.index:
        return math.nan, labels.MISSING, ""
    found = by_cell.loc[key]
    return float(found["value"]), str(found["status"]), str(found["reason"] or "")


def _ratio(method: str, value: float, own: float) -> float:
    """To ours; a method has none to itself."""
    return math.nan if method == labels.OURS or not own > 0 else value / own


def _outcome(method: str, status: str, reason: str, notes: Notes) -> str:
    text = labels.status_label(status)
    if status == labels.MISSING:
        return text
    why = reason or "no reason recorded"
    return text + notes.mark(f"{labels.method_label(method)}: {text}: {why}")
