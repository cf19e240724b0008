"""Figures over commits: each point of a benchmark relative to its first commit."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from reports.figures.comparison import STYLE
from reports.figures.plot import Plot
from reports.sections.changes import LARGER_IS_BETTER, amount, name_of
from reports.sources import asv
from reports.sources.environments import SHORT_COMMIT
from reports.tables.table import slug

COLORS = "colorblind"
MARKERS = "osD^vPX*<>"
HEIGHT, PER_LINE = 2.4, 0.28
"""Inches: of a panel, and of a line of its legend where that needs more."""

CAPTION = (
    "Each line is a point of the grid, divided by its figure at the first commit that has one, so "
    "that a step is a change by that factor. {better} Bars are asv's intervals of confidence of "
    "99%, where it has any. A cross marks a commit at which the point failed; where it was "
    "skipped, the line has a gap."
)


def plots(frame: pd.DataFrame) -> Iterator[Plot]:
    """A figure per benchmark.

    Args:
        frame: Results of asv.

    Yields:
        Figures of the benchmarks that some commit was measured at.
    """
    if frame.empty:
        return
    several = frame["setting"].nunique() > 1
    measured = frame.groupby(["setting", "benchmark", "point"])["outcome"].transform(
        lambda outcomes: (outcomes != asv.SKIPPED).any()
    )
    for (setting, benchmark), group in frame[measured].groupby(["setting", "benchmark"]):
        unit, kind = str(group["unit"].iloc[0]), str(group["kind"].iloc[0])
        title = name_of(str(benchmark), kind) + (f": {setting}" if several else "")
        better = "Higher is better." if unit in LARGER_IS_BETTER else "Lower is better."
        yield Plot(
            name=slug(f"commits {benchmark} {setting if several else ''}"),
            title=title,
            caption=CAPTION.format(better=better),
            alt=f"{title}, over commits. {_in_words(group, unit)}",
            draw=lambda group=group: over_commits(group),  # type: ignore[misc]
        )


def over_commits(frame: pd.DataFrame) -> Figure:
    """Draw the points of a benchmark over commits.

    Args:
        frame: Results of one benchmark in one setting.

    Returns:
        The figure, commits in their order.
    """
    commits = frame.drop_duplicates("commit").sort_values("order")["commit"]
    position = {commit: index for index, commit in enumerate(commits)}
    groups = [*frame.groupby("point", sort=False)]
    height = max(HEIGHT, 1.0 + PER_LINE * len(groups))
    with sns.axes_style(STYLE), sns.plotting_context("notebook", font_scale=0.8):
        figure = Figure(figsize=(11.0, height), layout="constrained")
        panel = figure.subplots()
        colors = sns.color_palette(COLORS, len(groups))
        for index, (point, rows) in enumerate(groups):
            marker = MARKERS[index % len(MARKERS)]
            _line(panel, rows, str(point), position, colors[index], marker)
        panel.set_xticks([*position.values()], [c[:SHORT_COMMIT] for c in position], rotation=30)
        panel.set_xlim(-0.3, len(position) - 0.7)
        panel.set_ylabel("relative to the first")
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
        panel.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def _line(
    panel: Axes,
    rows: pd.DataFrame,
    label: str,
    position: dict[str, int],
    color: tuple[float, float, float],
    marker: str,
) -> None:
    rows = rows.sort_values("order")
    done = rows[rows["outcome"] == asv.OK]
    base = done["value"].iloc[0] if len(done) and done["value"].iloc[0] else 1.0
    places = rows["commit"].map(position)
    unit = str(rows["unit"].iloc[0])
    first = f" ({amount(base, unit)})" if len(done) else " (failed)"
    panel.plot(places, rows["value"] / base, color=color, marker=marker, label=label + first)
    lows, highs = (rows[end] / base for end in ("low", "high"))
    panel.vlines(places, lows, highs, color=color, linewidth=1)
    failed = rows[rows["outcome"] == asv.FAILED]["commit"].map(position)
    panel.plot(failed, [1.0] * len(failed), color=color, marker="x", linestyle="", markersize=9)


def _in_words(group: pd.DataFrame, unit: str) -> str:
    """First and last figure of each point, for readers who cannot see the figure."""
    parts = []
    for point, rows in group.groupby("point", sort=False):
        done = rows[rows["outcome"] == asv.OK]["value"]
        ends = [amount(value, unit) for value in (*done.iloc[:1], *done.iloc[-1:])]
        parts.append(f"{point}: {' to '.join(ends) or 'failed'}")
    return "; ".join(parts) + "."
