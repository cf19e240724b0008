"""Steps on a noisy quadratic: losses, final distances, dampings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.records.record import Quantity
from reports.figures.plot import Plot
from reports.sections.base import Words
from reports.sections.experiments.base import ExperimentSection
from reports.sources.sources import Sources
from reports.tables.table import Table
from reports.words import units
from vivit.plots.style import COLORBLIND, styled

BOOTSTRAP, DESCENT = "bootstrap", "gradient_descent"
COLORS = {
    DESCENT: COLORBLIND[7],
    "damping_0.0001": COLORBLIND[1],
    "damping_1": COLORBLIND[2],
    "damping_100": COLORBLIND[4],
    BOOTSTRAP: COLORBLIND[0],
}
"""Of those whose losses and dampings are drawn; all are in the table."""

CAPTION = "After the last step, over all runs. Losses and distances are those without noise."
LOSSES = (
    "Lower is better. Thick: the median over the runs; the band spans the quartiles; dotted: the "
    "mean. With next to no damping, steps follow the noise. With much, they are too short. "
    "Bootstrap damping chooses for each direction and step, from the noise that it sees."
)
DISTANCES = (
    "Distance from the minimum after the last step, one box for each optimizer: quartiles and "
    "median, whiskers to 1.5 times the box. Logarithmic."
)
DAMPINGS = (
    "Damping of each direction over its curvature; above 1, a step is less than half of a Newton "
    "step. Dashed: constant dampings, and the one that makes a Newton step one of gradient "
    "descent. Solid: bootstrap damping at some steps (medians over the runs). It takes the end of "
    "its grid, 100, where the noise hides the slope: in steep directions first, which are the "
    "first to come near the minimum."
)
SHOWN_STEPS = (1, 2, 4, 20)
"""At which bootstrap dampings are drawn."""


BOX: dict[str, Any] = {"widths": 0.6, "medianprops": {"color": "black"}}

Panel = Callable[[Axes, dict[str, pd.Series]], None]


class NoisyQuadraticSection(ExperimentSection):
    """A table and three figures."""

    def answers(self, sources: Sources) -> list[Words]:
        """Whether bootstrap damping ends nearest."""
        rows = self.of(sources, Quantity.DISTANCE)
        medians = rows.set_index("method")["value"]
        others = medians.drop([BOOTSTRAP], errors="ignore")
        if BOOTSTRAP not in medians or not len(others):
            return []
        best = str(others.idxmin())
        nearest = medians[BOOTSTRAP] < others.min()
        ours, theirs = float(medians[BOOTSTRAP]), float(others.min())
        sentence = (
            f"Does bootstrap damping end nearest to the minimum? {'Yes' if nearest else 'No'}: "
            f"median distance {units.significant(ours)}, with the best of the others, "
            f"{title_of(best)}, {units.significant(theirs)}."
        )
        return self.in_short([sentence])

    def tables(self, sources: Sources) -> list[Table]:
        """Losses and distances of all optimizers."""
        rows = self.of(sources, Quantity.DISTANCE)
        if not len(rows):
            return []
        details = list(rows["details"])
        mean, median = (
            [float(d[name][-1]) for d in details] for name in ("mean_loss", "median_loss")
        )
        shown = pd.DataFrame(
            {
                "Optimizer": [title_of(method) for method in rows["method"]],
                "Runs": [str(len(samples)) for samples in rows["samples"]],
                "Median distance": [units.significant(float(x)) for x in rows["value"]],
                "Median loss": [units.significant(x) for x in median],
                "Mean loss": [units.significant(x) for x in mean],
            }
        )
        raw = pd.DataFrame({"distance": rows["value"], "median loss": median, "mean loss": mean})
        return [Table(self.name, self.title, CAPTION, shown, raw, (*shown.columns[2:],))]

    def figures(self, sources: Sources) -> list[Plot]:
        """Losses, distances, dampings."""
        rows = self.of(sources, Quantity.DISTANCE)
        if not len(rows):
            return []
        by_method = {str(row["method"]): row for _, row in rows.iterrows()}
        names = ", ".join(map(title_of, by_method))
        return [
            Plot(
                f"{self.name}-{name}",
                f"{self.title}: {title}",
                caption,
                f"{self.title}: {title} of {names}.",
                partial(one_panel, panel, by_method),
            )
            for name, title, caption, panel in (
                ("loss", "loss over steps", LOSSES, draw_losses),
                ("distance", "final distance", DISTANCES, draw_distances),
                ("damping", "relative dampings", DAMPINGS, draw_dampings),
            )
        ]


def title_of(method: str) -> str:
    """An optimizer, for people."""
    fixed = {BOOTSTRAP: "bootstrap damping", DESCENT: "gradient descent"}
    return fixed.get(method, f"damping {method.removeprefix('damping_')}")


def one_panel(panel: Panel, rows: dict[str, pd.Series]) -> Figure:
    """Draw a figure of one panel."""
    with styled():
        figure = Figure(figsize=(8.5, 4.6), layout="constrained")
        axis = figure.subplots()
        panel(axis, rows)
    return figure


def draw_losses(axis: Axes, rows: dict[str, pd.Series]) -> None:
    """Median, mean and quartiles over the steps."""
    for method in (m for m in COLORS if m in rows):
        details, color = rows[method]["details"], COLORS[method]
        steps = range(len(details["median_loss"]))
        axis.plot(
            steps, details["median_loss"], color=color, linewidth=2.2, label=title_of(method)
        )
        axis.plot(steps, details["mean_loss"], color=color, linestyle=":", linewidth=1.2)
        axis.fill_between(
            steps, details["lower_quartile"], details["upper_quartile"], color=color, alpha=0.2
        )
    axis.set_yscale("log")
    axis.set_xlabel("step")
    axis.set_ylabel("loss (log scale)")
    axis.set_xticks(range(0, 21, 5))
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def draw_distances(axis: Axes, rows: dict[str, pd.Series]) -> None:
    """A box for each optimizer."""
    names = [*rows]
    boxes = axis.boxplot([rows[name]["samples"] for name in names], patch_artist=True, **BOX)
    for name, box in zip(names, boxes["boxes"], strict=True):
        box.set_facecolor(COLORS.get(name, "0.85"))
        box.set_alpha(0.6)
    axis.set_yscale("log")
    axis.set_ylabel("distance from the minimum (log scale)")
    axis.set_xticks(range(1, len(names) + 1), map(title_of, names), rotation=30, ha="right")


def draw_dampings(axis: Axes, rows: dict[str, pd.Series]) -> None:
    """Over the directions, in the order of their curvature: of bootstrap damping step by step."""
    lines = [
        (title_of(method), rows[method]["details"]["dampings_by_step"][0], COLORS[method], "--")
        for method in COLORS
        if method in rows and method != BOOTSTRAP
    ]
    if BOOTSTRAP in rows:
        dampings = rows[BOOTSTRAP]["details"]["dampings_by_step"]
        steps = [step for step in SHOWN_STEPS if step <= len(dampings)]
        for step, color in zip(steps, sns.color_palette("Blues_d", len(steps)), strict=True):
            lines.append((f"bootstrap, step {step}", dampings[step - 1], color, "-"))
    for label, values, color, style in lines:
        directions = range(1, len(values) + 1)
        axis.plot(directions, values, color=color, linestyle=style, label=label)
    axis.axhline(1.0, color="0.3", linewidth=1)
    axis.set_yscale("log")
    axis.set_xlabel("direction i, of curvature i²")
    axis.set_ylabel("damping / curvature (log scale)")
    axis.set_xticks(range(5, 21, 5))
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


SECTION = NoisyQuadraticSection("noisy-quadratic")
