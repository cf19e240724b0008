"""Eigenspaces and curvatures during trainings, panel by panel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from benchmarks.experiments.training_overlap import LARGEST
from benchmarks.records.record import Quantity
from benchmarks.training.recipe import Optimizer
from reports.figures.plot import Plot
from reports.sections.base import Words
from reports.sections.experiments.base import ExperimentSection, problem_titles
from reports.sources.sources import Sources
from reports.tables.table import Table
from reports.words import units
from vivit.plots.style import COLORBLIND, styled

MINI_BATCHES = {2: COLORBLIND[9], 8: COLORBLIND[8], 32: COLORBLIND[1], 128: COLORBLIND[0]}
APPROXIMATIONS = {
    "subset": ("first eighth of the batch", COLORBLIND[4]),
    "monte_carlo": ("Monte-Carlo", COLORBLIND[2]),
    "both": ("both", COLORBLIND[3]),
}
HESSIAN: tuple[str, int | None] = ("hessian", None)

Panel = Callable[[Axes, pd.DataFrame], list[Line2D]]
"""Draws the measurements of a training, and gives what the legend shows."""


@dataclass(frozen=True)
class View:
    """A figure: what is drawn over the epochs.

    Attributes:
        name: Short name.
        title: For people.
        caption: How to read it.
        axis: What stands at the vertical axis.
        quantity: Which records.
        lines: Label -> method, batch size (None for any), colour.
        is_log: Whether the vertical axis is logarithmic.
    """

    name: str
    title: str
    caption: str
    axis: str
    quantity: Quantity
    lines: Mapping[str, tuple[str, int | None, str]]
    is_log: bool = False


OF_APPROXIMATIONS: dict[str, tuple[str, int | None, str]] = {
    label: (method, None, color) for method, (label, color) in APPROXIMATIONS.items()
}
BAND = " Lines are medians over the mini-batches that were drawn, bands span all of them."
VIEWS = (
    View(
        "full",
        "eigenspaces beside that of the full GGN",
        "Overlap of the leading eigenspaces, as many vectors as classes: 1 if they are the same. "
        "Black: the Hessian of all data. Coloured: the GGN of a mini-batch. The larger the batch, "
        "the more it knows of the curvature of all data." + BAND,
        "overlap with the full GGN",
        Quantity.OVERLAP,
        {
            "Hessian of all data": (*HESSIAN, "0.1"),
            **{f"GGN, batch of {n}": ("mini_batch", n, c) for n, c in MINI_BATCHES.items()},
        },
    ),
    View(
        "approximations",
        "approximations beside the GGN of the same mini-batch",
        f"Overlap with the GGN of the mini-batch of {LARGEST}, whose curvature is approximated."
        + BAND,
        f"overlap with batch of {LARGEST}",
        Quantity.OVERLAP,
        OF_APPROXIMATIONS,
    ),
    View(
        "errors",
        "error of the curvature along eigenvectors",
        "Relative error of the eigenvalues of a mini-batch and of its approximations, as "
        "curvatures of all data along the same vectors. Lower is better. Lines are medians over "
        "mini-batches and directions (the paper shows means), bands span the quartiles.",
        "relative error (log scale)",
        Quantity.CURVATURE_ERROR,
        {f"batch of {LARGEST}": ("mini_batch", None, COLORBLIND[0]), **OF_APPROXIMATIONS},
        is_log=True,
    ),
    View(
        "noise",
        "signal-to-noise ratios",
        "Squared mean over variance between the samples of a mini-batch, of slopes and curvatures "
        "along the leading eigenvectors. Below 1, samples disagree by more than they have in "
        "common. Lines are medians over mini-batches and directions, bands span the quartiles.",
        "signal-to-noise ratio (log scale)",
        Quantity.SIGNAL_TO_NOISE,
        {
            "slope": ("slope", None, COLORBLIND[3]),
            "curvature": ("curvature", None, COLORBLIND[0]),
        },
        is_log=True,
    ),
)
CURVES = (
    "Share of right classes over the epochs. Solid: test set. Dotted: training set. The order of "
    "the data is the same for both optimizers."
)
TABLE = (
    "Median overlaps at the last checkpoint. “Hessian” and “batch of N” are compared with the GGN "
    f"of all data, the approximations with that of the mini-batch of {LARGEST}."
)


class TrainingOverlapSection(ExperimentSection):
    """A table of the last checkpoints, and figures over the epochs."""

    def answers(self, sources: Sources) -> list[Words]:
        """How close the Hessian and mini-batches come in the end."""
        rows = _last(_tabulated(self.of(sources, Quantity.OVERLAP)))
        last = " and ".join(dict.fromkeys(f"{epoch:g}" for epoch in sorted(rows["epoch"])))
        points = []
        asked = (
            ("Does the GGN share its leading eigenspace with the Hessian", *HESSIAN),
            (f"Does a mini-batch of {LARGEST} know that of all data", "mini_batch", LARGEST),
        )
        for question, method, size in asked:
            title = f"{question} after {last} epochs?"
            values = _chosen(rows, method, size)["value"]
            if len(values):
                bounds = dict.fromkeys(f"{x:.2f}" for x in (values.min(), values.max()))
                points.append(f"{title} The overlap is {' to '.join(bounds)}.")
        return self.in_short(points)

    def tables(self, sources: Sources) -> list[Table]:
        """Overlaps at the end of each training."""
        rows = _tabulated(self.of(sources, Quantity.OVERLAP))
        if not len(rows):
            return []
        titles, found = problem_titles(rows), _last(rows)
        kinds = {**VIEWS[0].lines, **VIEWS[1].lines}
        lines, raw = [], []
        for (problem, optimizer), group in found.groupby(["problem", "optimizer"], sort=False):
            values = {name: _chosen(group, *kind[:2])["value"] for name, kind in kinds.items()}
            medians = {name: float(v.iloc[0]) for name, v in values.items() if len(v)}
            epoch = group["epoch"].iloc[0]
            what = {"Problem": titles[problem], "Optimizer": Optimizer(optimizer).label}
            texts = {name: f"{median:.2f}" for name, median in medians.items()}
            shown = {name: texts.get(name, units.NOTHING) for name in kinds}
            lines.append({**what, "Epoch": f"{epoch:g}", **shown})
            raw.append({f"{name} [1]": medians.get(name) for name in kinds})
        table = pd.DataFrame(lines)
        return [
            Table(self.name, self.title, TABLE, table, pd.DataFrame(raw), (*table.columns[3:],))
        ]

    def figures(self, sources: Sources) -> list[Plot]:
        """A figure for each view that has records, and the training curves."""
        plots = []
        for view in VIEWS:
            rows = _tabulated(self.of(sources, view.quantity))
            if len(rows):
                plots.append(
                    self._plot(view.name, view.title, view.caption, rows, partial(_view, view))
                )
        curves = _tabulated(self.of(sources, Quantity.TEST_ACCURACY))
        curves = curves[[bool(d.get("is_accuracy")) for d in curves["details"]]]
        if len(curves):
            plots.append(self._plot("curves", "training curves", CURVES, curves, _curve))
        return plots

    def _plot(self, name: str, title: str, caption: str, rows: pd.DataFrame, panel: Panel) -> Plot:
        full = f"{self.title}: {title}"
        names = ", ".join(problem_titles(rows).values())
        alt = f"{full}, over the epochs of trainings of {names}."
        return Plot(f"{self.name}-{name}", full, caption, alt, partial(draw, rows, panel))


def _tabulated(rows: pd.DataFrame) -> pd.DataFrame:
    """Optimizer and epoch as columns."""
    parameters = rows["parameters"]
    return rows.assign(
        optimizer=[p.get("optimizer") for p in parameters],
        epoch=[p.get("epoch", 0.0) for p in parameters],
    )


def _last(rows: pd.DataFrame) -> pd.DataFrame:
    """What belongs to the last checkpoint of each training."""
    last = rows.groupby(["problem", "optimizer"])["epoch"].transform("max")
    return rows[rows["epoch"] == last]


def _chosen(rows: pd.DataFrame, method: str, size: int | None) -> pd.DataFrame:
    fits = rows["method"] == method
    return rows[fits if size is None else fits & (rows["batch_size"] == size)]


def draw(rows: pd.DataFrame, panel: Panel) -> Figure:
    """Draw a panel for each problem and optimizer.

    Args:
        rows: Measurements with columns for optimizer and epoch.
        panel: Draws one of them, and returns the lines for the legend.

    Returns:
        The figure: a row for each problem.
    """
    titles, trained = problem_titles(rows), set(rows["optimizer"])
    optimizers = [optimizer for optimizer in Optimizer if optimizer.value in trained]
    with styled():
        size = (max(4.8 * len(optimizers), 7.0), 3.4 * len(titles) + 0.9)
        figure = Figure(figsize=size, layout="constrained")
        number = len(titles), len(optimizers)
        axes = figure.subplots(*number, squeeze=False, sharex=True, sharey=True)
        handles: list[Line2D] = []
        for row, (problem, title) in zip(axes, titles.items(), strict=True):
            for axis, optimizer in zip(row, optimizers, strict=True):
                one = (rows["problem"] == problem) & (rows["optimizer"] == optimizer.value)
                handles = panel(axis, rows[one])
                axis.set_title(f"{title}, {optimizer.label}", fontsize="medium")
        for axis in axes[-1]:
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_xlabel("epoch + 1 (log scale)")
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _view(view: View, axis: Axes, rows: pd.DataFrame) -> list[Line2D]:
    handles = []
    low, high = (0.25, 0.75) if view.is_log else (0.0, 1.0)
    for label, (method, size, color) in view.lines.items():
        found = _chosen(rows, method, size).sort_values("epoch")
        epochs = found["epoch"] + 1
        samples = [pd.Series(values) for values in found["samples"]]
        axis.plot(epochs, [s.median() for s in samples], color=color, marker="o", markersize=3)
        below, above = ([s.quantile(q) for s in samples] for q in (low, high))
        axis.fill_between(epochs, below, above, color=color, alpha=0.15, linewidth=0)
        handles.append(Line2D([], [], color=color, marker="o", markersize=3, label=label))
    if view.is_log:
        axis.set_yscale("log")
    else:
        axis.set_ylim(0, 1.02)
    axis.set_ylabel(view.axis)
    return handles


def _curve(axis: Axes, rows: pd.DataFrame) -> list[Line2D]:
    color = COLORBLIND[0]
    for _, row in rows.iterrows():
        trained = row["details"].get("train_accuracy", [])
        axis.plot(range(1, len(row["samples"]) + 1), row["samples"], color=color)
        axis.plot(range(1, len(trained) + 1), trained, color=color, linestyle=":")
    axis.set_ylabel("accuracy")
    test = Line2D([], [], color=color, label="test set")
    return [test, Line2D([], [], color=color, linestyle=":", label="training set")]


SECTION = TrainingOverlapSection("training-overlap")
