"""What one mini-batch predicts of others: means and variances of slope and curvature."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from benchmarks.records.record import Quantity
from reports.figures.plot import Plot
from reports.figures.scales import hide_minor_ticks
from reports.sections.base import Words
from reports.sections.experiments.base import ExperimentSection, moments_of
from reports.sources.sources import Sources
from reports.tables.table import Table
from reports.words import units
from vivit.plots import styled
from vivit.plots.style import COLORBLIND

PREDICTED, MEASURED = "gram", "mini_batch"

HOW_TO_READ = (
    "A symbol is a leading eigenvector of one mini-batch, of which there are as many as classes. "
    "Across: what other mini-batches of the same size show. Up: what that one mini-batch predicts "
    "from the derivatives of its samples. On the dashed line, both agree. Top: standard deviation "
    "between mini-batches, of the slope and of the curvature. Bottom: mean curvature; above the "
    "line, the mini-batch sees more curvature along its own eigenvectors than others do."
)
SHOWS = "Predicted over measured, at each moment."
CAPTION = (
    "Predicted by one mini-batch over measured on others, medians over its leading eigenvectors: "
    "1 would be a perfect prediction. A variance is that between mini-batches of the same size; "
    "it is predicted from the samples of one, with the correction for draws without repetition."
)


@dataclass(frozen=True)
class Moment:
    """A network at one moment; each array has an entry for each direction.

    Attributes:
        epoch: The moment.
        predicted: By one mini-batch: curvatures, variances of slope and of curvature.
        measured: The same on others.
    """

    epoch: float
    predicted: tuple[np.ndarray, ...]
    measured: tuple[np.ndarray, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Predicted over measured, medians; NaN where nothing varies."""
        return tuple(
            float(np.median(p[m > 0] / m[m > 0])) if (m > 0).any() else float("nan")
            for p, m in zip(self.predicted, self.measured, strict=True)
        )


class GradientCurvatureVarianceSection(ExperimentSection):
    """A table, and a figure for each problem."""

    def answers(self, sources: Sources) -> list[Words]:
        """How good the predictions are at the first and the last moment."""
        points = []
        for title, moments in self._moments(sources).items():
            ends = moments[:1] + moments[1:][-1:]
            found = [
                f"{units.factor(slope)} the variance of the slope between mini-batches and "
                f"{units.factor(mean)} the curvature (epoch {moment.epoch:g})"
                for moment in ends
                for mean, slope, _ in [moment.ratios]
            ]
            points.append(f"{title}: one mini-batch predicts {', then '.join(found)}.")
        return self.in_short(points)

    def tables(self, sources: Sources) -> list[Table]:
        """A row for each moment."""
        shown, raw = [], []
        for title, moments in self._moments(sources).items():
            for moment in moments:
                mean, slope, variance = moment.ratios
                shown.append(
                    {
                        "Problem": title,
                        "Epoch": f"{moment.epoch:g}",
                        "Variance of the slope": units.factor(slope),
                        "Variance of the curvature": units.factor(variance),
                        "Curvature": units.factor(mean),
                    }
                )
                raw.append({"slope": slope, "variance": variance, "mean": mean})
        return self.table(CAPTION, shown, raw, 2)

    def figures(self, sources: Sources) -> list[Plot]:
        """A column of panels for each moment."""
        return [
            self.plot(title, HOW_TO_READ, SHOWS, partial(draw, moments))
            for title, moments in self._moments(sources).items()
        ]

    def _moments(self, sources: Sources) -> dict[str, list[Moment]]:
        found: dict[str, list[Moment]] = {}
        for title, epoch, rows in moments_of(self.of(sources, Quantity.CURVATURE)):
            both = {row["method"]: _read(row) for _, row in rows.iterrows()}
            if {PREDICTED, MEASURED} <= both.keys():
                moment = Moment(epoch, both[PREDICTED], both[MEASURED])
                found.setdefault(title, []).append(moment)
        return found


def _read(row: pd.Series) -> tuple[np.ndarray, ...]:
    details = row["details"]
    variances = (np.array(details[f"{name}_variances"]) for name in ("slope", "curvature"))
    return (np.array(row["samples"]), *variances)


def draw(moments: list[Moment]) -> Figure:
    """Draw predictions over measurements.

    Args:
        moments: Of one network.

    Returns:
        The figure: a column for each moment.
    """
    with styled():
        size = (max(3.6 * len(moments), 7.0), 7.0)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(2, len(moments), squeeze=False)
        for column, moment in zip(axes.T, moments, strict=True):
            deviations = [
                (np.sqrt(m), np.sqrt(p), color, label)
                for m, p, color, label in zip(
                    moment.measured[1:],
                    moment.predicted[1:],
                    (COLORBLIND[3], COLORBLIND[0]),
                    ("slope", "curvature"),
                    strict=True,
                )
            ]
            _panel(column[0], deviations)
            _panel(
                column[1], [(moment.measured[0], moment.predicted[0], COLORBLIND[0], "curvature")]
            )
            column[0].set_title(f"after {moment.epoch:g} epochs", fontsize="medium")
            column[0].set_xlabel("standard deviation, measured")
            column[1].set_xlabel("mean curvature, measured")
        axes[0, 0].set_ylabel("predicted (log scale)")
        axes[1, 0].set_ylabel("predicted (log scale)")
        axes[0, 0].legend(frameon=False, fontsize="small", loc="upper left")
    return figure


def _panel(axis: Axes, points: list[tuple[np.ndarray, np.ndarray, str, str]]) -> None:
    """Symbols, and the line on which they would lie if both agreed."""
    every = np.concatenate(
        [x for measured, predicted, *_ in points for x in (measured, predicted)]
    )
    positive = every[every > 0]
    for measured, predicted, color, label in points:
        axis.plot(measured, predicted, "o", color=color, markersize=5, alpha=0.8, label=label)
    if len(positive):
        ends = positive.min() / 1.3, positive.max() * 1.3
        axis.plot(ends, ends, "--", color="0.3", linewidth=1)
    axis.set_xscale("log")
    axis.set_yscale("log")
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=6))
        side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        hide_minor_ticks(side)


SECTION = GradientCurvatureVarianceSection("gradient-curvature-variance")
