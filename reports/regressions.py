"""What became of each figure over commits: from asv's results."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from reports import asv, units
from reports.tables import Table

THRESHOLD = 1.05
"""Ratio from which on a change is named, if the noise does not explain it."""

THRESHOLDS = {"1": 10.0, "ratio": 1.25}
"""Of units whose figures are single samples: of errors, which round-off decides, and of times."""

LARGER_IS_BETTER = ("samples", "ratio")
"""Units of what should grow."""

SHORT = 8
"""Characters of a commit."""

CAPTION = (
    "The last commit against the first one that was measured, of each point of the grid. “Worse” "
    f"and “better” are changes by more than {THRESHOLD - 1:.0%} whose intervals of confidence "
    "(asv's, 99%) do not overlap. Ratios of times and relative errors, which have no interval, "
    f"change by more than a factor of {THRESHOLDS['ratio']:g} and {THRESHOLDS['1']:g}; counts and "
    "bytes of tensors are the same in every run. The largest step is the worst change between "
    "neighbouring commits, and where it happened. Commits were measured one after the other, so a "
    "busy machine may look like a slower commit: python -m benchmarks check measures two of them "
    "in turns."
)


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
    order = ["failed", "worse", "better", "unchanged", "single"]
    series.sort(key=lambda row: order.index(row["kind"]))
    shown = pd.DataFrame([row["shown"] for row in series], dtype=object)
    raw = pd.DataFrame([row["raw"] for row in series])
    if frame["setting"].nunique() < 2 and len(shown):
        shown = shown.drop(columns="Setting")
    marks = {"failed": "failed", "worse": "worse", "better": "better"}
    kinds = {
        (index, "Change"): marks[row["kind"]]
        for index, row in enumerate(series)
        if row["kind"] in marks
    }
    measured = ("First", "Last", "Change", "Largest step")
    return Table("regressions", "Changes", CAPTION, shown, raw, measured, kinds)


def _change(group: pd.DataFrame) -> dict[str, Any]:
    """A row: what is shown, the numbers behind it, and its kind."""
    unit = str(group["unit"].iloc[0])
    done = group[group["outcome"] == asv.OK]
    latest = group[group["outcome"] != asv.SKIPPED].iloc[-1]
    first, last = (done.iloc[0], done.iloc[-1]) if len(done) else (latest, latest)
    ratio = _ratio(first["value"], last["value"])
    if latest["outcome"] == asv.FAILED:
        kind, text = "failed", f"failed at {latest['commit'][:SHORT]}"
    elif len(done) < 2:
        kind, text = "single", "one commit"
    else:
        kind = _kind(first, last, unit)
        text = f"{kind}, {ratio:.3f}x" if kind != "unchanged" else f"{ratio:.3f}x"
    step, where = _largest_step(done, unit)
    shown = {
        "Figure": name_of(str(group["benchmark"].iloc[0]), str(group["kind"].iloc[0])),
        "At": group["point"].iloc[0],
        "Setting": group["setting"].iloc[0],
        "Change": text,
        "First": amount(first["value"], unit),
        "Last": amount(last["value"], unit),
        "Largest step": f"{step:.3f}x at {where}" if where else units.NOTHING,
        "Commits": str(len(done)),
    }
    raw = {
        "benchmark": group["benchmark"].iloc[0],
        "unit": unit,
        "first": first["value"],
        "first_commit": first["commit"],
        "last": last["value"],
        "last_commit": last["commit"],
        "last_to_first": ratio,
    }
    return {"shown": shown, "raw": raw, "kind": kind}


def _kind(first: pd.Series, last: pd.Series, unit: str) -> str:
    ratio = _ratio(first["value"], last["value"])
    threshold = THRESHOLDS.get(unit, THRESHOLD)
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


def _largest_step(done: pd.DataFrame, unit: str) -> tuple[float, str]:
    """The worst change between neighbouring commits, and at which commit; of one commit none."""
    values, commits = [*done["value"]], [*done["commit"]]
    steps = [
        (_ratio(before, after), commit[:SHORT])
        for before, after, commit in zip(values, values[1:], commits[1:], strict=False)
    ]
    if not steps:
        return math.nan, ""
    worst = min if unit in LARGER_IS_BETTER else max
    return worst(steps)
