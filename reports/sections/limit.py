"""Shares of the machine's limit: what could still be faster."""

from __future__ import annotations

import pandas as pd

from benchmarks.profiling.command import SUITE
from benchmarks.records.record import Quantity, Status
from reports.sections.base import Section, Words
from reports.sources.frame import groups, setting_of
from reports.sources.sources import Sources
from reports.tables.table import Table, identity
from reports.words import labels, units

CAPTION = (
    "The limit is the least time that the multiplications and the memory traffic of a run could "
    "take: at the rate of large matrix products, or of large copies, whichever takes longer. A "
    "share of 1 would leave nothing to gain without other algorithms. Of each phase: what it "
    "takes when operations are timed one by one, and its own limit in brackets. Columns are made "
    "while gradients pass by; contractions turn them into the matrix."
)
PHASES = ("contraction", "backward", "columns", "forward", "eigensolver")
"""Those that take long, in the order of the table."""


class Limit(Section):
    """How far from what the machine allows."""

    name = "limit"
    title = "Distance from the machine's limit"
    question = "What can still be hoped for?"
    suites = (SUITE,)

    def needs(self, sources: Sources) -> pd.DataFrame:
        """Times of profiles that have a limit beside them."""
        return _runs(sources.frame)

    def answers(self, sources: Sources) -> list[Words]:
        """The smallest and the largest share in each setting."""
        return [
            Words(labels.titled(self.title, setting_of(group)), points=(_range(group),))
            for group in groups(self.needs(sources))
        ]

    def tables(self, sources: Sources) -> list[Table]:
        """Times, limits and shares in each setting."""
        return [limit_table(group) for group in groups(self.needs(sources))]


def _runs(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each profile: its time, with the limit as a column."""
    rows = frame[(frame["suite"] == SUITE) & (frame["status"] == Status.OK.value)]
    times = rows[rows["quantity"] == Quantity.TIME.value]
    limits = rows[rows["quantity"] == Quantity.LIMIT.value]
    beside = limits[["cell", "method", "value", "details"]]
    return times.merge(beside, on=["cell", "method"], suffixes=("", "_limit"))


def _shares(rows: pd.DataFrame) -> list[float]:
    return [*(rows["value_limit"] / rows["value"])]


def _range(rows: pd.DataFrame) -> str:
    shares = _shares(rows)
    least, most = (units.significant(x, 2) for x in (min(shares), max(shares)))
    reached = least if least == most else f"{least} to {most}"
    return f"vivit reaches {reached} of what this machine allows; 1 would be all of it."


def limit_table(rows: pd.DataFrame) -> Table:
    """Times beside limits.

    Args:
        rows: Profiles in one setting.

    Returns:
        One row for each.
    """
    rows = rows.reset_index(drop=True)
    shares = _shares(rows)
    shown = identity(rows)
    shown["Method"] = [labels.method_label(method) for method in rows["method"]]
    shown["Share"] = [units.significant(share, 2) for share in shares]
    shown["Time"] = [units.seconds(x) for x in rows["value"]]
    shown["Limit"] = [units.seconds(x) for x in rows["value_limit"]]
    for name in PHASES:
        shown[name.capitalize()] = [_phase(row, name) for _, row in rows.iterrows()]
    setting = setting_of(rows)
    return Table(
        name=labels.slug(f"limit {setting}"),
        title=labels.titled(Limit.title, setting),
        caption=CAPTION,
        shown=shown,
        raw=pd.DataFrame(
            {"share": shares, "time [s]": rows["value"], "limit [s]": rows["value_limit"]}
        ),
        measured=tuple(shown.columns[4:]),
    )


def _phase(row: pd.Series, name: str) -> str:
    taken = row["details"].get(name)
    if taken is None:
        return units.NOTHING
    return f"{units.seconds(taken, 2)} ({units.seconds(row['details_limit'][name], 2)})"


SECTION = Limit()
