"""Ratios of a baseline to this library, never across environments or parameters."""

from __future__ import annotations

import pandas as pd

from benchmarks.records.record import Quantity, Status
from reports.sources.frame import COMPARED
from reports.words import labels, units
from reports.words.labels import MISSING, OURS, YARDSTICK

OK = Status.OK.value


def baselines(frame: pd.DataFrame) -> list[str]:
    """The methods to compare with, in the order of the report."""
    rows = frame[frame["quantity"].isin(COMPARED)]
    return labels.sorted_methods(set(rows["method"]) - {OURS, labels.REFERENCE})


def compare(frame: pd.DataFrame, quantity: Quantity) -> pd.DataFrame:
    """Pair this library with every baseline, cell by cell.

    Args:
        frame: Measurements.
        quantity: What to compare.

    Returns:
        One row per cell and baseline: `cell`, `baseline`, `value_*`, `status_*` and `reason_*`
        with the suffixes `ours` and `theirs`, and `ratio = value_theirs / value_ours` (NaN unless
        both were measured and ours is positive). A measurement that was not made has the status
        ``"missing"``.
    """
    compared = frame[frame["quantity"].isin(COMPARED)]
    cells = compared[compared["method"] != labels.REFERENCE]["cell"].drop_duplicates()
    names = pd.DataFrame({"baseline": baselines(frame)}, dtype=object)
    outcome = ["cell", "method", "value", "status", "reason"]
    rows = frame.loc[frame["quantity"] == quantity.value, outcome]
    ours = rows[rows["method"] == OURS].drop(columns="method")
    theirs = rows.rename(columns={"method": "baseline"})
    pairs = cells.to_frame().merge(names, how="cross").merge(ours, on="cell", how="left")
    pairs = pairs.merge(theirs, on=["cell", "baseline"], how="left", suffixes=("_ours", "_theirs"))
    for side in ("ours", "theirs"):
        pairs[f"status_{side}"] = pairs[f"status_{side}"].fillna(MISSING)
        pairs[f"reason_{side}"] = pairs[f"reason_{side}"].fillna("")
    ratio = pairs["value_theirs"] / pairs["value_ours"].where(pairs["value_ours"] > 0)
    return pairs.assign(ratio=ratio)


def ratio_text(ratio: float, baseline: str, quantity: Quantity) -> str:
    """A ratio in words.

    Args:
        ratio: Value of the baseline divided by the value of this library.
        baseline: The baseline's identifier.
        quantity: What was compared.

    Returns:
        For example "12.3x faster", "1.50x slower", "5.10x less", "30.0 gradients".
    """
    if ratio <= 0:
        return "baseline below resolution"
    if baseline == YARDSTICK:
        cost = units.significant(1 / ratio)
        return f"{cost} gradients" if quantity is Quantity.TIME else f"{cost}x a gradient"
    better, worse, same = {
        Quantity.TIME: ("faster", "slower", "equally fast"),
        Quantity.MEMORY: ("less", "more", "the same"),
    }[quantity]
    if ratio == 1:
        return same
    factor, word = (ratio, better) if ratio > 1 else (1 / ratio, worse)
    return f"{units.significant(factor)}x {word}"


def ratio_kind(ratio: float, baseline: str) -> str:
    """How to mark a ratio: better, worse, or neither."""
    if baseline == YARDSTICK or ratio == 1:
        return "plain"
    return "better" if ratio > 1 else "worse"


def summary(frame: pd.DataFrame) -> list[str]:
    """The headline in words, one sentence per baseline.

    Args:
        frame: Measurements of one suite in one setting.

    Returns:
        The sentences.
    """
    tables = {q: compare(frame, q) for q in (Quantity.TIME, Quantity.MEMORY)}
    return [
        f"{_against(name)}: "
        + "; ".join(_summarise(t[t["baseline"] == name], name, q) for q, t in tables.items())
        + "."
        for name in baselines(frame)
    ]


def _against(baseline: str) -> str:
    if baseline == YARDSTICK:
        return "In plain mini-batch gradients"
    return f"Against {labels.method_label(baseline)}"


def _summarise(pairs: pd.DataFrame, baseline: str, quantity: Quantity) -> str:
    ratios = pairs["ratio"].dropna()
    what = labels.QUANTITIES[quantity.value].label.lower()
    failed = int((~pairs["status_theirs"].isin([OK, MISSING])).sum())
    own = int((~pairs["status_ours"].isin([OK, MISSING])).sum())
    parts = [_range(ratios, baseline, quantity) if len(ratios) else "no ratio available"]
    if failed:
        parts.append(f"the baseline did not finish in {failed} of {len(pairs)} cases")
    if own:
        parts.append(f"vivit did not finish in {own} of {len(pairs)} cases")
    return f"{what} " + ", ".join(parts)


def _range(ratios: pd.Series, baseline: str, quantity: Quantity) -> str:
    low, middle, high = (
        ratio_text(ratio, baseline, quantity)
        for ratio in (ratios.min(), ratios.median(), ratios.max())
    )
    if baseline == YARDSTICK:
        low, high = high, low
    if len(ratios) == 1:
        return f"{middle} (1 case)"
    number, _, unit = low.partition(" ")
    if unit and unit == high.partition(" ")[2]:
        low = number
    return f"{low} to {high} (median {middle}, {len(ratios)} cases)"
