"""Two sides beside each other: machines, or commits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import pandas as pd

from reports.sections.base import Section, Words
from reports.sources.sides import Side, pairs
from reports.sources.sources import Sources
from reports.tables.pairs import pair_summary, pair_table
from reports.tables.table import Table


class Compared(Section):
    """The same measurements of two sides."""

    name = "compared"
    title = "Both sides"
    question = "What is faster or slower, smaller or larger, on side B?"

    def __init__(self, a: Side, b: Side) -> None:
        """Compare two sides.

        Args:
            a: What to compare with.
            b: What is compared.
        """
        self.a, self.b = a, b

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The same measurements of both."""
        return pairs(self.a, self.b)

    def needs(self, sources: Sources) -> pd.DataFrame:
        """The same measurements of both, whatever else was found."""
        return self.rows

    def words(self, sources: Sources) -> Sequence[Words]:
        """A sentence for each quantity."""
        return [Words(points=tuple(pair_summary(self.rows)))]

    def tables(self, sources: Sources) -> Sequence[Table]:
        """A row for each measurement."""
        return [pair_table(self.rows)]
