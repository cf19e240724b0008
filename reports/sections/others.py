"""Suites that no section is made for."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from reports.sections.base import Section
from reports.sections.ratios import Ratios
from reports.sources.frame import compared
from reports.sources.sources import Sources


class Others(Ratios):
    """Whatever else was compared, so that nothing measured is left out."""

    name = "others"
    title = "Further comparisons"
    question = "What does everything else that was measured cost?"

    def __init__(self, sections: Iterable[Section]) -> None:
        """Leave the suites of other sections to them.

        Args:
            sections: All others of the page.
        """
        self._taken = {suite for section in sections for suite in section.suites}

    def needs(self, sources: Sources) -> pd.DataFrame:
        """Times, memory and accuracies of all suites that no other section has."""
        return compared(sources.frame, set(sources.frame["suite"]) - self._taken)
