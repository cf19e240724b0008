"""Tables of statistics: a row per measurement, a column per statistic of its samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from benchmarks.records.record import Status
from reports.tables.table import Table, identity
from reports.words import labels, units

Statistic = Callable[[list[float]], float]
"""Of the samples of a measurement."""


def median(samples: list[float]) -> float:
    """The middle of the samples."""
    return float(np.median(samples))


def spread(samples: list[float]) -> float:
    """The distance between the quartiles of the samples."""
    return float(np.subtract(*np.percentile(samples, [75, 25])))


def statistics_table(
    rows: pd.DataFrame,
    context: Sequence[str],
    statistics: Mapping[str, Statistic],
    text: Callable[[float], str],
    unit: str,
) -> Table:
    """Statistics of the samples; the first column names the outcome where there are none.

    Args:
        rows: Measurements of one quantity, numbered from 0.
        context: Columns of the setting to show as well.
        statistics: By the title of the column.
        text: Writes a figure for people.
        unit: Base unit of the figures.

    Returns:
        The table, which has neither name nor title nor caption yet.
    """
    shown = identity(rows, context)
    shown["Method"] = [labels.method_label(method) for method in rows["method"]]
    raw = pd.DataFrame(index=shown.index)
    first = next(iter(statistics))
    for name, function in statistics.items():
        numbers = [function(samples) if samples else None for samples in rows["samples"]]
        raw[f"{labels.slug(name).replace('-', '_')} [{unit}]"] = pd.Series(
            numbers, dtype="Float64"
        )
        shown[name] = [units.NOTHING if n is None else text(n) for n in numbers]
    failed = (rows["status"] != Status.OK.value).to_numpy()
    shown.loc[failed, first] = [labels.status_label(s) for s in rows.loc[failed, "status"]]
    kinds = {(int(row), first): "failed" for row in np.flatnonzero(failed)}
    return Table("", "", "", shown, raw, tuple(statistics), kinds)
