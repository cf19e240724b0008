"""Figure of the critical batch sizes: the memory of each batch size that was tried."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.records.record import Quantity, Status
from reports.figures.comparison import SCALES, STYLE, Palette, label_ticks
from reports.words import labels, units

PANEL = ["problem", "data", "task", "budget"]
"""What the probes of a panel share."""


def critical(frame: pd.DataFrame, palette: Palette) -> Figure:
    """Draw peak memory over batch size, and the sizes that did not fit, on logarithmic axes.

    Args:
        frame: Measurements in one setting, some of them probes.
        palette: Colours and markers of the methods.

    Returns:
        The figure, with a panel per problem, task and budget.
    """
    probes = frame[frame["quantity"] == Quantity.PROBE.value]
    groups = [*probes.groupby(PANEL, sort=False)]
    with sns.axes_style(STYLE), sns.plotting_context("notebook", font_scale=0.85):
        figure = Figure(figsize=(1.0 + 5.5 * len(groups), 5.5), layout="constrained")
        panels = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
        for panel, ((problem, data, task, budget), group) in zip(panels, groups, strict=True):
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
    panel.legend(
        handles=handles,
        fontsize="small",
        frameon=False,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.15),
        ncols=2,
    )


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
