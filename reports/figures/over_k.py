"""Run times over the number of leading pairs, beside the published ones."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.figures.scales import label_times
from vivit.plots.style import COLORBLIND, styled

PANEL_WIDTH, PANEL_HEIGHT = 4.6, 3.6


@dataclass(frozen=True)
class Line:
    """A line of a panel.

    Attributes:
        label: In the legend; the same in all panels.
        ks: Numbers of pairs, ascending.
        seconds: Of each.
        color: Of the line.
        is_published: Whether somebody else measured it, which is shown as a thin dashed line.
    """

    label: str
    ks: list[int]
    seconds: list[float]
    color: str
    is_published: bool = False

    @classmethod
    def of(cls, label: str, rows: pd.DataFrame, value: str, is_published: bool = False) -> Line:
        """Read a line.

        Args:
            label: One of `COLORS`.
            rows: Measurements for several `k`.
            value: Name of their column of seconds.
            is_published: Whether somebody else measured it.

        Returns:
            The line.
        """
        ordered = rows.sort_values("k")
        ks = [int(k) for k in ordered["k"]]
        return cls(label, ks, [*ordered[value]], COLORS[label], is_published)


COLORS = {
    "vivit, exact": COLORBLIND[0],
    "vivit, first eighth": COLORBLIND[9],
    "vivit, Monte-Carlo": COLORBLIND[2],
    "vivit, Monte-Carlo, first eighth": COLORBLIND[8],
    "power iteration": COLORBLIND[3],
    "Lanczos": COLORBLIND[4],
    "power iteration on the Gram matrix": COLORBLIND[1],
    "original": COLORBLIND[5],
}
"""Of what is drawn, whoever measured it."""


def draw(panels: dict[str, list[Line]]) -> Figure:
    """Draw time over k, both measured and published, with a logarithmic time axis.

    Args:
        panels: Title -> lines.

    Returns:
        The figure, its panels side by side.
    """
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    with styled():
        size = (max(PANEL_WIDTH * columns, 7.0), PANEL_HEIGHT * rows + 1.2)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).flatten()
        for axis, (title, lines) in zip(axes, panels.items(), strict=False):
            _panel(axis, title, lines)
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        _legend(figure, [line for lines in panels.values() for line in lines])
    return figure


def _panel(axis: Axes, title: str, lines: list[Line]) -> None:
    for line in lines:
        axis.plot(
            line.ks,
            line.seconds,
            color=line.color,
            marker="" if line.is_published else "o",
            markersize=4,
            linewidth=1.0 if line.is_published else 1.8,
            linestyle="--" if line.is_published else "-",
            alpha=0.75 if line.is_published else 1.0,
        )
    axis.set_yscale("log")
    label_times(axis)
    axis.set_title(title, fontsize="medium")
    axis.set_xlabel("leading pairs k")
    axis.set_ylabel("time (log scale)")
    axis.set_xticks(sorted({k for line in lines for k in line.ks if k in (1, 2, 5, 10)}))


def _legend(figure: Figure, lines: list[Line]) -> None:
    kinds = {line.label: line.color for line in lines}
    handles = [Line2D([], [], color=color, label=label) for label, color in kinds.items()]
    if any(line.is_published for line in lines):
        handles += [
            Line2D([], [], color="0.4", marker="o", markersize=4, label="here (solid)"),
            Line2D([], [], color="0.4", linestyle="--", label="published (dashed)"),
        ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
