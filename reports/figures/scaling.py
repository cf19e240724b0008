"""Figure of the scaling suites: a panel for each quantity and each size that varies."""

from __future__ import annotations

import math

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from benchmarks.grid.targets import ORIGINAL
from benchmarks.records.record import Quantity
from reports.figures.comparison import SCALES, STYLE, Palette, label_ticks
from reports.sections.scaling import (
    AXES,
    BETTER,
    QUANTITIES,
    Axis,
    exponent,
    name_of,
    ordered,
    rounded,
    series,
)


def scaling(frame: pd.DataFrame, palette: Palette) -> Figure:
    """Draw time and memory over batch size, classes and width, all axes logarithmic.

    Args:
        frame: Measurements in one setting, some of them of the scaling suites.
        palette: Colours and markers of the methods.

    Returns:
        The figure; the legend of each panel gives the fitted exponents.
    """
    axes_drawn = [axis for axis in AXES if any(len(series(frame, axis, q)) for q in QUANTITIES)]
    with sns.axes_style(STYLE), sns.plotting_context("notebook", font_scale=0.85):
        figure = Figure(figsize=(1.0 + 4.2 * len(axes_drawn), 9.0), layout="constrained")
        panels = figure.subplots(len(QUANTITIES), len(axes_drawn), squeeze=False, sharey="row")
        for i, quantity in enumerate(QUANTITIES):
            for panel, axis in zip(panels[i], axes_drawn, strict=True):
                _panel(panel, series(frame, axis, quantity), axis, quantity, palette)
            panels[i][0].set_ylabel(f"{SCALES[quantity].title} (log scale)")
    return figure


def _panel(
    panel: Axes, points: pd.DataFrame, axis: Axis, quantity: Quantity, palette: Palette
) -> None:
    panel.set_title(f"{SCALES[quantity].title} over {axis.title}", fontsize="medium")
    if not len(points):
        panel.text(0.5, 0.5, "not measured", transform=panel.transAxes, ha="center", color="0.4")
        return
    handles = [
        _curve(panel, points[points["method"] == method], method, axis, palette)
        for method in ordered(points["method"])
    ]
    scale, sizes = SCALES[quantity], sorted(set(points["size"]))
    panel.set_xscale("log", base=2)
    panel.set_yscale("log", base=scale.base)
    panel.xaxis.set_major_locator(FixedLocator(sizes))
    label_ticks(panel, scale)
    panel.set_xlabel(f"{axis.title} (log scale)")
    panel.legend(
        handles=handles,
        fontsize="small",
        frameon=False,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.15),
    )


def _curve(panel: Axes, curve: pd.DataFrame, method: str, axis: Axis, palette: Palette) -> Line2D:
    shown = ORIGINAL[0] if method == BETTER else method
    slope = exponent(curve["size"].to_numpy(), curve["value"].to_numpy())
    fitted = "" if math.isnan(slope) else f": ${axis.symbol}^{{{rounded(slope)}}}$"
    (line,) = panel.plot(
        curve["size"],
        curve["value"],
        color=palette.colors[shown],
        marker=palette.markers[shown],
        linestyle="--" if method == "lanczos" else "-",
        label=name_of(method) + fitted,
    )
    return line
