"""Saved runs of pytest-benchmark."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reports.sections.base import Section
from reports.sources.pytest_benchmark import Run
from reports.sources.sources import Sources
from reports.tables.table import Table
from reports.words import labels, units

CAPTION = (
    "Saved runs of pytest --benchmark-only, the latest first. A ratio compares medians of the "
    "same run with vivit's at the same point; within a run, methods are timed one after the "
    "other, so tables of samples in turns are the better comparison."
)


class PytestRuns(Section):
    """Each benchmark of each run."""

    name = "runs"
    title = "Runs of pytest-benchmark"
    question = "What did the suite of pytest measure?"

    def needs(self, sources: Sources) -> list[Run]:
        """The saved runs."""
        return sources.runs

    def tables(self, sources: Sources) -> list[Table]:
        """All runs."""
        return [run_table(sources.runs)]


def run_table(runs: Sequence[Run]) -> Table:
    """All benchmarks of all runs.

    Args:
        runs: At least one.

    Returns:
        The table.
    """
    frame = pd.concat([run.frame.assign(file=run.path) for run in runs], ignore_index=True)
    ours = frame[frame["method"] == labels.OURS].set_index(["file", "point"])["median"]
    keys = pd.MultiIndex.from_frame(frame[["file", "point"]])
    frame["to_ours"] = frame["median"].to_numpy() / ours.reindex(keys).to_numpy()
    shown = pd.DataFrame(
        {
            "Run": frame["run"],
            "Problem": labels.problem_labels(frame),
            "Computed": frame["computed"],
            "Batch": frame["N"].map(_whole),
            "D": frame["D"].map(_whole),
            "Columns": frame["columns"].map(_whole),
            "Method": frame["method"].map(labels.method_label),
            "Median": frame["median"].map(units.seconds),
            "IQR": frame["iqr"].map(units.seconds),
            "Time to vivit's": frame["to_ours"].map(units.factor),
            "Relative error": frame["relative_error"].map(units.error),
            "Rounds": frame["rounds"].map(str),
        },
        dtype=object,
    )
    raw = frame[["commit", "machine", "median", "iqr", "min", "to_ours"]].rename(
        columns={name: f"{name} [s]" for name in ("median", "iqr", "min")}
    )
    measured = ("Median", "IQR", "Time to vivit's", "Relative error", "Rounds")
    return Table("pytest", PytestRuns.title, CAPTION, shown, raw, measured)


def _whole(value: object) -> str:
    return units.NOTHING if value is None or pd.isna(value) else f"{int(value):,}"  # type: ignore[call-overload]


SECTION = PytestRuns()
