"""Errors of every method."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from benchmarks.records.record import Quantity
from reports.sections.measured import Measured, of_quantity
from reports.sources.frame import varying
from reports.sources.sources import Sources
from reports.tables.statistics import statistics_table
from reports.tables.table import Table
from reports.words import units

CAPTION = (
    "Largest error of the eigenvalues against the float64 reference, relative to the largest "
    "eigenvalue; of the gradient and of what is no spectrum, relative to its norm. Single "
    "precision allows about 1e-07."
)


class Accuracy(Measured):
    """Relative errors."""

    name = "accuracy"
    title = "Accuracy"
    question = "Do the methods compute the same, and how exactly?"
    quantity = Quantity.ACCURACY
    how_to_read = (
        "Further left is more accurate; single precision allows about 1e-07. A method far to the "
        "right computes something less exact in the time that Speed shows. For the gradient the "
        "error is relative to its norm."
    )

    def tables(self, sources: Sources) -> list[Table]:
        """All errors."""
        return [accuracy_table(sources.frame)]


def accuracy_table(frame: pd.DataFrame) -> Table:
    """Relative error of each method.

    Args:
        frame: All measurements.

    Returns:
        One row per result that was checked.
    """
    rows = of_quantity(frame, Quantity.ACCURACY)
    table = statistics_table(rows, varying(frame), {"Relative error": max}, units.error, "1")
    return replace(table, name="accuracy", title=Accuracy.title, caption=CAPTION)


SECTION = Accuracy()
