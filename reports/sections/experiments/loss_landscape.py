"""The loss along leading eigenvectors and in their plane, beside its quadratic model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.records.record import Quantity
from reports.figures.plot import Plot
from reports.sections.experiments.base import ExperimentSection, moments_of
from reports.sources.sources import Sources
from reports.tables.table import Table
from reports.words import units
from vivit.plots import landscape, styled
from vivit.plots.style import COLORBLIND

HOW_TO_READ = (
    "Along the leading eigenvectors of the GGN of all training data, to a distance of 1 on both "
    "sides. Left: the training loss (solid) and the quadratic that slope and curvature predict "
    "(dashed), a colour for each eigenvector; of the first the test loss, too (dotted). Middle: "
    "accuracy along the first, training (solid) and test (dotted). Right: the plane of the first "
    "two; colours are the training loss, dashed lines the quadratic at the same levels, the dot "
    "is where the network is."
)
SHOWS = "Losses and accuracies along eigenvectors, and a plane."
CAPTION = (
    "“Curvature” is the eigenvalue, and “of the loss” the second difference of the training loss "
    "next to the network. “Error of the model” is the difference between quadratic and loss, "
    "relative to the loss, on average over both sides, near and far."
)
COLORS = COLORBLIND[0], COLORBLIND[2], COLORBLIND[4]


@dataclass(frozen=True)
class Seen:
    """The loss along one direction, or in a plane.

    Attributes:
        steps: Where, the same along each direction.
        losses: Of the training set, an axis for each direction.
        test_losses: Of the test set, the same.
        slopes: Of each direction.
        curvatures: Of each direction.
        accuracies: Of training and test set, in the order of `losses`; empty if there are none.
    """

    steps: np.ndarray
    losses: np.ndarray
    test_losses: np.ndarray
    slopes: np.ndarray
    curvatures: np.ndarray
    accuracies: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, row: pd.Series) -> Seen:
        """Read a measurement."""
        details = row["details"]
        steps, slopes = np.array(details["steps"]), np.array(details["slopes"])
        both = [details[f"{part}_accuracy"] for part in ("train", "test")]
        known = all(x is not None for accuracies in both for x in accuracies)
        shape = [len(steps)] * len(slopes)
        return cls(
            steps,
            np.array(row["samples"]).reshape(shape),
            np.array(details["test_loss"]).reshape(shape),
            slopes,
            np.array(details["curvatures"]),
            tuple(np.array(x) for x in both) if known else (),
        )

    @property
    def middle(self) -> int:
        """Index of where the network is."""
        return len(self.steps) // 2

    @property
    def model(self) -> np.ndarray:
        """The quadratic, of the shape of the losses."""
        here = self.losses[(self.middle,) * self.losses.ndim]
        parts = (
            slope * self.steps + curvature * self.steps**2 / 2
            for slope, curvature in zip(self.slopes, self.curvatures, strict=True)
        )
        grids = np.meshgrid(*parts, indexing="ij")
        return np.asarray(here + sum(grids))

    @property
    def second_difference(self) -> float:
        """Of the loss along a line, next to the network."""
        before, here, after = self.losses[self.middle - 1 : self.middle + 2]
        return float((before - 2 * here + after) / (self.steps[1] - self.steps[0]) ** 2)

    def error(self, index: int) -> float:
        """Of the model along a line, some points from the network, relative to the loss."""
        both = [self.middle - index, self.middle + index]
        return float(np.mean(np.abs(self.model - self.losses)[both] / self.losses[both]))


@dataclass(frozen=True)
class Moment:
    """A network at one moment.

    Attributes:
        epoch: The moment.
        lines: Along the leading eigenvectors, the first first.
        plane: Of the first two; None if it is not there.
    """

    epoch: float
    lines: list[Seen]
    plane: Seen | None


class LossLandscapeSection(ExperimentSection):
    """A table of lines, and a figure for each problem."""

    def tables(self, sources: Sources) -> list[Table]:
        """A row for each line."""
        shown, raw = [], []
        for title, moments in self._moments(sources).items():
            for moment in moments:
                for k, line in enumerate(moment.lines, start=1):
                    curvature, second = float(line.curvatures[0]), line.second_difference
                    near, far = line.error(1), line.error(line.middle)
                    shown.append(
                        {
                            "Problem": title,
                            "Epoch": f"{moment.epoch:g}",
                            "Eigenvector": str(k),
                            "Curvature": units.significant(curvature),
                            "of the loss": signed(second),
                            "Error of the model at 0.1": percent(near),
                            "at 1": percent(far),
                        }
                    )
                    raw.append({"curvature": curvature, "second difference": second})
                    raw[-1] |= {"near": near, "far": far}
        return self.table(CAPTION, shown, raw, 3)

    def figures(self, sources: Sources) -> list[Plot]:
        """A row of panels for each moment."""
        return [
            self.plot(title, HOW_TO_READ, SHOWS, partial(draw, moments))
            for title, moments in self._moments(sources).items()
        ]

    def _moments(self, sources: Sources) -> dict[str, list[Moment]]:
        found: dict[str, list[Moment]] = {}
        for title, epoch, rows in moments_of(self.of(sources, Quantity.LOSS)):
            lines = {
                row["parameters"]["index"]: Seen.of(row)
                for _, row in rows[rows["method"] == "direction"].iterrows()
            }
            planes = [Seen.of(row) for _, row in rows[rows["method"] == "plane"].iterrows()]
            if lines:
                ordered = [lines[k] for k in sorted(lines)]
                moment = Moment(epoch, ordered, planes[0] if planes else None)
                found.setdefault(title, []).append(moment)
        return found


def signed(value: float) -> str:
    """A number that may be negative, for a table."""
    return f"{'-' if value < 0 else ''}{units.significant(abs(value))}"


def percent(value: float) -> str:
    """A relative error, for a table."""
    return f"{units.significant(100 * value, 2)}%"


def draw(moments: list[Moment]) -> Figure:
    """Draw a landscape.

    Args:
        moments: Of one network.

    Returns:
        The figure: a row for each moment.
    """
    with styled():
        figure = Figure(figsize=(11.0, 3.6 * len(moments)), layout="constrained")
        for row, moment in zip(
            figure.subplots(len(moments), 3, squeeze=False), moments, strict=True
        ):
            _lines(row[0], moment)
            _accuracies(row[1], moment.lines[0])
            if moment.plane is not None:
                plane = moment.plane
                landscape(plane.steps, plane.losses, row[2], model=plane.model)
            row[1].set_title(f"epoch {moment.epoch:g}", fontsize="medium")
    return figure


def _lines(axis: Axes, moment: Moment) -> None:
    for k, (line, color) in enumerate(zip(moment.lines, COLORS, strict=False), start=1):
        curvature = units.significant(float(line.curvatures[0]))
        label = f"eigenvector {k} (curvature {curvature})"
        landscape(line.steps, line.losses, axis, model=line.model, label=label, color=color)
    first = moment.lines[0]
    axis.plot(first.steps, first.test_losses, ":", color=COLORS[0], label="the first, test set")
    axis.set_ylabel("loss")
    axis.set_xlabel("distance along the eigenvector")
    axis.legend(frameon=False, fontsize="small")


def _accuracies(axis: Axes, line: Seen) -> None:
    for accuracies, style, label in zip(
        line.accuracies, ("-", ":"), ("training", "test"), strict=False
    ):
        axis.plot(line.steps, accuracies, style, color=COLORS[0], label=label)
    axis.set_ylim(0, 1.02)
    axis.set_xlabel("distance along the first eigenvector")
    axis.set_ylabel("accuracy")
    if line.accuracies:
        axis.legend(frameon=False, fontsize="small")


SECTION = LossLandscapeSection("loss-landscape")
