"""Figures that compare methods: a panel for each problem and suite."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator

from benchmarks.records.record import Quantity, Status
from reports.figures.plot import Plot
from reports.figures.scales import SCALES, Scale, hide_minor_ticks
from reports.figures.style import Palette, palette_of
from reports.words import labels, units
from vivit.plots.style import styled

OK = Status.OK.value
WIDTH = 0.8
"""Seaborn's share of a category that its dodged points take up."""
NARROW = 30
"""Below this ratio of the ends of an axis, powers of ten alone are too few ticks."""
NARROWEST = 8.0
"""Width of a figure of a single suite, in inches."""
COLUMNS = 2
"""Panels side by side."""
HIGHEST = 20.0
"""Height of a figure, in inches, before the next line of panels begins another."""


def comparisons(
    frame: pd.DataFrame, rows: pd.DataFrame, quantity: Quantity, caption: str
) -> list[Plot]:
    """A figure for each setting, or several where one would be too high to be read.

    Args:
        frame: All measurements, whose methods have colours.
        rows: Those to be drawn, all of the quantity.
        quantity: What to draw.
        caption: How to read it.

    Returns:
        The figures.
    """
    palette, short = palette_of(frame), labels.QUANTITIES[quantity.value].short
    plots = []
    for setting, group in rows.groupby("setting", sort=False):
        parts = _parts(group)
        for i, part in enumerate(parts, 1):
            share = f" ({i} of {len(parts)})" if len(parts) > 1 else ""
            title = labels.titled(f"{short} by method{share}", str(setting))
            plots.append(
                Plot(
                    name=labels.slug(f"{quantity.value} {setting}{share}"),
                    title=title,
                    caption=caption,
                    alt=f"{title}. {_in_words(part, quantity)}",
                    draw=partial(comparison, part, quantity, palette, group),
                )
            )
    return plots


def comparison(
    frame: pd.DataFrame,
    quantity: Quantity,
    palette: Palette,
    whole: pd.DataFrame | None = None,
) -> Figure:
    """Draw every sample of a quantity, and the median, per method, batch size, problem and suite.

    Args:
        frame: Measurements in one setting, at least one of them of the quantity.
        quantity: What to draw; on a logarithmic axis.
        palette: Colours and markers of the methods.
        whole: Where a problem goes on in other figures: what all of them show. Its panels have
            the same axis in each.

    Returns:
        The figure. A measurement without a result appears as its outcome in words.
    """
    rows = _shown(frame, quantity)
    ranges = rows if whole is None else _shown(whole, quantity)
    lines = _lines(rows)
    with styled():
        figure, axes = _grid(rows, lines)
        for i, line in enumerate(lines):
            name = line[0][0]
            drawn = ranges.loc[ranges["row"] == name, "samples"].explode().dropna().astype(float)
            _prepare_row(axes[i], drawn[drawn > 0], SCALES[quantity])
            for axis in axes[i][len(line) :]:
                axis.set_visible(False)
            panels = zip(line, _panels(rows, line), strict=True)
            for axis, ((_, column), panel) in zip(axes[i], panels, strict=False):
                Facet(axis, panel, labels.sorted_methods(panel["method"]), palette).draw()
                axis.set_title(f"{name}\n{column}", fontsize="medium")
                axis.set_xlabel(f"{SCALES[quantity].title} (log scale)")
        _legend(figure, labels.sorted_methods(rows["method"]), palette)
    return figure


