"""Trainings with and without curvature: losses over steps and over seconds."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.records.record import Quantity
from benchmarks.training.curvature import (
    CURVATURES,
    BootstrapNewton,
    LanczosNewton,
    Newton,
)
from benchmarks.training.recipe import Optimizer
from reports.figures.plot import Plot
from reports.sections.base import Words
from reports.sections.experiments.base import ExperimentSection, problem_titles, seconds_of
from reports.sources.sources import Sources
from reports.tables.table import Table
from reports.words import units
from vivit.plots.style import COLORBLIND, styled

LABELS = {kind.value: kind.label for kind in (*Optimizer, *CURVATURES)}
LINES = {
    Optimizer.SGD.value: (COLORBLIND[7], "s"),
    Optimizer.ADAM.value: (COLORBLIND[1], "^"),
    Newton.value: (COLORBLIND[0], "o"),
    BootstrapNewton.value: (COLORBLIND[2], "D"),
    LanczosNewton.value: (COLORBLIND[4], "v"),
}
"""Colour and marker."""

FIRST_ORDER = tuple(optimizer.value for optimizer in Optimizer)

OUTSIDE = (
    "A Newton step in the leading directions, as many as classes, does nothing about what the "
    "gradient has outside of their span. With all directions of the mini-batch, nothing of it is "
    "outside. A Lanczos step is one of gradient descent outside of its space, in which the "
    "gradient lies if the iteration begins with it."
)
CAPTION = (
    "Of each optimizer the setting with the lowest training loss in the end. “Learnt” counts the "
    "settings that more than halved the loss, among those that were tried. Times are of the "
    f"steps alone, with no look at the losses; that of a step is a median over epochs. {OUTSIDE}"
)
HOW_TO_READ = (
    "Loss of the training set after each epoch, of each optimizer in its best setting; lower is "
    "better. Left: over the steps, which have the same mini-batches for all. Right: over the "
    "seconds that these steps took, from the end of the first epoch on; a line further left is "
    "faster. Logarithmic, but for the steps."
)


class SecondOrderTrainingSection(ExperimentSection):
    """A table of the best settings, and a figure of their losses."""

    def answers(self, sources: Sources) -> list[Words]:
        """Whether curvature pays, per step and per second."""
        rows = _tabulated(self.of(sources, Quantity.TEST_ACCURACY))
        titles, best = problem_titles(rows), _best(rows)
        points = []
        for problem, title in titles.items():
            of_problem = best[best["problem"] == problem].sort_values("loss")
            is_first = of_problem["method"].isin(FIRST_ORDER)
            without, curved = of_problem[is_first], of_problem[~is_first]
            if len(without) and len(curved):
                points.append(_sentences(title, curved, without))
        return self.in_short(points)

    def tables(self, sources: Sources) -> list[Table]:
        """The best setting of each optimizer."""
        rows = _tabulated(self.of(sources, Quantity.TEST_ACCURACY))
        best = _best(rows)
        if not len(best):
            return []
        titles = problem_titles(rows)
        found = list(best.to_dict("records"))
        raw = best[["loss", "accuracy", "seconds", "step_seconds"]]
        shown = pd.DataFrame(
            {
                "Problem": [titles[row["problem"]] for row in found],
                "Optimizer": [LABELS[row["method"]] for row in found],
                "Best setting": [setting_text(row["parameters"]) for row in found],
                "Learnt": [f"{row['learnt']} of {row['tried']}" for row in found],
                "Training loss": [units.significant(row["loss"]) for row in found],
                "Test accuracy": [_percent(row["accuracy"]) for row in found],
                "Time": [seconds_of(row["seconds"]) for row in found],
                "Time per step": [seconds_of(row["step_seconds"]) for row in found],
            }
        )
        measured = (*shown.columns[4:],)
        return [
            Table(self.name, self.title, CAPTION, shown, raw, measured, wrapped=("Best setting",))
        ]

    def figures(self, sources: Sources) -> list[Plot]:
        """Losses over steps and over seconds."""
        rows = _tabulated(self.of(sources, Quantity.TEST_ACCURACY))
        best = _best(rows)
        if not len(best):
            return []
        titles = problem_titles(best)
        names = ", ".join(titles.values())
        alt = f"{self.title}: training loss over steps and over seconds for {names}."
        return [Plot(self.name, self.title, HOW_TO_READ, alt, partial(draw, best, titles))]


def setting_text(parameters: dict[str, Any]) -> str:
    """A setting, for a table.

    Args:
        parameters: Of a record.

    Returns:
        Such as "damping 1, all directions"; a learning rate of 1 is not said of steps that have
        other settings.
    """
    found = []
    if "damping" in parameters:
        found.append(f"damping {parameters['damping']:g}")
    if "directions" in parameters:
        found.append(f"{parameters['directions']} directions")
    if "iterations" in parameters:
        start = {"random": "a random vector", "gradient": "the gradient"}[parameters["start"]]
        found.append(f"{parameters['iterations']} products from {start}")
    if not found or parameters["learning_rate"] != 1:
        found.append(f"learning rate {parameters['learning_rate']:g}")
    return ", ".join(found)


def _percent(share: float | None) -> str:
    return units.NOTHING if share is None or pd.isna(share) else f"{100 * share:.1f}%"


def _tabulated(rows: pd.DataFrame) -> pd.DataFrame:
    """Final loss (NaN where there is none), accuracy and times of each training."""
    columns = ("loss", "accuracy", "seconds", "step_seconds", "has_learnt")
    facts = pd.DataFrame([_facts(row) for _, row in rows.iterrows()], columns=columns)
    return pd.concat([rows, facts], axis=1)


def _facts(row: pd.Series) -> tuple[float | None, float | None, float, float, bool]:
    details = row["details"]
    losses, clock = details["train_loss"], pd.Series(details["seconds"], dtype=float)
    is_known = details["diverged"] is None
    loss = losses[-1] if is_known else None
    accuracy = row["samples"][-1] if is_known and details["is_accuracy"] else None
    of_step = clock.diff().median() / details["steps_per_epoch"]
    has_learnt = is_known and losses[-1] < losses[0] / 2
    return loss, accuracy, float(clock.max()), float(of_step), has_learnt


def _best(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each problem and optimizer the training with the lowest loss in the end.

    An optimizer all of whose trainings diverged is left out.
    """
    groups = rows.groupby(["problem", "method"])
    counted = rows.assign(
        tried=groups["loss"].transform("size"), learnt=groups["has_learnt"].transform("sum")
    )
    counted = counted[counted["loss"].notna()].sort_values("loss", kind="stable")
    best = counted.groupby(["problem", "method"]).head(1)
    order = pd.DataFrame(
        {
            "problem": best["problem"].map({p: n for n, p in enumerate(rows["problem"].unique())}),
            "method": best["method"].map({m: n for n, m in enumerate(LABELS)}),
        }
    )
    return best.loc[order.sort_values(["problem", "method"]).index].reset_index(drop=True)


