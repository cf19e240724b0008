"""What became of each figure over commits: the last one against earlier ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.sections.base import Section
from reports.sources import asv
from reports.sources.environments import SHORT_COMMIT
from reports.sources.sources import Sources
from reports.tables.change import ERROR, PROCESS, THRESHOLD, TIMES, Figure, judge, ratio
from reports.tables.table import Table
from reports.words import units
from reports.words.benchmarks import LARGER_IS_BETTER, amount, name_of

CAPTION = (
    "The last commit against the first one that was measured, and against the best one, for each "
    f"point of the grid. “Worse” and “better” are changes by more than {THRESHOLD - 1:.0%} whose "
    "intervals of confidence (asv's, 99%) do not overlap. What has a single sample changes by "
    f"more than a factor of {PROCESS:g} (memory of whole processes), {TIMES:g} (ratios of times), "
    f"{ERROR:g} (relative errors, which round-off decides); counts and bytes of tensors are the "
    "same in every run. “Lost” is what earlier commits could do and the last could not. Different "
    "commits see a different state of the machine: python -m benchmarks check measures two in "
    "turns."
)

CHANGE, SINCE_BEST = COMPARED = ("Change", "Against the best")
"""Columns that compare commits."""

MARKS = {"failed": "failed", "lost": "failed", "worse": "worse", "better": "better"}
"""Kinds of changes, and how the page marks them."""


class Changes(Section):
    """First, best and last figure of each point."""

    name = "changes"
    title = "Changes"
    question = "What became faster or slower, smaller or larger?"

    def needs(self, sources: Sources) -> pd.DataFrame:
        """Results of asv."""
        return sources.results.frame

    def tables(self, sources: Sources) -> list[Table]:
        """All points; what worsened first."""
        return [change_table(sources.results.frame)]


@dataclass(frozen=True)
class Series:
    """A point of a benchmark over commits; some commit was measured at it.

    Attributes:
        rows: Its results, in the order of the commits.
    """

    rows: pd.DataFrame

    @property
    def unit(self) -> str:
        """Of its figures, as asv's benchmarks have it."""
        return str(self.rows["unit"].iloc[0])

    @property
    def done(self) -> pd.DataFrame:
        """The results that are figures."""
        return self.rows[self.rows["outcome"] == asv.OK]

    @property
    def tried(self) -> pd.DataFrame:
        """The results that are figures or failures."""
        return self.rows[self.rows["outcome"] != asv.SKIPPED]

    @property
    def first(self) -> pd.Series:
        """The first figure, or else the last failure."""
        return self.done.iloc[0] if len(self.done) else self.tried.iloc[-1]

    @property
    def last(self) -> pd.Series:
        """The last figure, or else the last failure."""
        return self.done.iloc[-1] if len(self.done) else self.tried.iloc[-1]

    @property
    def best(self) -> pd.Series:
        """The best figure, or else the last failure."""
        values = self.done["value"]
        if not len(values):
            return self.last
        larger = self.unit in LARGER_IS_BETTER
        return self.done.loc[values.idxmax() if larger else values.idxmin()]

    @property
    def change(self) -> tuple[str, str]:
        """The kind of what happened since the first figure, and its words."""
        if self.tried["outcome"].iloc[-1] == asv.FAILED:
            return "failed", f"failed at {_short(self.tried['commit'].iloc[-1])}"
        if self.rows["outcome"].iloc[-1] == asv.SKIPPED:
            later = self.rows[self.rows["order"] > self.last["order"]]
            return "lost", f"lost at {_short(later['commit'].iloc[0])}"
        if len(self.done) < 2:
            return "single", "one commit"
        return _judge(self.first, self.last)

    @property
    def since_best(self) -> tuple[str, str]:
        """The kind of what happened since the best figure, and its words."""
        if len(self.done) < 2:
            return "single", units.NOTHING
        kind, text = _judge(self.best, self.last)
        return kind, f"{text} ({_short(self.best['commit'])})"

    @property
    def shown(self) -> dict[str, str]:
        """What the page shows, by column."""
        return {
            "Figure": name_of(str(self.first["benchmark"]), str(self.first["kind"])),
            "At": self.first["point"],
            "Setting": self.first["setting"],
            CHANGE: self.change[1],
            SINCE_BEST: self.since_best[1],
            "First": amount(self.first["value"], self.unit),
            "Last": amount(self.last["value"], self.unit),
            "Commits": str(len(self.done)),
        }

    @property
    def raw(self) -> dict[str, Any]:
        """The numbers behind it."""
        return {
            "benchmark": self.first["benchmark"],
            "unit": self.unit,
            "first": self.first["value"],
            "first_commit": self.first["commit"],
            "best": self.best["value"],
            "best_commit": self.best["commit"],
            "last": self.last["value"],
            "last_commit": self.last["commit"],
            "last_to_first": ratio(self.first["value"], self.last["value"]),
        }

    @property
    def kinds(self) -> dict[str, str]:
        """The kinds of both comparisons, by column."""
        return {CHANGE: self.change[0], SINCE_BEST: self.since_best[0]}


def change_table(frame: pd.DataFrame) -> Table:
    """First and last figure of each series.

    Args:
        frame: Results of asv.

    Returns:
        One row per benchmark and point that some commit was measured at; what worsened first.
    """
    grouped = frame.groupby(["setting", "benchmark", "point"], sort=False)
    series = [Series(rows) for _, rows in grouped if (rows["outcome"] != asv.SKIPPED).any()]
    order = [*MARKS, "unchanged", "single"]
    series.sort(key=lambda s: min(order.index(kind) for kind in s.kinds.values()))
    shown = pd.DataFrame([s.shown for s in series], dtype=object)
    if frame["setting"].nunique() < 2 and len(shown):
        shown = shown.drop(columns="Setting")
    return Table(
        name="regressions",
        title=Changes.title,
        caption=CAPTION,
        shown=shown,
        raw=pd.DataFrame([s.raw for s in series]),
        measured=("First", "Last", *COMPARED),
        kinds={
            (index, column): MARKS[kind]
            for index, s in enumerate(series)
            for column, kind in s.kinds.items()
            if kind in MARKS
        },
        wrapped=("At",),
        empty="No point was measured.",
    )


def worse_rows(table: Table) -> set[int]:
    """Series that are worse at the last commit than at the first or the best one, or lost.

    Args:
        table: As `change_table` gives it.

    Returns:
        Numbers of rows; those that failed are not among them.
    """
    texts = enumerate(table.shown[CHANGE] if len(table.shown) else ())
    lost = {row for row, text in texts if text.startswith("lost")}
    return lost | {row for (row, _), kind in table.kinds.items() if kind == "worse"}


def _short(commit: str) -> str:
    return commit[:SHORT_COMMIT]


def _judge(before: pd.Series, after: pd.Series) -> tuple[str, str]:
    """The kind of a change, and its words."""
    factor = ratio(before["value"], after["value"])
    kind = _kind(before, after)
    return kind, f"{factor:.3f}x" if kind == "unchanged" else f"{kind}, {factor:.3f}x"


def _kind(first: pd.Series, last: pd.Series) -> str:
    unit = str(first["unit"])
    threshold = {"1": ERROR, "ratio": TIMES}.get(unit, THRESHOLD)
    if first["kind"] == "peakmemory":
        threshold = PROCESS
    before, after = (Figure(row["value"], row["low"], row["high"]) for row in (first, last))
    return judge(before, after, threshold, larger_is_better=unit in LARGER_IS_BETTER)


SECTION = Changes()
