"""Figures that compare methods: one row per problem, one column per suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from benchmarks.records.record import Quantity, Status
from reports.tables.table import integer
from reports.words import labels, units

OK = Status.OK.value
WIDTH = 0.8
"""Seaborn's share of a category that its dodged points take up."""
NARROW = 30
"""Below this ratio of the ends of an axis, powers of ten alone are too few ticks."""
STYLE = "whitegrid"
NARROWEST = 8.0
"""Width of a figure of a single suite, in inches."""
LEGEND = 3
"""Columns of the legend for each suite."""


@dataclass(frozen=True)
class Palette:
    """Colour and marker per method, shared by all figures of a report."""

    colors: dict[str, str]
    markers: dict[str, str]

    @classmethod
    def of(cls, methods: Sequence[str]) -> Palette:
        """Assign colours and markers.

        Args:
            methods: All methods of the report.

        Returns:
            The palette.
        """
        return cls(labels.method_colors(methods), labels.method_markers(methods))


@dataclass(frozen=True)
class Scale:
    """The axis of a quantity."""

    title: str
    tick: Callable[[float, int | None], str]
    base: int


SCALES = {
    Quantity.TIME: Scale("time", units.tick_seconds, 10),
    Quantity.MEMORY: Scale("peak memory", units.tick_size, 2),
    Quantity.ACCURACY: Scale("relative error", lambda value, _: f"{value:.0e}", 10),
}


def label_ticks(panel: Axes, scale: Scale) -> None:
    """Label both axes of a logarithmic panel by plain numbers, without minor ticks.

    Args:
        panel: The panel.
        scale: Of its vertical axis.
    """
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_major_locator(LogLocator(base=scale.base, numticks=8))
    panel.yaxis.set_major_formatter(FuncFormatter(scale.tick))
    for side in (panel.xaxis, panel.yaxis):
        side.set_minor_locator(NullLocator())
        side.set_minor_formatter(NullFormatter())


def comparison(frame: pd.DataFrame, quantity: Quantity, palette: Palette) -> Figure:
    """Draw every sample of a quantity, and the median, per method, batch size, problem and suite.

    Args:
        frame: Measurements in one setting, at least one of them of the quantity.
        quantity: What to draw; on a logarithmic axis.
        palette: Colours and markers of the methods.

    Returns:
        The figure. A measurement without a result appears as its outcome in words.
    """
    rows = frame[(frame["quantity"] == quantity.value) & (frame["method"] != labels.REFERENCE)]
    rows = rows.assign(
        row=[
            labels.problem_label(p, d) for p, d in zip(rows["problem"], rows["data"], strict=True)
        ],
        column=[labels.suite_label(suite) for suite in rows["suite"]],
    )
    rows["batch"] = [_size(row) for _, row in rows.iterrows()]
    names, suites = list(dict.fromkeys(rows["row"])), _suites(rows)
    with sns.axes_style(STYLE), sns.plotting_context("notebook", font_scale=0.85):
        figure, axes = _grid(rows, names, suites)
        for i, name in enumerate(names):
            drawn = rows.loc[rows["row"] == name, "samples"].explode().dropna().astype(float)
            methods = labels.sorted_methods(rows.loc[rows["row"] == name, "method"])
            _prepare_row(axes[i], drawn[drawn > 0], SCALES[quantity])
            for j, column in enumerate(suites):
                facet = rows[(rows["row"] == name) & (rows["column"] == column)]
                _draw(axes[i][j], facet, methods, palette)
                axes[i][j].set_title(f"{name}\n{column}", fontsize="medium")
                axes[i][j].set_xlabel(f"{SCALES[quantity].title} (log scale)")
        _legend(figure, labels.sorted_methods(rows["method"]), LEGEND * len(suites), palette)
    return figure


def _size(row: pd.Series) -> str:
    """What distinguishes the measurements of a facet: batch size and task."""
    size = f"batch {integer(row['batch_size'])}"
    if row["suite"] == "leading":
        return f"{size}\nk = {integer(row['k'])}"
    task = row["task"].replace(", ", ",\n")
    return size if row["task"] == row["column"] else f"{size}\n{task}"


