"""Slopes and curvatures along eigenvectors at three moments of a training, and three claims."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.records.record import Quantity
from reports.figures.plot import Plot
from reports.sections.base import Words
from reports.sections.experiments.base import ExperimentSection, problem_titles
from reports.sources.sources import Sources
from reports.tables.table import Table
from reports.words import labels, units
from vivit.plots import gradient_curvature, signal_to_noise, styled
from vivit.plots.style import COLORBLIND

BINS = 20
LEAST_MOMENTS = 2
VANISHED = 0.1
"""Share of its first value below which the signal of the curvature counts as vanished."""

HOW_TO_READ = (
    "Columns: moments of the training. Top: size of the slope over curvature, a symbol for each "
    "eigenvector of the mini-batch's GGN. Middle: how much of the squared gradient lies in "
    "directions of each curvature; the bars add up to 1. Bottom: signal-to-noise ratios of slope "
    "and curvature between the samples; below the dashed line at 1, samples disagree by more than "
    "they have in common. Filled symbols are the leading directions, as many as classes."
)
CAPTION = (
    "The paper's claims, checked on these records. “In the top” is the share of the squared "
    "gradient in the leading eigenspace, as many vectors as classes; the signal-to-noise ratios "
    "are medians over these directions."
)


@dataclass(frozen=True)
class Moment:
    """A checkpoint.

    Attributes:
        epoch: When.
        curvatures: Eigenvalues, ascending.
        slopes: Along their vectors.
        of_slopes: Signal-to-noise ratios; NaN without variance.
        of_curvatures: The same of curvatures.
        squared_gradient: Of the mini-batch.
        leading: Number of leading directions.
    """

    epoch: float
    curvatures: np.ndarray
    slopes: np.ndarray
    of_slopes: np.ndarray
    of_curvatures: np.ndarray
    squared_gradient: float
    leading: int

    @classmethod
    def of(cls, row: pd.Series) -> Moment:
        """Read a measurement."""
        details = row["details"]
        return cls(
            row["parameters"]["epoch"],
            np.array(row["samples"]),
            np.array(details["slopes"]),
            np.array(details["slope_signal_to_noise"], dtype=float),
            np.array(details["curvature_signal_to_noise"], dtype=float),
            details["squared_gradient"],
            min(details["outputs"], len(row["samples"])),
        )

    @property
    def in_the_top(self) -> float:
        """Share of the squared gradient in the leading eigenspace."""
        return float(np.square(self.slopes[-self.leading :]).sum() / self.squared_gradient)

    @property
    def signal_of_slopes(self) -> float:
        """Median signal-to-noise ratio of the leading directions."""
        return _median(self.of_slopes[-self.leading :])

    @property
    def signal_of_curvatures(self) -> float:
        """The same of curvatures."""
        return _median(self.of_curvatures[-self.leading :])


def _median(ratios: np.ndarray) -> float:
    """Of those that there are; NaN if there are none, as where nothing varies."""
    known = ratios[~np.isnan(ratios)]
    return float(np.median(known)) if len(known) else float("nan")


CLAIMS: dict[str, tuple[Callable[[Sequence[Moment]], bool], Callable[[Moment], float]]] = {
    "The gradient lies in the top eigenspace (more than half of it, always)": (
        lambda moments: np.min([m.in_the_top for m in moments]) > 0.5,
        lambda m: m.in_the_top,
    ),
    "The curvature's signal vanishes as training proceeds (to less than a tenth)": (
        lambda moments: (
            moments[-1].signal_of_curvatures < VANISHED * moments[0].signal_of_curvatures
        ),
        lambda m: m.signal_of_curvatures,
    ),
    "The gradient's signal is small throughout (below 1)": (
        lambda moments: np.max([m.signal_of_slopes for m in moments]) < 1,
        lambda m: m.signal_of_slopes,
    ),
}
"""Whether a claim holds, and the number that it is about. What is NaN anywhere proves nothing."""


class TrainingDerivativesSection(ExperimentSection):
    """The claims, and a figure for each problem."""

    def answers(self, sources: Sources) -> list[Words]:
        """Which claims hold."""
        trainings = self._trainings(sources)
        points = [
            f"{title}: {claim}? {_verdict(moments, holds).capitalize()}."
            for title, moments in trainings.items()
            for claim, (holds, _) in CLAIMS.items()
        ]
        return self.in_short(points)

    def tables(self, sources: Sources) -> list[Table]:
        """A row for each claim and problem."""
        rows = [
            {
                "Problem": title,
                "Claim": claim,
                "Holds": _verdict(moments, holds),
                **{
                    f"{when} (epoch)": f"{_number(number(m))} ({m.epoch:g})"
                    for when, m in zip(("First", "Early", "Late"), moments, strict=False)
                },
            }
            for title, moments in self._trainings(sources).items()
            for claim, (holds, number) in CLAIMS.items()
        ]
        raw = [
            {f"number at epoch {m.epoch:g}": number(m) for m in moments}
            for moments in self._trainings(sources).values()
            for _, number in CLAIMS.values()
        ]
        if not rows:
            return []
        shown = pd.DataFrame(rows).fillna(units.NOTHING)
        kinds = {
            (i, "Holds"): {"yes": "better", "no": "worse"}.get(row["Holds"], "plain")
            for i, row in enumerate(rows)
        }
        return [
            Table(
                self.name,
                self.title,
                CAPTION,
                shown,
                pd.DataFrame(raw),
                (*shown.columns[2:],),
                kinds,
                prose=("Claim",),
            )
        ]

    def figures(self, sources: Sources) -> list[Plot]:
        """Nine panels for each problem."""
        plots = []
        for title, moments in self._trainings(sources).items():
            full = f"{self.title}: {title}"
            epochs = ", ".join(f"{m.epoch:g}" for m in moments)
            alt = f"{full}, after {epochs} epochs: slopes, shares of the gradient, noise."
            name = labels.slug(f"{self.name} {title}")
            plots.append(Plot(name, full, HOW_TO_READ, alt, partial(draw, moments)))
        return plots

    def _trainings(self, sources: Sources) -> dict[str, list[Moment]]:
        rows = self.of(sources, Quantity.DERIVATIVES)
        titles = problem_titles(rows)
        found: dict[str, list[Moment]] = {}
        for _, row in rows.iterrows():
            found.setdefault(titles[row["problem"]], []).append(Moment.of(row))
        return {t: sorted(moments, key=lambda m: m.epoch) for t, moments in found.items()}


def _number(value: float) -> str:
    return units.NOTHING if np.isnan(value) else units.significant(value)


def _verdict(moments: Sequence[Moment], holds: Callable[[Sequence[Moment]], bool]) -> str:
    """Of at least two moments, for a claim is about what changes or stays."""
    if len(moments) < LEAST_MOMENTS:
        return "not known yet"
    return "yes" if holds(moments) else "no"


def draw(moments: Sequence[Moment]) -> Figure:
    """Draw slopes, shares of the gradient and signal-to-noise ratios over curvature.

    Args:
        moments: Of one training.

    Returns:
        The figure: a column for each moment.
    """
    every = np.concatenate([m.curvatures[m.curvatures > 0] for m in moments])
    edges = np.geomspace(every.min(), every.max() * 1.0001, BINS + 1)
    with styled():
        size = (max(3.8 * len(moments), 7.0), 9.0)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(3, len(moments), squeeze=False, sharex=True, sharey="row")
        for column, moment in zip(axes.T, moments, strict=True):
            along, leading = moment.curvatures, moment.leading
            gradient_curvature(moment.slopes, along, column[0], leading=leading)
            _shares(column[1], moment, edges)
            ratios = moment.of_slopes, moment.of_curvatures
            signal_to_noise(along, *ratios, column[2], leading=leading)
            column[0].set_title(f"after {moment.epoch:g} epochs", fontsize="medium")
        axes[1, 0].set_ylabel("share of the squared gradient")
        for axis in axes.flatten():
            axis.label_outer()
        axes[2, 0].legend(frameon=False, fontsize="small", loc="lower right")
    return figure


def _shares(axis: Axes, moment: Moment, edges: np.ndarray) -> None:
    shares = np.square(moment.slopes) / moment.squared_gradient
    clipped = moment.curvatures.clip(edges[0], edges[-1])
    axis.hist(clipped, edges.tolist(), weights=shares, color=COLORBLIND[0])
    axis.set_ylim(0, 1)
    axis.set_title(f"{100 * moment.in_the_top:.0f}% in the top {moment.leading}", fontsize="small")


SECTION = TrainingDerivativesSection("training-derivatives")
