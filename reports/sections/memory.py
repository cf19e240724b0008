"""Peaks of memory of every method."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from benchmarks.records.record import Quantity
from reports.sections.measured import Measured, of_quantity
from reports.sources.frame import varying
from reports.sources.sources import Sources
from reports.tables.best import MARKED, best_marks
from reports.tables.statistics import Statistic, median, statistics_table
from reports.tables.table import Table
from reports.words import units

CAPTION = (
    "Largest amount of memory in use during the computation, above what was in use before it "
    "(model and data are not counted), each time in a fresh process: allocators differ in "
    "what they keep of what was freed. “Tensors” counts the bytes that tensors hold at once, "
    "which is the same in every run, but misses what operators allocate inside; “whole "
    "process” is the resident memory with all that was there before, sampled by "
    f"memory_profiler. {MARKED}"
)
STATISTICS: dict[str, Statistic] = {"Median": median, "Minimum": min, "Maximum": max}
FURTHER = {"Tensors": "tensors", "Whole process": "whole_process"}
"""Further columns, and where records have their figures."""


class Memory(Measured):
    """Peaks of memory."""

    name = "memory"
    title = "Memory"
    question = "How much memory does one computation need?"
    quantity = Quantity.MEMORY
    how_to_read = (
        "Further left needs less memory. The symbol is the median of the measured peaks, each "
        "thin tick one of them; the axis is logarithmic and shared by the panels of a problem."
    )

    def tables(self, sources: Sources) -> list[Table]:
        """All peaks."""
        return [memory_table(sources.frame)]


def memory_table(frame: pd.DataFrame) -> Table:
    """Peak memory of each measurement.

    Args:
        frame: All measurements.

    Returns:
        One row per measurement.
    """
    rows = of_quantity(frame, Quantity.MEMORY)
    table = statistics_table(rows, varying(frame), STATISTICS, units.size, "bytes")
    for title, name in FURTHER.items():
        sizes = [details.get(name) for details in rows["details"]]
        table.raw[f"{name} [bytes]"] = pd.Series(sizes, dtype="Float64")
        table.shown[title] = [units.NOTHING if s is None else units.size(s) for s in sizes]
    measured = (*table.measured, *FURTHER)
    kinds = best_marks(frame, rows, "Median") | table.kinds
    return replace(
        table, name="memory", title=Memory.title, caption=CAPTION, measured=measured, kinds=kinds
    )


SECTION = Memory()
