"""Test accuracy over the learning rate."""

from __future__ import annotations

from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.records.record import Quantity
from benchmarks.training.recipe import Optimizer
from reports.figures.plot import Plot
from reports.sections.experiments.base import PAPER, ExperimentSection, problem_titles
from reports.sources.published import learning_rates
from reports.sources.sources import Sources
from reports.tables.table import Table
from reports.words import units
from vivit.plots.style import COLORBLIND, styled

CAPTION = (
    "The learning rate with the best test accuracy at any epoch; of equal ones the smallest. The "
    "published rates are for ResNet-32 on CIFAR-10. Problems whose targets are no classes have no "
    "accuracy, and are left out."
)
HOW_TO_READ = (
    "Each symbol is a training; higher is better. The best of each optimizer is filled. Crosses "
    "at the bottom mark trainings whose loss became infinite. Dashed: the published best rates, "
    "for ResNet-32 on CIFAR-10."
)
COLORS = {Optimizer.SGD: COLORBLIND[0], Optimizer.ADAM: COLORBLIND[1]}


class LearningRateSection(ExperimentSection):
    """A table of the best, and a figure of all."""

    beside = PAPER

    def tables(self, sources: Sources) -> list[Table]:
        """The best learning rate of each optimizer, and the published one."""
        rows, published = _tabulated(self.of(sources, Quantity.TEST_ACCURACY)), learning_rates()
        if not len(rows):
            return []
        best = rows[~rows["diverged"]].sort_values(["best", "rate"], ascending=[False, True])
        best = best.groupby(["problem", "optimizer"], sort=True).head(1)
        best = best.sort_values(["problem", "optimizer"], ascending=[True, False])
        theirs = published.set_index("optimizer")
        titles = problem_titles(rows)
        shown = pd.DataFrame(
            {
                "Problem": [titles[problem] for problem in best["problem"]],
                "Optimizer": [Optimizer(name).label for name in best["optimizer"]],
                "Best rate here": [units.significant(rate) for rate in best["rate"]],
                "Accuracy here": [f"{100 * accuracy:.1f}%" for accuracy in best["best"]],
                **{
                    title: [text(theirs.loc[name, column]) for name in best["optimizer"]]
                    for title, column, text in (
                        ("Best rate published", "learning_rate", units.significant),
                        ("Accuracy published", "test_accuracy", lambda x: f"{100 * x:.1f}%"),
                    )
                },
            }
        ).reset_index(drop=True)
        raw = best[["rate", "best"]].reset_index(drop=True)
        return [Table(self.name, self.title, CAPTION, shown, raw, (*shown.columns[2:],))]

    def figures(self, sources: Sources) -> list[Plot]:
        """Accuracy over the learning rate."""
        rows = _tabulated(self.of(sources, Quantity.TEST_ACCURACY))
        if not len(rows):
            return []
        titles = problem_titles(rows)
        names = ", ".join(titles.values())
        alt = f"{self.title}: best test accuracy over learning rate for {names}."
        return [Plot(self.name, self.title, HOW_TO_READ, alt, partial(draw, rows, titles))]


def _tabulated(rows: pd.DataFrame) -> pd.DataFrame:
    """Optimizer, rate, best accuracy, and whether the loss became infinite."""
    parameters, details = rows["parameters"], rows["details"]
    kept = rows.assign(
        optimizer=[p.get("optimizer") for p in parameters],
        rate=[p.get("learning_rate") for p in parameters],
        best=[max(samples) for samples in rows["samples"]],
        diverged=[d.get("diverged") is not None for d in details],
        is_accuracy=[d.get("is_accuracy", False) for d in details],
    )
    return kept[kept["is_accuracy"].astype(bool)]


def draw(rows: pd.DataFrame, titles: dict[str, str]) -> Figure:
    """Draw the best accuracy over the learning rate.

    Args:
        rows: Trainings.
        titles: Names of the problems.

    Returns:
        The figure, with a panel for each problem.
    """
    with styled():
        figure = Figure(figsize=(max(5.5 * len(titles), 8.0), 4.2), layout="constrained")
        axes = figure.subplots(1, len(titles), squeeze=False)[0]
        for axis, (problem, title) in zip(axes, titles.items(), strict=True):
            _panel(axis, rows[rows["problem"] == problem])
            axis.set_title(title, fontsize="medium")
        handles = [
            Line2D([], [], color=color, marker="o", fillstyle="none", label=optimizer.label)
            for optimizer, color in COLORS.items()
        ]
        handles.append(Line2D([], [], color="0.4", linestyle="--", label="published best rates"))
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _panel(axis: Axes, rows: pd.DataFrame) -> None:
    published = learning_rates().set_index("optimizer")["learning_rate"]
    for optimizer, color in COLORS.items():
        trainings = rows[rows["optimizer"] == optimizer.value].sort_values("rate")
        fine, lost = trainings[~trainings["diverged"]], trainings[trainings["diverged"]]["rate"]
        axis.plot(fine["rate"], fine["best"], color=color, marker="o", fillstyle="none")
        if len(fine):
            best = fine.loc[fine["best"].idxmax()]
            axis.plot([best["rate"]], [best["best"]], color=color, marker="o")
        axis.plot(lost, [0.02] * len(lost), color=color, marker="x", linestyle="")
        axis.axvline(published[optimizer.value], color=color, linestyle="--", linewidth=1)
    axis.set_xscale("log")
    axis.set_ylim(0, 1)
    axis.set_xlabel("learning rate (log scale)")
    axis.set_ylabel("best test accuracy")


SECTION = LearningRateSection("learning-rate-grid")