def _sentences(title: str, curved: pd.DataFrame, without: pd.DataFrame) -> str:
    """The best with curvature beside the best without.

    Args:
        title: Of the problem.
        curved: The best training of each optimizer with curvature, ascending by the final loss.
        without: Of each one without.

    Returns:
        Their final losses, and how many steps and seconds it takes to the larger of the two.
    """
    target = max(curved["loss"].iloc[0], without["loss"].iloc[0])
    details = curved["details"].iloc[0]
    count = (len(details["train_loss"]) - 1) * details["steps_per_epoch"]
    (loss, name), (other_loss, other_name) = (
        (units.significant(rows["loss"].iloc[0]), LABELS[rows["method"].iloc[0]])
        for rows in (curved, without)
    )
    (steps, fastest), (other_steps, other_fastest) = (
        _least(rows, target) for rows in (curved, without)
    )
    return (
        f"{title}, {count} steps: the lowest training loss with curvature is {loss} ({name}), "
        f"without {other_loss} ({other_name}). A loss of {units.significant(target)} takes "
        f"{steps} steps with curvature, {other_steps} without; and {fastest}, without "
        f"{other_fastest}."
    )


def _least(rows: pd.DataFrame, target: float) -> tuple[int, str]:
    """Steps, and seconds and who takes no more, until a loss is reached.

    Looked at after each epoch.
    """
    steps, seconds = [], []
    for _, row in rows.iterrows():
        details = row["details"]
        reached = [n for n, loss in enumerate(details["train_loss"]) if loss <= target]
        if reached:
            steps.append(reached[0] * details["steps_per_epoch"])
            seconds.append((details["seconds"][reached[0]], LABELS[row["method"]]))
    time, name = min(seconds)
    return min(steps), f"{seconds_of(time)} ({name})"


def draw(rows: pd.DataFrame, titles: dict[str, str]) -> Figure:
    """Draw losses over steps and over seconds.

    Args:
        rows: The best training of each problem and optimizer.
        titles: Names of the problems.

    Returns:
        The figure, with a row of two panels for each problem.
    """
    with styled():
        figure = Figure(figsize=(9.5, 3.3 * len(titles) + 0.9), layout="constrained")
        axes = figure.subplots(len(titles), 2, squeeze=False, sharex="col", sharey="row")
        for pair, (problem, title) in zip(axes, titles.items(), strict=True):
            _panels(pair[0], pair[1], rows[rows["problem"] == problem])
            pair[0].set_title(f"{title}, over steps", fontsize="medium")
            pair[1].set_title(f"{title}, over seconds", fontsize="medium")
        axes[-1][0].set_xlabel("step")
        axes[-1][1].set_xlabel("time of the steps (log scale)")
        handles = [
            Line2D([], [], color=color, marker=marker, markersize=4, label=LABELS[method])
            for method, color, marker in _drawn(rows)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _drawn(rows: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    """Optimizers that there are, with colour and marker."""
    present = {*rows["method"]}
    return ((name, *line) for name, line in LINES.items() if name in present)


def _panels(steps: Axes, seconds: Axes, rows: pd.DataFrame) -> None:
    for method, color, marker in _drawn(rows):
        details = rows.loc[rows["method"] == method, "details"].iloc[0]
        losses, clock = details["train_loss"], details["seconds"]
        counts = [epoch * details["steps_per_epoch"] for epoch in range(len(losses))]
        style: dict[str, Any] = {"color": color, "marker": marker, "markersize": 4}
        steps.plot(counts, losses, **style)
        seconds.plot(clock[1:], losses[1:], **style)
    steps.set_yscale("log")
    steps.set_ylabel("training loss (log scale)")
    seconds.set_xscale("log")
    seconds.xaxis.set_major_formatter(lambda value, _: units.tick_seconds(value))


SECTION = SecondOrderTrainingSection("second-order-training")
