"""Critical batch sizes: how large a batch fits, and how that compares."""

from __future__ import annotations

import math
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.grid.targets import CRITICAL_TARGETS, CriticalTarget
from benchmarks.records.record import Quantity, Status
from reports.figures.plot import Plot
from reports.figures.scales import SCALES, label_ticks
from reports.figures.style import Palette, legend_below, palette_of
from reports.sections.base import Section
from reports.sources.frame import TASK, groups, setting_of
from reports.sources.sources import Sources
from reports.tables.table import Table, identity
from reports.words import labels, units
from reports.words.labels import OURS
from vivit.plots.style import styled

CAPTION = (
    "The largest batch with which a process gets by on the budget; all of its data counts, also "
    "what Python and its libraries hold. Each batch size was tried in a process of its own. "
    "“vivit's, relative to it” divides vivit's size by the method's; targets are for the larger "
    "of the original's two settings."
)
HOW_TO_READ = (
    "Further right is better. Each symbol is a batch size that was tried in a process of its own; "
    "both axes are logarithmic. The budget limits what a process may allocate. Memory is what is "
    "resident at the peak, with Python and its libraries, so it may exceed or stay below the "
    "budget by some of what these share with other processes or reserve in vain."
)
PANEL = ["problem", "data", "task", "budget"]
"""What the probes of a panel share."""


class Critical(Section):
    """The largest batches that fit, and the memory of each batch that was tried."""

    name = "critical"
    title = "Critical batch sizes"
    question = "How large a batch fits into a given amount of memory?"
    suites = ("critical",)

    def needs(self, sources: Sources) -> pd.DataFrame:
        """Batch sizes that were tried, and the largest that fit."""
        return _of(sources.frame, Quantity.CRITICAL, Quantity.PROBE)

    def tables(self, sources: Sources) -> list[Table]:
        """The largest batches in each setting."""
        found = _of(sources.frame, Quantity.CRITICAL)
        return [critical_table(group) for group in groups(found)]

    def figures(self, sources: Sources) -> list[Plot]:
        """Memory over batch size in each setting."""
        palette = palette_of(sources.frame)
        return [
            _plot(group, palette)
            for group in groups(self.needs(sources))
            if len(_of(group, Quantity.PROBE))
        ]


def _of(frame: pd.DataFrame, *quantities: Quantity) -> pd.DataFrame:
    return frame[frame["quantity"].isin([quantity.value for quantity in quantities])]


def critical_table(frame: pd.DataFrame) -> Table:
    """Critical batch sizes, and vivit's relative to each.

    Args:
        frame: Measurements of the suite in one setting.

    Returns:
        One row per problem, task, budget and method.
    """
    rows = _of(frame, Quantity.CRITICAL).reset_index(drop=True)
    ratios = [_ratio(rows, row) for _, row in rows.iterrows()]
    asked = [_asked(rows, row) for _, row in rows.iterrows()]
    shown = identity(rows).drop(columns="Batch")
    shown["Budget"] = [units.size(float(budget)) for budget in rows["budget"]]
    shown["Method"] = [labels.method_label(method) for method in rows["method"]]
    shown["Largest batch that fits"] = [_size(row) for _, row in rows.iterrows()]
    shown["Does not fit"] = [_too_large(row) for _, row in rows.iterrows()]
    shown["vivit's, relative to it"] = [units.factor(ratio) for ratio in ratios]
    shown["Target"] = [f"≥ {units.factor(x, 2)}" if x else units.NOTHING for x in asked]
    kinds = {
        (i, "Target"): "better" if ratio >= least else "worse"
        for i, (ratio, least) in enumerate(zip(ratios, asked, strict=True))
        if least is not None and not math.isnan(ratio)
    }
    setting = setting_of(frame)
    return Table(
        name=labels.slug(f"critical {setting}"),
        title=labels.titled(Critical.title, setting),
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
    same = all(row[name] == task[name] for name in TASK)
    return same and (row["problem"], row["budget"]) == (target.problem, target.budget)


def _size(row: pd.Series) -> str:
    if row["status"] != Status.OK.value:
        return labels.status_label(row["status"])
    size = int(row["value"])
    return f"≥ {row['details'].get('fits', size)}" if _is_unlimited(row) else f"{size}"


def _too_large(row: pd.Series) -> str:
    size = row["details"].get("does_not_fit")
    return str(size) if row["status"] == Status.OK.value and size else units.NOTHING


def _plot(frame: pd.DataFrame, palette: Palette) -> Plot:
    setting = setting_of(frame)
    title = labels.titled(Critical.title, setting)
    sizes = [
        f"{labels.method_label(row['method'])}, {row['task']}: {row['value']:g}"
        for _, row in _of(frame, Quantity.CRITICAL).iterrows()
        if row["status"] == Status.OK.value
    ]
    return Plot(
        name=labels.slug(f"critical {setting}"),
        title=title,
        caption=HOW_TO_READ,
        alt=f"{title}: peak memory over batch size; largest that fits: {'; '.join(sizes)}.",
        draw=partial(draw, frame, palette),
    )


def draw(frame: pd.DataFrame, palette: Palette) -> Figure:
    """Draw peak memory over batch size, and the sizes that did not fit, on logarithmic axes.

    Args:
        frame: Measurements in one setting, some of them probes.
        palette: Colours and markers of the methods.

    Returns:
        The figure, with a panel per problem, task and budget.
    """
    searches = [*_of(frame, Quantity.PROBE).groupby(PANEL, sort=False)]
    with styled():
        figure = Figure(figsize=(1.0 + 5.5 * len(searches), 5.5), layout="constrained")
        panels = figure.subplots(1, len(searches), squeeze=False, sharey=True)[0]
        for panel, ((problem, data, task, budget), group) in zip(panels, searches, strict=True):
            panel.set_title(f"{labels.problem_label(problem, data)}\n{task}", fontsize="medium")
            _panel(panel, group, float(budget), palette)
        panels[0].set_ylabel("peak memory of the process (log scale)")
    return figure


def _panel(panel: Axes, probes: pd.DataFrame, budget: float, palette: Palette) -> None:
    panel.set_xscale("log", base=2)
    panel.set_yscale("log", base=2)
    panel.axhline(budget, color="0.3", linestyle="--", linewidth=1)
    handles = [
        _curve(panel, probes[probes["method"] == method], method, budget, palette)
        for method in labels.sorted_methods(probes["method"])
    ]
    handles.append(
        Line2D([], [], color="0.3", linestyle="--", label=f"budget {units.size(budget)}")
    )
    handles.append(Line2D([], [], color="0.3", marker="x", linestyle="", label="does not fit"))
    label_ticks(panel, SCALES[Quantity.MEMORY])
    panel.set_xlabel("batch size (log scale)")
    legend_below(panel, handles, columns=2)


def _curve(
    panel: Axes, probes: pd.DataFrame, method: str, budget: float, palette: Palette
) -> Line2D:
    """Memory of what fits; what does not is marked on the budget."""
    color, marker = palette.colors[method], palette.markers[method]
    fits = probes[probes["status"] == Status.OK.value].sort_values("batch_size")
    sizes = fits["batch_size"].astype(float)
    (line,) = panel.plot(
        sizes, fits["value"], color=color, marker=marker, label=labels.short_method_label(method)
    )
    too_large = probes[probes["status"] == Status.OUT_OF_MEMORY.value]["batch_size"].astype(float)
    panel.plot(too_large, [budget] * len(too_large), color=color, marker="x", linestyle="")
    return line


SECTION = Critical()
