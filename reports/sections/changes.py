"""What became of each figure over commits: from asv's results."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from reports.sources import asv
from reports.sources.environments import SHORT_COMMIT
from reports.tables.table import Table
from reports.words import units

THRESHOLD = 1.05
"""Ratio from which on a change is named, if the noise does not explain it."""

PROCESS, TIMES, ERROR = 1.1, 1.25, 10.0
"""The same of what has a single sample: memory of whole processes, which varies with the
allocator; ratios of times; and errors, which round-off decides."""

LARGER_IS_BETTER = ("samples", "ratio")
"""Units of what should grow."""

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

NAMES = {"gram": "Gram", "newton": "Newton"}
"""Of people, in the names of functions."""

CHANGE, SINCE_BEST = COMPARED = ("Change", "Against the best")
"""Columns that compare commits."""

MARKS = {"failed": "failed", "lost": "failed", "worse": "worse", "better": "better"}
"""Kinds of changes, and how the page marks them."""


def name_of(benchmark: str, kind: str) -> str:
    """A benchmark for people, from the name of its function.

    Args:
        benchmark: As asv names it, such as ``asv.speed.Eigenvalues.time_eigenvalues``.
        kind: asv's type, such as ``time``.

    Returns:
        For example “Time of eigenvalues”.
    """
    function = benchmark.rpartition(".")[2]
    words = function.partition("_")[2].replace("_", " ") or function
    words = " ".join(NAMES.get(word, word) for word in words.split(" "))
    prefix = {"time": "Time of ", "peakmemory": "Peak memory of the process, "}.get(kind, "")
    text = prefix + words
    return text[:1].upper() + text[1:]


def amount(value: float, unit: str) -> str:
    """A figure with its unit.

    Args:
        value: In base units.
        unit: As asv's benchmarks have it.

    Returns:
        For example “1.20 s”; a dash for NaN.
    """
    if math.isnan(value):
        return units.NOTHING
    if unit == "seconds":
        return units.seconds(value)
    if unit == "bytes":
        return units.size(value)
    if unit == "ratio":
        return f"{units.significant(value)}x"
    if unit == "1":
        return units.error(value)
    return f"{value:g} {unit}"


def change_table(frame: pd.DataFrame) -> Table:
    """First and last figure of each series.

    Args:
        frame: Results of asv.

    Returns:
        One row per benchmark and point that some commit was measured at; what worsened first.
    """
    series = [
        _change(group)
        for _, group in frame.groupby(["setting", "benchmark", "point"], sort=False)
        if (group["outcome"] != asv.SKIPPED).any()
    ]
    order = [*MARKS, "unchanged", "single"]
    series.sort(key=lambda row: min(order.index(row[column]) for column in COMPARED))
    shown = pd.DataFrame([row["shown"] for row in series], dtype=object)
    raw = pd.DataFrame([row["raw"] for row in series])
    if frame["setting"].nunique() < 2 and len(shown):
        shown = shown.drop(columns="Setting")
    kinds = {
        (index, column): MARKS[row[column]]
        for index, row in enumerate(series)
        for column in COMPARED
        if row[column] in MARKS
    }
    measured = ("First", "Last", *COMPARED)
    return Table("regressions", "Changes", CAPTION, shown, raw, measured, kinds)


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


def _change(group: pd.DataFrame) -> dict[str, Any]:
    """A row: what is shown, the numbers behind it, and the kind of both comparisons."""
    unit = str(group["unit"].iloc[0])
    done = group[group["outcome"] == asv.OK]
    tried = group[group["outcome"] != asv.SKIPPED]
    first, last = (done.iloc[0], done.iloc[-1]) if len(done) else (tried.iloc[-1],) * 2
    best = done.loc[_best(done["value"], unit)] if len(done) else last
    kind, text = _judge(first, last)
    since_kind, since = _judge(best, last) if len(done) > 1 else ("single", "")
    if tried["outcome"].iloc[-1] == asv.FAILED:
        kind, text = "failed", f"failed at {tried['commit'].iloc[-1][:SHORT_COMMIT]}"
    elif group["outcome"].iloc[-1] == asv.SKIPPED:
        later = group[group["order"] > last["order"]]
        kind, text = "lost", f"lost at {later['commit'].iloc[0][:SHORT_COMMIT]}"
    elif len(done) < 2:
        kind, text = "single", "one commit"
    shown = {
        "Figure": name_of(str(group["benchmark"].iloc[0]), str(group["kind"].iloc[0])),
        "At": group["point"].iloc[0],
        "Setting": group["setting"].iloc[0],
        CHANGE: text,
        SINCE_BEST: f"{since} ({best['commit'][:SHORT_COMMIT]})"
        if len(done) > 1
        else units.NOTHING,
        "First": amount(first["value"], unit),
        "Last": amount(last["value"], unit),
        "Commits": str(len(done)),
    }
    raw = {
        "benchmark": group["benchmark"].iloc[0],
        "unit": unit,
        "first": first["value"],
        "first_commit": first["commit"],
        "best": best["value"],
        "best_commit": best["commit"],
        "last": last["value"],
        "last_commit": last["commit"],
        "last_to_first": _ratio(first["value"], last["value"]),
    }
    return {"shown": shown, "raw": raw, CHANGE: kind, SINCE_BEST: since_kind}


def _best(values: pd.Series, unit: str) -> Any:
    """Where the best value is."""
    return values.idxmax() if unit in LARGER_IS_BETTER else values.idxmin()


def _judge(before: pd.Series, after: pd.Series) -> tuple[str, str]:
    """The kind of a change, and its words."""
    ratio = _ratio(before["value"], after["value"])
    kind = _kind(before, after)
    return kind, f"{ratio:.3f}x" if kind == "unchanged" else f"{kind}, {ratio:.3f}x"


def _kind(first: pd.Series, last: pd.Series) -> str:
    unit = str(first["unit"])
    ratio = _ratio(first["value"], last["value"])
    threshold = {"1": ERROR, "ratio": TIMES}.get(unit, THRESHOLD)
    if first["kind"] == "peakmemory":
        threshold = PROCESS
    if 1 / threshold <= ratio <= threshold or _overlap(first, last):
        return "unchanged"
    return "better" if (ratio > 1) == (unit in LARGER_IS_BETTER) else "worse"


def _overlap(first: pd.Series, last: pd.Series) -> bool:
    """Whether intervals of confidence meet; asv gives none to single samples."""
    ends = [first["low"], first["high"], last["low"], last["high"]]
    if not all(map(math.isfinite, ends)):
        return False
    return bool(first["low"] <= last["high"] and last["low"] <= first["high"])


def _ratio(first: float, last: float) -> float:
    if first == last:
        return 1.0
    return last / first if first else math.inf
