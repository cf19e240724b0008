"""A value of each case as a dot, method by method, and the median."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from matplotlib.axis import XAxis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from reports.figures.scales import hide_minor_ticks
from reports.figures.style import Palette
from reports.words import labels
from vivit.plots.style import styled

WIDTH, HEIGHT, LINE = 4.8, 1.1, 0.34
"""Of a figure that can be read on a phone, of what is around its lines, of a line, in inches."""
NARROW = 100
"""Below this ratio of the ends of an axis, powers of ten alone are too few ticks."""


def dots(
    values: Mapping[str, list[float]], axis: str, palette: Palette, *, is_ratio: bool
) -> Figure:
    """Draw a line of dots for each method, on a logarithmic axis.

    Args:
        values: Method -> positive values, at least one.
        axis: What stands at the axis.
        palette: Colours of the methods.
        is_ratio: Whether the values are ratios: then a line marks 1, and ticks say "2x".

    Returns:
        The figure, with the median of each line as a number.
    """
    with styled():
        figure = Figure(figsize=(WIDTH, HEIGHT + LINE * len(values)), layout="constrained")
        panel = figure.subplots()
        panel.set_xscale("log")
        for line, (method, found) in enumerate(values.items()):
            color, middle = palette.colors[method], median(found)
            panel.plot(found, [line] * len(found), "o", color=color, alpha=0.45, markersize=5)
            panel.plot(middle, line, "|", color=color, markersize=15, markeredgewidth=2.5)
            text = f"{middle:.3g}x" if is_ratio else f"{middle:.0e}"
            panel.annotate(
                text,
                (1.02, line),
                xycoords=panel.get_yaxis_transform(),
                va="center",
                color="0.2",
                fontweight="bold",
            )
        panel.set_yticks(range(len(values)), [labels.short_method_label(m) for m in values])
        panel.set_ylim(len(values) - 0.5, -0.5)
        panel.set_xlabel(axis)
        _ticks(panel.xaxis, [x for found in values.values() for x in found], is_ratio)
        if is_ratio:
            panel.axvline(1, color="0.4", linewidth=1.2)
    return figure


def _ticks(side: XAxis, values: list[float], is_ratio: bool) -> None:
    """Plain numbers for ratios, powers of ten for all else."""
    subdivisions = (1.0, 2.0, 5.0) if is_ratio and max(values) < NARROW * min(values) else (1.0,)
    side.set_major_locator(LogLocator(subs=subdivisions, numticks=6))
    form = "{:g}x" if is_ratio else "{:.0e}"
    side.set_major_formatter(FuncFormatter(lambda value, _: form.format(value)))
    hide_minor_ticks(side)
