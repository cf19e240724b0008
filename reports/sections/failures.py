"""What gave no result."""

from __future__ import annotations

import pandas as pd

from reports.sections.base import Section
from reports.sources.frame import failures, varying
from reports.sources.sources import Sources
from reports.tables.table import Table, identity
from reports.words import labels

CAPTION = "Measurements that were tried and gave no result, and why."


class Failures(Section):
    """Whatever failed, with the reason; says so if nothing did."""

    name = "failures"
    title = "Failures"
    question = "What was tried and gave no result?"

    def __init__(self, table: str = "failures") -> None:
        """Name the table, whose file must not be that of another page.

        Args:
            table: Its name.
        """
        self._table = table

    def needs(self, sources: Sources) -> pd.DataFrame:
        """All measurements."""
        return sources.frame

    def tables(self, sources: Sources) -> list[Table]:
        """All failures."""
        return [failure_table(sources.frame, self._table)]


def failure_table(frame: pd.DataFrame, name: str = "failures") -> Table:
    """Everything that was tried and gave no result.

    Args:
        frame: All measurements.
        name: Of the table.

    Returns:
        One row per failure.
    """
    rows = failures(frame)
    shown = identity(rows, varying(frame))
    shown["Method"] = [labels.method_label(method) for method in rows["method"]]
    shown["Quantity"] = [labels.QUANTITIES[quantity].label for quantity in rows["quantity"]]
    shown["Outcome"] = [labels.status_label(status) for status in rows["status"]]
    shown["Reason"] = [reason or "no reason recorded" for reason in rows["reason"]]
    return Table(
        name=name,
        title=Failures.title,
        caption=CAPTION,
        shown=shown,
        raw=pd.DataFrame(index=shown.index),
        kinds={(row, "Outcome"): "failed" for row in range(len(shown))},
        wrapped=("Computed", "Environment", "Method"),
        prose=("Reason",),
    )


SECTION = Failures()
