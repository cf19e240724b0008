"""Time against accuracy of power iteration, beside the published study."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.records.record import Quantity
from reports.figures.plot import Plot
from reports.figures.scales import label_times
from reports.sections.experiments.base import PAPER, ExperimentSection, problem_titles
from reports.sources.published import tolerance_study
from reports.sources.sources import Sources
from reports.words.labels import OURS
from vivit.plots.style import COLORBLIND, styled

HOW_TO_READ = (
    "Each symbol is a tolerance of power iteration; the star is vivit. Further left is more "
    "accurate, lower is faster. The error is the mean of |true - found| / |found| over the "
    "leading eigenvalues in the published study, relative to the true ones here. Times are "
    "medians here, minima of 20 repeats there. A smaller tolerance costs more."
)
FLOOR = 1e-7
"""Errors below are those of single precision; they are drawn here."""


class PowerToleranceSection(ExperimentSection):
    """One figure, with a panel for what was measured here and one for the paper."""

    beside = PAPER

    def figures(self, sources: Sources) -> list[Plot]:
        """Time over error."""
        panels = {**_here(self.of(sources, Quantity.TIME, Quantity.ACCURACY))}
        if not panels:
            return []
        panels["CIFAR-10 3c3d, batch 128, k = 10\npublished, GPU"] = _published()
        alt = f"{self.title}: time over error for {'; '.join(panels)}."
        return [Plot(self.name, self.title, HOW_TO_READ, alt, partial(draw, panels))]


def _here(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Title -> error, seconds and whether it is ours."""
    titles, found = problem_titles(rows), {}
    for _, group in rows.groupby("cell", sort=False):
        first = group.iloc[0]
        checked = group[group["quantity"] == Quantity.ACCURACY.value].set_index("method")
        timed = group[group["quantity"] == Quantity.TIME.value].set_index("method")
        both = [method for method in timed.index if method in checked.index]
        points = pd.DataFrame(
            {
                "error": [checked.loc[m, "details"].get("mean_error", np.nan) for m in both],
                "seconds": [timed.loc[m, "value"] for m in both],
                "is_ours": [method == OURS for method in both],
            }
        )
        title = f"{titles[first['problem']]}, batch {first['batch_size']}, k = {first['k']}\nhere"
        found[title] = points.dropna()
    return found


def _published() -> pd.DataFrame:
    table = tolerance_study("tol")
    values = {
        i: np.array(text.split(), dtype=float)
        for i, text in table["eigenvalues_ascending"].items()
    }
    exact = values[table.index[table["method"] == "full_batch_exact"][0]]
    rows = table[table["method"].isin(["full_batch_exact", "full_batch_exact_power"])]
    return pd.DataFrame(
        {
            "error": [
                float(np.mean(np.abs(exact - values[i]) / np.abs(values[i]))) for i in rows.index
            ],
            "seconds": [*rows["min_s"]],
            "is_ours": [*(rows["method"] == "full_batch_exact")],
        }
    )


def draw(panels: dict[str, pd.DataFrame]) -> Figure:
    """Draw time over error, on logarithmic axes.

    Args:
        panels: Title -> points.

    Returns:
        The figure, its panels side by side.
    """
    with styled():
        figure = Figure(figsize=(max(4.8 * len(panels), 7.0), 4.2), layout="constrained")
        for axis, (title, points) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
            for is_ours, group in points.groupby("is_ours"):
                axis.plot(
                    group["error"].clip(lower=FLOOR),
                    group["seconds"],
                    linestyle="",
                    marker="*" if is_ours else "o",
                    markersize=13 if is_ours else 6,
                    color=COLORBLIND[0] if is_ours else COLORBLIND[2],
                    label="vivit" if is_ours else "power iteration",
                )
            axis.set_xscale("log")
            axis.set_yscale("log")
            label_times(axis)
            axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0e}")
            axis.set_title(title, fontsize="medium")
            axis.set_xlabel(f"error of the eigenvalues (log; at least {FLOOR:.0e})")
            axis.set_ylabel("time (log scale)")
            if len(points):
                axis.legend(frameon=False)
    return figure


SECTION = PowerToleranceSection("power-tolerance")
