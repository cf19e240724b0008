"""Tables of the report: frames of measurements -> frames of text, with the raw numbers beside."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from benchmarks.records.record import Quantity, Status
from reports.sources import records as loading
from reports.words import labels, units

OK = Status.OK.value
Statistic = Callable[[list[float]], float]
"""Of the samples of a measurement."""

FURTHER_MEMORY = {"Tensors": "tensors", "Whole process": "whole_process"}
"""Columns of the memory table, and where records have their figures."""

SETTING_TITLES = {
    "environment": "Environment",
    "device": "Device",
    "dtype": "Precision",
    "threads": "Threads",
    "seed": "Seed",
    "other": "Further parameters",
}


@dataclass(frozen=True)
class Table:
    """A table on the page and in a CSV file.

    Attributes:
        name: Stem of the CSV file.
        title: Heading.
        caption: How to read it.
        shown: What the page shows; text only.
        raw: Numbers in base units behind it, one row for each of `shown`; only in the CSV file.
        measured: Columns of `shown` that hold measurements.
        kinds: How to mark a cell, by row number and column: better, worse, failed or plain.
        notes: Footnotes, referred to as [1], [2], ....
    """

    name: str
    title: str
    caption: str
    shown: pd.DataFrame
    raw: pd.DataFrame
    measured: tuple[str, ...] = ()
    kinds: dict[tuple[int, str], str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def csv(self) -> pd.DataFrame:
        """The columns of the page, then the raw numbers."""
        return pd.concat([self.shown, self.raw], axis=1)


def slug(text: str) -> str:
    """Text as part of a file name or of an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unnamed"


def identity(frame: pd.DataFrame, context: list[str]) -> pd.DataFrame:
    """The columns that say what a row is about.

    Args:
        frame: Measurements.
        context: Columns of the setting to show as well.

    Returns:
        Text only.
    """
    columns = {
        "Problem": [
            labels.problem_label(p, d)
            for p, d in zip(frame["problem"], frame["data"], strict=True)
        ],
        "Computed": list(frame["task"]),
        "Batch": [integer(size) for size in frame["batch_size"]],
    }
    columns |= {SETTING_TITLES[name]: [_plain(v) for v in frame[name]] for name in context}
    return pd.DataFrame(columns, index=frame.index, dtype=object).reset_index(drop=True)


def integer(value: object) -> str:
    """A whole number that may be missing."""
    return units.NOTHING if pd.isna(value) else str(value)


def time_table(frame: pd.DataFrame) -> Table:
    """Minimum, median, interquartile range and number of repeats of each time."""
    caption = (
        "Wall-clock time of one computation. IQR is the distance between the quartiles of the "
        "repeats: the smaller, the steadier the measurement."
    )
    statistics: dict[str, Statistic] = {
        "Median": _median,
        "Minimum": min,
        "IQR": lambda s: float(np.subtract(*np.percentile(s, [75, 25]))),
    }
    rows = _rows(frame, Quantity.TIME)
    table = _statistics(rows, frame, statistics, units.seconds, "s")
    shown = table.shown.assign(
        Repeats=[str(len(s)) if s else units.NOTHING for s in rows["samples"]]
    )
    single = rows["samples"].map(len).to_numpy() == 1
    shown.loc[single, "IQR"] = "single run"
    return _named(table, "time", "Time", caption, shown, (*table.measured, "Repeats"))


def memory_table(frame: pd.DataFrame) -> Table:
    """Peak memory of each measurement."""
    caption = (
        "Largest amount of memory in use during the computation, above what was in use before it "
        "(model and data are not counted), each time in a fresh process: allocators differ in "
        "what they keep of what was freed. “Tensors” counts the bytes that tensors hold at once, "
        "which is the same in every run, but misses what operators allocate inside; “whole "
        "process” is the resident memory with all that was there before, sampled by "
        "memory_profiler."
    )
    functions: dict[str, Statistic] = {"Median": _median, "Minimum": min, "Maximum": max}
    rows = _rows(frame, Quantity.MEMORY)
    table = _statistics(rows, frame, functions, units.size, "bytes")
    for title, name in FURTHER_MEMORY.items():
        sizes = [details.get(name) for details in rows["details"]]
        table.raw[f"{name} [bytes]"] = pd.Series(sizes, dtype="Float64")
        table.shown[title] = [units.NOTHING if s is None else units.size(s) for s in sizes]
    measured = (*table.measured, *FURTHER_MEMORY)
    return _named(table, "memory", "Memory", caption, table.shown, measured)


def accuracy_table(frame: pd.DataFrame) -> Table:
    """Relative error of each method."""
    caption = (
        "Largest error of the eigenvalues against the float64 reference, relative to the largest "
        "eigenvalue; for the gradient, relative to its norm. Single precision allows about 1e-07."
    )
    rows = _rows(frame, Quantity.ACCURACY)
    table = _statistics(rows, frame, {"Relative error": max}, units.error, "1")
    return _named(table, "accuracy", "Accuracy", caption, table.shown, table.measured)


def failure_table(frame: pd.DataFrame) -> Table:
    """Everything that was tried and gave no result."""
    rows = loading.failures(frame)
    shown = identity(rows, loading.varying(frame))
    shown["Method"] = [labels.method_label(method) for method in rows["method"]]
    shown["Quantity"] = [labels.QUANTITIES[quantity].label for quantity in rows["quantity"]]
    shown["Outcome"] = [labels.status_label(status) for status in rows["status"]]
    shown["Reason"] = [reason or "no reason recorded" for reason in rows["reason"]]
    raw = pd.DataFrame(index=shown.index)
    kinds = {(row, "Outcome"): "failed" for row in range(len(shown))}
    caption = "Measurements that were tried and gave no result, and why."
    return Table("failures", "Failures", caption, shown, raw, (), kinds)


def _median(samples: list[float]) -> float:
    return float(np.median(samples))


def _rows(frame: pd.DataFrame, quantity: Quantity) -> pd.DataFrame:
    return frame[frame["quantity"] == quantity.value].reset_index(drop=True)


def _statistics(
    rows: pd.DataFrame,
    frame: pd.DataFrame,
    statistics: dict[str, Statistic],
    text: Callable[[float], str],
    unit: str,
) -> Table:
    """Statistics of the samples; the first column names the outcome where there are none."""
    shown = identity(rows, loading.varying(frame))
    shown["Method"] = [labels.method_label(method) for method in rows["method"]]
    raw = pd.DataFrame(index=shown.index)
    first = next(iter(statistics))
    for name, function in statistics.items():
        numbers = [function(samples) if samples else None for samples in rows["samples"]]
        raw[f"{slug(name).replace('-', '_')} [{unit}]"] = pd.Series(numbers, dtype="Float64")
        shown[name] = [units.NOTHING if n is None else text(n) for n in numbers]
    failed = (rows["status"] != OK).to_numpy()
    shown.loc[failed, first] = [labels.status_label(s) for s in rows.loc[failed, "status"]]
    kinds = {(int(row), first): "failed" for row in np.flatnonzero(failed)}
    return Table("", "", "", shown, raw, tuple(statistics), kinds)


def _named(
    table: Table,
    name: str,
    title: str,
    caption: str,
    shown: pd.DataFrame,
    measured: tuple[str, ...],
) -> Table:
    return Table(name, title, caption, shown, table.raw, measured, table.kinds)


def _plain(value: object) -> str:
    return "not recorded" if pd.isna(value) or value == "" else str(value)
