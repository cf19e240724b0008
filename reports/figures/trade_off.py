"""What accuracy costs: error over time, relative to ours."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator

from benchmarks.records.record import Quantity
from reports.figures.plot import Plot
from reports.figures.scales import SCALES, hide_minor_ticks
from reports.figures.style import Palette, legend_below
from reports.words import labels, units
from vivit.plots.style import styled

COLUMNS = 3
NARROW = 3
"""Ratio of the longest time to the shortest below which ones and threes are too few ticks."""

FLOOR = 1e-8
"""Errors below are drawn there: those of nothing but zeros, or of one that is right by chance."""


def plot(
    name: str, title: str, caption: str, panels: dict[str, pd.DataFrame], palette: Palette
) -> Plot:
    """The figure.

    Args:
        name: Stem of its files.
        title: Heading.
        caption: How to read it.
        panels: Title -> `method`, `ratio` of times to ours, and `error`, a row per point, of
            which there is one at least.
        palette: Colours and markers of the report.

    Returns:
        A plot with a panel for each.
    """
    said = [f"{what}: {_in_words(points)}" for what, points in panels.items()]
    alt = f"{title}. {'; '.join(said)}."
    return Plot(name, title, caption, alt, partial(draw, panels, palette))


def _in_words(points: pd.DataFrame) -> str:
    parts = []
    for method in labels.sorted_methods(points["method"]):
        rows = points[points["method"] == method]
        ratio, error = units.factor(rows["ratio"].median()), units.error(rows["error"].median())
        parts.append(f"{labels.short_method_label(method)} {ratio} time, error {error}")
    return ", ".join(parts)


def draw(panels: dict[str, pd.DataFrame], palette: Palette) -> Figure:
    """Draw a panel for each result.

    Args:
        panels: As for `plot`.
        palette: Colours and markers.

    Returns:
        The figure.
    """
    columns = min(len(panels), COLUMNS)
    rows = -(-len(panels) // columns)
    with styled():
        figure = Figure(figsize=(max(4.4 * columns, 6.0), 4.2 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).flatten()
        for axis, (title, points) in zip(axes, panels.items(), strict=False):
            _panel(axis, title, points, palette)
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
    return figure


def _panel(axis: Axes, title: str, points: pd.DataFrame, palette: Palette) -> None:
    axis.set_title(labels.capitalized(title), fontsize="medium")
    handles = []
    for method in labels.sorted_methods(points["method"]):
        rows = points[points["method"] == method]
        style: dict[str, Any] = {
            "color": palette.colors[method],
            "marker": palette.markers[method],
            "linestyle": "",
            "label": labels.short_method_label(method),
        }
        axis.plot(rows["ratio"], rows["error"].clip(lower=FLOOR), **style)
        handles.append(Line2D([], [], **style))
    axis.set_xscale("log")
    axis.set_yscale("log")
    is_narrow = points["ratio"].max() < NARROW * points["ratio"].min()
    axis.xaxis.set_major_locator(
        LogLocator(subs=range(1, 10) if is_narrow else (1, 3), numticks=8)
    )
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_ylim(FLOOR / 2, max(2 * points["error"].max(), 1.0))  # so that panels compare
    axis.yaxis.set_major_locator(LogLocator(numticks=8))
    axis.yaxis.set_major_formatter(FuncFormatter(SCALES[Quantity.ACCURACY].tick))
    for side in (axis.xaxis, axis.yaxis):
        hide_minor_ticks(side)
    axis.set_xlabel("time, relative to vivit's (log scale)")
    axis.set_ylabel("relative error (log scale)")
    legend_below(axis, handles, columns=2)
