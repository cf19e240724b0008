"""What the sections about one quantity have in common: all of it, by method."""

from __future__ import annotations

import pandas as pd

from benchmarks.records.record import Quantity
from reports.figures.comparison import comparisons
from reports.figures.plot import Plot
from reports.sections import scaling
from reports.sections.base import Section
from reports.sources.sources import Sources
from reports.words import labels


class Measured(Section):
    """A table of every measurement of a quantity, and figures that compare the methods.

    Attributes:
        quantity: The quantity.
        how_to_read: Caption of the figures.
    """

    quantity: Quantity
    how_to_read: str

    def needs(self, sources: Sources) -> pd.DataFrame:
        """The measurements of the quantity."""
        return of_quantity(sources.frame, self.quantity)

    def figures(self, sources: Sources) -> list[Plot]:
        """A figure for each setting; scaling has its own."""
        rows = self.needs(sources)
        drawn = (rows["method"] != labels.REFERENCE) & ~rows["suite"].isin(scaling.SUITES)
        return comparisons(sources.frame, rows[drawn], self.quantity, self.how_to_read)


def of_quantity(frame: pd.DataFrame, quantity: Quantity) -> pd.DataFrame:
    """The measurements of a quantity, numbered from 0."""
    return frame[frame["quantity"] == quantity.value].reset_index(drop=True)