def _suites(rows: pd.DataFrame) -> list[str]:
    """Names of the suites, in the order of the report."""
    suites = sorted(set(rows["suite"]), key=lambda suite: labels.rank(suite, labels.SUITES))
    return [labels.suite_label(suite) for suite in suites]


def _grid(
    rows: pd.DataFrame, names: list[str], suites: list[str]
) -> tuple[Figure, list[list[Axes]]]:
    """Axes as high as what a problem has to show."""
    heights = []
    for name in names:
        shown = rows[rows["row"] == name]
        batches = max(shown.groupby("column")["batch"].nunique())
        heights.append(1.1 + 0.24 * batches * (shown["method"].nunique() + 1))
    width = max(1.0 + 5.0 * len(suites), NARROWEST)
    figure = Figure(figsize=(width, 0.6 + sum(heights)), layout="constrained")
    axes = figure.subplots(
        len(names), len(suites), sharex="row", squeeze=False, height_ratios=heights
    )
    return figure, [list(row) for row in axes]


def _prepare_row(axes: list[Axes], values: pd.Series, scale: Scale) -> None:
    """Fix range and ticks of the axis that the facets of a problem share, before drawing."""
    low, high = (values.min(), values.max()) if len(values) else (1.0, 10.0)
    margin = max((high / low) ** 0.08, 1.3)
    for ax in axes:
        ax.set_xscale("log", base=scale.base)
        ax.set_xlim(low / margin, high * margin)
        ax.xaxis.set_major_locator(_locator(scale, high / low))
        ax.xaxis.set_major_formatter(FuncFormatter(scale.tick))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_minor_formatter(NullFormatter())


def _draw(axes: Axes, facet: pd.DataFrame, methods: list[str], palette: Palette) -> None:
    """One facet: batch sizes from top to bottom, methods side by side within each."""
    batches = list(dict.fromkeys(facet["batch"]))  # in the order of the report
    samples = facet[["batch", "method", "samples"]].explode("samples").dropna()
    samples = samples.assign(samples=samples["samples"].astype(float))
    positive = samples[samples["samples"] > 0]
    if len(positive):
        _points(axes, positive, batches, methods, palette)
    _outcomes(axes, facet, batches, methods, palette)
    if not len(facet):
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="0.4")
    axes.set_yticks(range(len(batches)), batches)
    for boundary in range(1, len(batches)):
        axes.axhline(boundary - 0.5, color="0.8", linewidth=0.8, linestyle="--")
    axes.set_ylim(max(len(batches), 1) - 0.5, -0.5)
    axes.set_ylabel("")


def _points(
    axes: Axes,
    samples: pd.DataFrame,
    batches: list[str],
    methods: list[str],
    palette: Palette,
) -> None:
    common = {
        "data": samples,
        "x": "samples",
        "y": "batch",
        "hue": "method",
        "order": batches,
        "hue_order": methods,
        "palette": {name: palette.colors[name] for name in methods},
        "orient": "h",
        "legend": False,
        "ax": axes,
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


def _outcomes(
    axes: Axes,
    facet: pd.DataFrame,
    batches: list[str],
    methods: list[str],
    palette: Palette,
) -> None:
    """Words in place of the points that a logarithmic axis or a failure does not allow."""
    for _, row in facet.iterrows():
        if row["status"] == OK and row["value"] > 0:
            continue
        word = "exactly 0" if row["status"] == OK else labels.status_label(row["status"])
        offset = (methods.index(row["method"]) - (len(methods) - 1) / 2) * WIDTH / len(methods)
        axes.text(
            0.02,
            batches.index(row["batch"]) + offset,
            f"{labels.short_method_label(row['method'])}: {word}",
            transform=axes.get_yaxis_transform(),
            color=palette.colors[row["method"]],
            va="center",
            fontsize="small",
            fontstyle="italic",
        )


def _locator(scale: Scale, spread: float) -> LogLocator:
    """At least two ticks on a narrow axis, at most six on a wide one."""
    subdivisions = (1.0, 2.0, 5.0) if scale.base == 10 and spread < NARROW else (1.0,)
    return LogLocator(base=scale.base, subs=subdivisions, numticks=6)


def _legend(figure: Figure, methods: list[str], columns: int, palette: Palette) -> None:
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
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False)
