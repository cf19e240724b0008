"""Run times of every method."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from benchmarks.records.record import Quantity
from reports.sections.measured import Measured, of_quantity
from reports.sources.frame import varying
from reports.sources.sources import Sources
from reports.tables.best import MARKED, best_marks
from reports.tables.statistics import Statistic, median, spread, statistics_table
from reports.tables.table import Table
from reports.words import units

CAPTION = (
    "Wall-clock time of one computation. IQR is the distance between the quartiles of the "
    f"repeats: the smaller, the steadier the measurement. {MARKED}"
)
STATISTICS: dict[str, Statistic] = {"Median": median, "Minimum": min, "IQR": spread}


class Time(Measured):
    """Run times."""

    name = "time"
    title = "Time"
    question = "How long does one computation take?"
    quantity = Quantity.TIME
    how_to_read = (
        "Further left is faster. Each thin tick is one repeat, the symbol their median; the axis "
        "is logarithmic and shared by the panels of a problem."
    )

    def tables(self, sources: Sources) -> list[Table]:
        """All times."""
        return [time_table(sources.frame)]


def time_table(frame: pd.DataFrame) -> Table:
    """Median, minimum, interquartile range and number of repeats of each time.

    Args:
        frame: All measurements.

    Returns:
        One row per time.
    """
    rows = of_quantity(frame, Quantity.TIME)
    table = statistics_table(rows, varying(frame), STATISTICS, units.seconds, "s")
    repeats = rows["samples"].map(len)
    table.shown["Repeats"] = [str(n) if n else units.NOTHING for n in repeats]
    table.shown.loc[repeats.to_numpy() == 1, "IQR"] = "single run"
    measured = (*table.measured, "Repeats")
    kinds = best_marks(frame, rows, "Median") | table.kinds
    return replace(
        table, name="time", title=Time.title, caption=CAPTION, measured=measured, kinds=kinds
    )


SECTION = Time()
