"""The suite of critical batch sizes: how large a batch fits, and how that compares."""

from __future__ import annotations

import math

import pandas as pd

from benchmarks.grid.targets import CRITICAL_TARGETS, CriticalTarget
from benchmarks.records.record import Quantity, Status
from reports.sources import records as loading
from reports.tables.table import Table, identity, slug
from reports.words import labels, units
from reports.words.labels import OURS

SUITE = "critical"
CAPTION = (
    "The largest batch with which a process gets by on the budget; all of its data counts, also "
    "what Python and its libraries hold. Each batch size was tried in a process of its own. "
    "“vivit's, relative to it” divides vivit's size by the method's; targets are for the larger "
    "of the original's two settings."
)


def critical_table(frame: pd.DataFrame) -> Table:
    """Critical batch sizes, and vivit's relative to each.

    Args:
        frame: Measurements of the suite in one setting.

    Returns:
        One row per problem, task, budget and method.
    """
    rows = frame[frame["quantity"] == Quantity.CRITICAL.value].reset_index(drop=True)
    ratios = [_ratio(rows, row) for _, row in rows.iterrows()]
    asked = [_asked(rows, row) for _, row in rows.iterrows()]
    shown = identity(rows, []).drop(columns="Batch")
    shown["Budget"] = [units.size(float(budget)) for budget in rows["budget"]]
    shown["Method"] = [labels.method_label(method) for method in rows["method"]]
    shown["Largest batch that fits"] = [_size(row) for _, row in rows.iterrows()]
    shown["Does not fit"] = [_too_large(row) for _, row in rows.iterrows()]
    shown["vivit's, relative to it"] = [
        units.NOTHING if math.isnan(ratio) else f"{units.significant(ratio)}x" for ratio in ratios
    ]
    shown["Target"] = [f"≥ {units.significant(x, 2)}x" if x else units.NOTHING for x in asked]
    kinds = {
        (i, "Target"): "better" if ratio >= least else "worse"
        for i, (ratio, least) in enumerate(zip(ratios, asked, strict=True))
        if least is not None and not math.isnan(ratio)
    }
    setting = str(frame["setting"].iloc[0])
    title = "Critical batch sizes"
    return Table(
        name=slug(f"critical {setting}"),
        title=f"{title}: {setting}" if setting else title,
        caption=CAPTION,
        shown=shown,
        raw=pd.DataFrame(
            {
                "batch size": rows["value"],
                "ratio": ratios,
                "budget [bytes]": rows["budget"],
            }
        ),
        measured=tuple(shown.columns[4:]),
        kinds=kinds,
    )


def _of_cell(rows: pd.DataFrame, row: pd.Series) -> pd.DataFrame:
    """What was searched on the same problem with the same budget."""
    return rows[(rows["cell"] == row["cell"]) & (rows["status"] == Status.OK.value)]


def _ratio(rows: pd.DataFrame, row: pd.Series) -> float:
    """Vivit's critical batch size over a method's; NaN if there is none."""
    ours = _of_cell(rows, row).loc[lambda found: found["method"] == OURS, "value"]
    comparable = row["method"] != OURS and row["status"] == Status.OK.value and len(ours)
    if not comparable or not row["value"] or _is_unlimited(row):
        return math.nan
    return float(ours.iloc[0] / row["value"])


def _asked(rows: pd.DataFrame, row: pd.Series) -> float | None:
    """The ratio to be reached, if this method is the best of those that a target names."""
    for target in CRITICAL_TARGETS:
        if row["method"] in target.rivals and _is_about(target, row):
            found = _of_cell(rows, row)
            best = found.loc[found["method"].isin(target.rivals), "value"].max()
            return target.ratio if row["value"] == best else None
    return None


def _is_unlimited(row: pd.Series) -> bool:
    """Whether all sizes that were allowed fit."""
    return row["details"].get("does_not_fit") is None


def _is_about(target: CriticalTarget, row: pd.Series) -> bool:
    task = target.task.parameters
    same = all(row[name] == task[name] for name in loading.TASK)
    return same and (row["problem"], row["budget"]) == (target.problem, target.budget)


def _size(row: pd.Series) -> str:
    if row["status"] != Status.OK.value:
        return labels.status_label(row["status"])
    return f"≥ {row['details']['fits']}" if _is_unlimited(row) else f"{int(row['value'])}"


def _too_large(row: pd.Series) -> str:
    size = row["details"].get("does_not_fit")
    return str(size) if row["status"] == Status.OK.value and size else units.NOTHING
