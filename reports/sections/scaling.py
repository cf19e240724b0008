"""How time and memory grow with batch size, classes and width: curves and fitted exponents."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from benchmarks.grid.targets import ORIGINAL
from benchmarks.methods import METHODS
from benchmarks.records.record import Quantity, Status
from reports.figures.plot import Plot
from reports.figures.scales import SCALES, label_ticks
from reports.figures.style import Palette, legend_below, palette_of, say_not_measured
from reports.sections.base import Section
from reports.sources.frame import compared, groups, setting_of
from reports.sources.sources import Sources
from reports.tables.table import Table
from reports.words import labels
from vivit.plots.style import styled

QUANTITIES = (Quantity.TIME, Quantity.MEMORY)
FITTED = 3
"""The exponent is fitted to this many of the largest sizes: small ones show fixed costs."""

BETTER = "original_better"
"""The original in the better of its settings at each size."""

CAPTION = (
    f"Exponents fitted to the {FITTED} largest sizes of each curve of the figures below: “N^2.0” "
    "means that twice the size costs four times as much. All eigenvalues, but 10 leading "
    "eigenpairs for Lanczos."
)
HOW_TO_READ = (
    "Lower is better; a straight line is a power law, and its exponent, fitted to the "
    f"{FITTED} largest sizes, stands in the legend. One size varies in each column of panels, the "
    "others stay. All eigenvalues, but for Lanczos, which computes the 10 leading eigenpairs."
)


@dataclass(frozen=True)
class Axis:
    """What a suite varies.

    Attributes:
        suite: Name of the suite.
        column: Column of the frame that varies.
        symbol: In formulas.
        title: In words.
    """

    suite: str
    column: str
    symbol: str
    title: str


AXES = (
    Axis("scaling_batch", "batch_size", "N", "batch size N"),
    Axis("scaling_classes", "classes", "C", "classes C"),
    Axis("scaling_width", "width", "W", "width W (channels)"),
)
SUITES = tuple(axis.suite for axis in AXES)


class Scaling(Section):
    """Exponents, and the curves that they are fitted to."""

    name = "scaling"
    title = "Scaling"
    question = "How do time and memory grow with the batch, the classes and the width?"
    suites = SUITES

    def needs(self, sources: Sources) -> pd.DataFrame:
        """Times, memory and accuracies of the suites."""
        return compared(sources.frame, SUITES)

    def tables(self, sources: Sources) -> list[Table]:
        """The exponents in each setting."""
        return [scaling_table(group) for group in groups(self.needs(sources))]

    def figures(self, sources: Sources) -> list[Plot]:
        """The curves in each setting."""
        palette, rows = palette_of(sources.frame), self.needs(sources)
        drawn = rows["quantity"].isin([quantity.value for quantity in QUANTITIES])
        return [_plot(group, palette) for group in groups(rows[drawn & (rows["value"] > 0)])]


def series(frame: pd.DataFrame, axis: Axis, quantity: Quantity) -> pd.DataFrame:
    """The points of all curves of one panel.

    Args:
        frame: Measurements in one setting.
        axis: What varies.
        quantity: Time or memory.

    Returns:
        Columns `method`, `size` and `value`, by increasing size; of the original the smaller value
        of its settings, as the method `BETTER`.
    """
    rows = frame[
        (frame["suite"] == axis.suite)
        & (frame["quantity"] == quantity.value)
        & (frame["status"] == Status.OK.value)
        & (frame["value"] > 0)
    ]
    points = pd.DataFrame(
        {
            "method": [BETTER if name in ORIGINAL else name for name in rows["method"]],
            "size": rows[axis.column].astype(float).to_numpy(),
            "value": rows["value"].to_numpy(),
        }
    )
    return points.groupby(["method", "size"], as_index=False)["value"].min().sort_values("size")


def exponent(sizes: np.ndarray, values: np.ndarray) -> float:
    """Slope of a curve at its large end, both axes logarithmic.

    Args:
        sizes: Increasing.
        values: Positive.

    Returns:
        Least-squares fit to the last points; NaN if there are fewer than two.
    """
    if len(sizes) < 2:
        return float("nan")
    logs = np.log(sizes[-FITTED:]), np.log(values[-FITTED:])
    return float(np.polyfit(*logs, deg=1)[0])


def exponents(frame: pd.DataFrame) -> pd.DataFrame:
    """The fitted exponents of every curve.

    Args:
        frame: Measurements in one setting.

    Returns:
        Columns `symbol`, `quantity`, `method`, `exponent`, in the order of the report.
    """
    found = []
    for axis in AXES:
        for quantity in QUANTITIES:
            points = series(frame, axis, quantity)
            for method in ordered(points["method"]):
                curve = points[points["method"] == method]
                slope = exponent(curve["size"].to_numpy(), curve["value"].to_numpy())
                found.append((axis.symbol, quantity.value, method, slope))
    return pd.DataFrame(found, columns=["symbol", "quantity", "method", "exponent"])


def scaling_table(frame: pd.DataFrame) -> Table:
    """The fitted exponents, one row per method.

    Args:
        frame: Measurements of the scaling suites in one setting.

    Returns:
        A column for each quantity and size of which there is an exponent.
    """
    fitted = exponents(frame)
    methods = list(dict.fromkeys(fitted["method"]))
    raw, texts = pd.DataFrame(index=methods), {}
    for axis in AXES:
        for quantity in QUANTITIES:
            name = f"{labels.QUANTITIES[quantity.value].short} over {axis.symbol}"
            rows = fitted[
                (fitted["symbol"] == axis.symbol) & (fitted["quantity"] == quantity.value)
            ]
            found = rows.set_index("method")["exponent"].reindex(methods)
            if found.isna().all():
                continue
            raw[name] = found
            texts[name] = [_power(axis.symbol, value) for value in raw[name]]
    setting = setting_of(frame)
    return Table(
        name=labels.slug(f"scaling {setting}"),
        title=labels.titled(Scaling.title, setting),
        caption=CAPTION,
        shown=pd.DataFrame({"Method": [name_of(m) for m in methods], **texts}),
        raw=raw.reset_index(drop=True).add_prefix("exponent: "),
        measured=tuple(texts),
    )


def ordered(methods: pd.Series) -> list[str]:
    """Methods in the order of the report, the original where its settings are."""
    known = [*METHODS]
    known.insert(known.index(ORIGINAL[0]), BETTER)
    return sorted(set(methods), key=lambda method: labels.rank(method, known))


def name_of(method: str) -> str:
    """What a curve is called."""
    if method == BETTER:
        return "original (better setting)"
    return labels.short_method_label(method) + (", 10 leading" if method == "lanczos" else "")


def rounded(exponent: float) -> str:
    """An exponent with one decimal; zero has no sign."""
    return f"{round(exponent, 1) + 0.0:.1f}"


def _power(symbol: str, exponent: float) -> str:
    if np.isnan(exponent):
        return labels.STATUSES[labels.MISSING]
    return f"{symbol}^{rounded(exponent)}"


def _plot(frame: pd.DataFrame, palette: Palette) -> Plot:
    setting = setting_of(frame)
    title = labels.titled(Scaling.title, setting)
    fitted = [
        f"{name_of(row['method'])}, {row['quantity']} over {row['symbol']}: "
        f"{rounded(row['exponent'])}"
        for _, row in exponents(frame).dropna().iterrows()
    ]
    return Plot(
        name=labels.slug(f"scaling {setting}"),
        title=title,
        caption=HOW_TO_READ,
        alt=f"{title}: time and memory over size; exponents: {'; '.join(fitted)}.",
        draw=partial(draw, frame, palette),
    )


def draw(frame: pd.DataFrame, palette: Palette) -> Figure:
    """Draw time and memory over batch size, classes and width, all axes logarithmic.

    Args:
        frame: Measurements in one setting, some of them of the scaling suites.
        palette: Colours and markers of the methods.

    Returns:
        The figure; the legend of each panel gives the fitted exponents.
    """
    axes_drawn = [axis for axis in AXES if any(len(series(frame, axis, q)) for q in QUANTITIES)]
    quantities = [q for q in QUANTITIES if any(len(series(frame, axis, q)) for axis in AXES)]
    size = (1.0 + 4.2 * len(axes_drawn), 4.5 * len(quantities))
    with styled():
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(len(quantities), len(axes_drawn), squeeze=False, sharey="row")
        for i, quantity in enumerate(quantities):
            for panel, axis in zip(panels[i], axes_drawn, strict=True):
                _panel(panel, series(frame, axis, quantity), axis, quantity, palette)
            panels[i][0].set_ylabel(f"{SCALES[quantity].title} (log scale)")
    return figure


def _panel(
    panel: Axes, points: pd.DataFrame, axis: Axis, quantity: Quantity, palette: Palette
) -> None:
    panel.set_title(f"{SCALES[quantity].title} over {axis.title}", fontsize="medium")
    if not len(points):
        say_not_measured(panel)
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
    legend_below(panel, handles)


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


SECTION = Scaling()