def _parts(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Measurements of as many lines of panels each as a figure has room for, one at least."""
    placed = _placed(rows)
    parts: list[list[pd.DataFrame]] = []
    height = 0.0
    for line in _lines(placed):
        panels = _panels(placed, line)
        if not parts or height + _height(panels) > HIGHEST:
            parts.append([])
            height = 0.0
        parts[-1] += [rows.loc[panel.index] for panel in panels]
        height += _height(panels)
    return [pd.concat(part) for part in parts]


def _shown(frame: pd.DataFrame, quantity: Quantity) -> pd.DataFrame:
    """Measurements of a quantity that have a place, all but those of the reference."""
    shown = (frame["quantity"] == quantity.value) & (frame["method"] != labels.REFERENCE)
    return _placed(frame[shown])


def _placed(rows: pd.DataFrame) -> pd.DataFrame:
    """Measurements with the line, the panel and the place in it where they are drawn."""
    rows = rows.assign(
        row=labels.problem_labels(rows),
        column=[labels.suite_label(suite) for suite in rows["suite"]],
    )
    rows["batch"] = [_size(row) for _, row in rows.iterrows()]
    return rows


def _in_words(rows: pd.DataFrame, quantity: Quantity) -> str:
    """Range of each method, for readers who cannot see the figure."""
    text, parts = SCALES[quantity].text, []
    for method, group in rows.groupby("method", sort=False):
        values = group["value"].dropna()
        done = f"{text(values.min())} to {text(values.max())}" if len(values) else "no result"
        parts.append(f"{labels.method_label(str(method))}: {done}")
    return "; ".join(parts) + "."


def _size(row: pd.Series) -> str:
    """What distinguishes the measurements of a facet: batch size and task."""
    size = f"batch {units.integer(row['batch_size'])}"
    if row["suite"] == "leading":
        return f"{size}\nk = {units.integer(row['k'])}"
    task = row["task"].replace(", ", ",\n")
    return size if row["task"] == row["column"] else f"{size}\n{task}"


def _lines(rows: pd.DataFrame) -> list[list[tuple[str, str]]]:
    """Problem and suite of the panels that have something to show, line by line."""
    lines = []
    for name, shown in rows.groupby("row", sort=False):
        suites = sorted(set(shown["suite"]), key=labels.suite_rank)
        panels = [(str(name), labels.suite_label(suite)) for suite in suites]
        lines += [panels[i : i + COLUMNS] for i in range(0, len(panels), COLUMNS)]
    return lines


def _grid(
    rows: pd.DataFrame, lines: list[list[tuple[str, str]]]
) -> tuple[Figure, list[list[Axes]]]:
    """Axes as high as what a line has to show."""
    heights = [_height(_panels(rows, line)) for line in lines]
    columns = max(len(line) for line in lines)
    width = max(1.0 + 5.0 * columns, NARROWEST)
    figure = Figure(figsize=(width, 0.6 + sum(heights)), layout="constrained")
    axes = figure.subplots(len(lines), columns, squeeze=False, height_ratios=heights)
    return figure, [list(row) for row in axes]


def _panels(rows: pd.DataFrame, line: list[tuple[str, str]]) -> list[pd.DataFrame]:
    """What each panel of a line shows."""
    return [rows[(rows["row"] == name) & (rows["column"] == column)] for name, column in line]


def _height(panels: list[pd.DataFrame]) -> float:
    """Inches that a line of panels needs, for methods and names of each batch."""
    return 1.1 + 0.24 * max(_rows(panel) for panel in panels)


def _rows(panel: pd.DataFrame) -> int:
    batches = panel["batch"].drop_duplicates()
    return len(batches) * max(panel["method"].nunique() + 1, batches.str.count("\n").max() + 1)


def _prepare_row(axes: list[Axes], values: pd.Series, scale: Scale) -> None:
    """Fix range and ticks of the axis that the facets of a problem share, before drawing."""
    low, high = (values.min(), values.max()) if len(values) else (1.0, 10.0)
    margin = max((high / low) ** 0.08, 1.3)
    for ax in axes:
        ax.set_xscale("log", base=scale.base)
        ax.set_xlim(low / margin, high * margin)
        ax.xaxis.set_major_locator(_locator(scale, high / low))
        ax.xaxis.set_major_formatter(FuncFormatter(scale.tick))
        hide_minor_ticks(ax.xaxis)


@dataclass(frozen=True)
class Facet:
    """What a panel shows: batch sizes from top to bottom, methods side by side within each."""

    axes: Axes
    rows: pd.DataFrame
    methods: list[str]
    palette: Palette

    @property
    def batches(self) -> list[str]:
        """In the order of the report."""
        return list(dict.fromkeys(self.rows["batch"]))

    def draw(self) -> None:
        """Draw points, outcomes in words, and lines between the batch sizes."""
        samples = self.rows[["batch", "method", "samples"]].explode("samples").dropna()
        samples = samples.assign(samples=samples["samples"].astype(float))
        positive = samples[samples["samples"] > 0]
        if len(positive):
            self._draw_points(positive)
        self._draw_outcomes()
        count = len(self.batches)
        self.axes.set_yticks(range(count), self.batches)
        for boundary in range(1, count):
            self.axes.axhline(boundary - 0.5, color="0.8", linewidth=0.8, linestyle="--")
        self.axes.set_ylim(max(count, 1) - 0.5, -0.5)
        self.axes.set_ylabel("")

    def _draw_points(self, samples: pd.DataFrame) -> None:
        methods, palette = self.methods, self.palette
        common = {
            "data": samples,
            "x": "samples",
            "y": "batch",
            "hue": "method",
            "order": self.batches,
            "hue_order": methods,
            "palette": {name: palette.colors[name] for name in methods},
            "orient": "h",
            "legend": False,
            "ax": self.axes,
        }
        sns.stripplot(
            **common, dodge=True, jitter=False, marker="|", size=13, linewidth=1.2, alpha=0.6
        )
        sns.pointplot(
            **common,
            estimator="median",
            errorbar=None,
            linestyle="none",
            markers=[palette.markers[name] for name in methods],
            markersize=5.5,
            dodge=WIDTH * (1 - 1 / len(methods)) if len(methods) > 1 else False,
        )

    def _draw_outcomes(self) -> None:
        """Words in place of the points that a logarithmic axis or a failure does not allow."""
        count, batches = len(self.methods), self.batches
        for _, row in self.rows.iterrows():
            if row["status"] == OK and row["value"] > 0:
                continue
            word = "exactly 0" if row["status"] == OK else labels.status_label(row["status"])
            place = self.methods.index(row["method"]) - (count - 1) / 2
            self.axes.text(
                0.02,
                batches.index(row["batch"]) + place * WIDTH / count,
                f"{labels.short_method_label(row['method'])}: {word}",
                transform=self.axes.get_yaxis_transform(),
                color=self.palette.colors[row["method"]],
                va="center",
                fontsize="small",
                fontstyle="italic",
            )


def _locator(scale: Scale, spread: float) -> LogLocator:
    """At least two ticks on a narrow axis, at most six on a wide one."""
    subdivisions = (1.0, 2.0, 5.0) if scale.base == 10 and spread < NARROW else (1.0,)
    return LogLocator(base=scale.base, subs=subdivisions, numticks=6)


def _legend(figure: Figure, methods: list[str], palette: Palette) -> None:
    """Above all panels, in as many columns as there is room for."""
    handles = [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=palette.markers[name],
            color=palette.colors[name],
            label=labels.method_label(name),
        )
        for name in methods
    ]
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(
            handles=handles, loc="outside upper center", ncols=columns, frameon=False
        )
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()
