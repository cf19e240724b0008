"""Each point of a benchmark over commits, relative to its first one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from reports.figures.plot import Plot
from reports.sections.base import Section
from reports.sources import asv
from reports.sources.environments import SHORT_COMMIT
from reports.sources.sources import Sources
from reports.words import labels
from reports.words.benchmarks import LARGER_IS_BETTER, amount, name_of
from vivit.plots.style import styled

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


class OverCommits(Section):
    """A figure for each benchmark."""

    name = "over-commits"
    title = "Over commits"
    question = "At which commit did it change?"

    def needs(self, sources: Sources) -> pd.DataFrame:
        """Results of asv, without points that no commit was measured at."""
        return measured(sources.results.frame)

    def figures(self, sources: Sources) -> list[Plot]:
        """A figure for each benchmark and setting."""
        frame = sources.results.frame
        several = frame["setting"].nunique() > 1
        return [
            _plot(group, str(setting) if several else "")
            for (setting, _), group in measured(frame).groupby(["setting", "benchmark"])
        ]


def measured(frame: pd.DataFrame) -> pd.DataFrame:
    """The points that some commit was measured at.

    Args:
        frame: Results of asv.

    Returns:
        Rows of the frame.
    """
    tried = frame["outcome"] != asv.SKIPPED
    series = [frame[name] for name in ("setting", "benchmark", "point")]
    return frame[tried.groupby(series).transform("any").astype(bool)]


def _plot(frame: pd.DataFrame, setting: str) -> Plot:
    benchmark, kind, unit = (str(frame[name].iloc[0]) for name in ("benchmark", "kind", "unit"))
    title = labels.titled(name_of(benchmark, kind), setting)
    better = "Higher is better." if unit in LARGER_IS_BETTER else "Lower is better."
    return Plot(
        name=labels.slug(f"commits {benchmark} {setting}"),
        title=title,
        caption=CAPTION.format(better=better),
        alt=f"{title}, over commits. {_in_words(frame, unit)}",
        draw=partial(draw, frame),
    )


def draw(frame: pd.DataFrame) -> Figure:
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
    with styled(font_scale=0.8):
        figure = Figure(figsize=(11.0, height), layout="constrained")
        panel = figure.subplots()
        colors = sns.color_palette(COLORS, len(groups))
        for index, (point, rows) in enumerate(groups):
            marker = MARKERS[index % len(MARKERS)]
            Line(str(point), colors[index], marker).draw(panel, rows, position)
        panel.set_xticks([*position.values()], [c[:SHORT_COMMIT] for c in position], rotation=30)
        panel.set_xlim(-0.3, len(position) - 0.7)
        panel.set_ylabel("relative to the first")
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
        panel.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


@dataclass(frozen=True)
class Line:
    """How a point is drawn."""

    label: str
    color: tuple[float, float, float]
    marker: str

    def draw(self, panel: Axes, rows: pd.DataFrame, position: dict[str, int]) -> None:
        """Draw the figures of a point, with gaps and crosses where there are none.

        Args:
            panel: Where to draw.
            rows: Results of the point.
            position: Places of the commits.
        """
        rows = rows.sort_values("order")
        done = rows[rows["outcome"] == asv.OK]
        base = done["value"].iloc[0] if len(done) and done["value"].iloc[0] else 1.0
        places, unit = rows["commit"].map(position), str(rows["unit"].iloc[0])
        label = f"{self.label} ({amount(base, unit) if len(done) else 'failed'})"
        panel.plot(places, rows["value"] / base, color=self.color, marker=self.marker, label=label)
        lows, highs = (rows[end] / base for end in ("low", "high"))
        panel.vlines(places, lows, highs, color=self.color, linewidth=1)
        failed = rows[rows["outcome"] == asv.FAILED]["commit"].map(position)
        ones = [1.0] * len(failed)
        panel.plot(failed, ones, color=self.color, marker="x", linestyle="", markersize=9)


def _in_words(group: pd.DataFrame, unit: str) -> str:
    """First and last figure of each point, for readers who cannot see the figure."""
    parts = []
    for point, rows in group.groupby("point", sort=False):
        done = rows[rows["outcome"] == asv.OK]["value"]
        ends = [amount(value, unit) for value in (*done.iloc[:1], *done.iloc[-1:])]
        parts.append(f"{point}: {' to '.join(ends) or 'failed'}")
    return "; ".join(parts) + "."


SECTION = OverCommits()
