"""The spectra themselves: sorted eigenvalues and their density."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.records.record import Quantity, Status
from reports.figures.plot import Plot
from reports.sections.base import Section
from reports.sources.frame import TASK
from reports.sources.sources import Sources
from reports.words import labels, units
from vivit import plots
from vivit.plots import styled

ROUND_OFF = 1e-13
"""Eigenvalues below this fraction of the largest are numerically zero in double precision."""
BINS = 40
STYLES = ("-", "--", ":", "-.")
VARIANTS = ["approximation", "subset", "grouping"]
"""What makes a spectrum another one than that of the GGN as such."""

HOW_TO_READ = (
    "Left: the eigenvalues of the GGN in descending order, both axes logarithmic; a step "
    "after the first few separates the outliers from the bulk. Right: how the same eigenvalues "
    f"are distributed; each counts 1/D, and those below {ROUND_OFF:.0e} of the largest, "
    "numerically zero, are left out of both panels."
)


class Spectra(Section):
    """Spectra in double precision, problem by problem."""

    name = "spectra"
    title = "Spectra"
    question = "What do the eigenvalues look like?"

    def needs(self, sources: Sources) -> pd.DataFrame:
        """Spectra of the plain GGN that have a positive eigenvalue."""
        frame = sources.frame
        found = (frame["quantity"] == Quantity.SPECTRUM.value) & (
            frame["status"] == Status.OK.value
        )
        plain = (frame[VARIANTS] == [TASK[name] for name in VARIANTS]).all(axis=1)
        rows = frame[found & plain]
        return rows[[max(samples) > 0 for samples in rows["samples"]]]

    def figures(self, sources: Sources) -> list[Plot]:
        """A figure for each environment."""
        several = sources.frame["environment"].nunique() > 1
        return [
            _plot(group, str(environment) if several else "")
            for environment, group in self.needs(sources).groupby("environment", sort=False)
        ]


def _plot(frame: pd.DataFrame, setting: str) -> Plot:
    title = labels.titled(Spectra.title, setting)
    largest = [
        f"{labels.problem_label(row['problem'], row['data'])}, batch {row['batch_size']}: "
        f"largest eigenvalue {max(row['samples']):.2e}"
        for _, row in frame.iterrows()
    ]
    return Plot(
        name=labels.slug(f"spectra {setting}"),
        title=title,
        caption=HOW_TO_READ,
        alt=f"{title}: sorted eigenvalues and density. {'; '.join(largest)}.",
        draw=partial(draw, frame),
    )


def draw(frame: pd.DataFrame) -> Figure:
    """Draw the spectra, one row per problem, one line per batch size.

    Args:
        frame: Measurements, at least one of them a spectrum.

    Returns:
        The figure: eigenvalues by rank on the left, their density on the right.
    """
    values = eigenvalues(frame)
    names = list(dict.fromkeys(values["problem"]))
    series = list(dict.fromkeys(values["series"]))
    colors = dict(zip(series, sns.color_palette("viridis", len(series)), strict=True))
    with styled():
        figure = Figure(figsize=(11.5, 0.4 + 3.2 * len(names)), layout="constrained")
        axes = figure.subplots(len(names), 2, squeeze=False)
        for row, name in zip(axes, names, strict=True):
            facet = values[values["problem"] == name]
            present = [s for s in series if s in set(facet["series"])]
            _sorted(row[0], facet, present, colors)
            _density(row[1], facet, present, colors)
            row[0].set_title(f"{name}: sorted eigenvalues")
            row[1].set_title(f"{name}: density")
    return figure


def eigenvalues(frame: pd.DataFrame) -> pd.DataFrame:
    """The eigenvalues above round-off.

    Args:
        frame: Measurements.

    Returns:
        One row per eigenvalue: `problem`, `series` (batch size, and method unless it is the
        reference), `rank` (1 is the largest), `eigenvalue`, and `weight`, one over the number of
        parameters (over the number of recorded eigenvalues where that is not known).
    """
    rows = frame[
        (frame["quantity"] == Quantity.SPECTRUM.value) & (frame["status"] == Status.OK.value)
    ]
    rows = rows.sort_values("batch_size", kind="stable")
    parts = [_positive(row) for _, row in rows.iterrows()]
    columns = ["problem", "series", "rank", "eigenvalue", "weight"]
    if not parts:
        return pd.DataFrame(columns=columns)
    unique = pd.concat(parts, ignore_index=True)[columns]
    return unique.drop_duplicates(["problem", "series", "rank"])


def _positive(row: pd.Series) -> pd.DataFrame:
    values = np.sort(np.asarray(row["samples"], dtype=float))[::-1]
    values = values[values > ROUND_OFF * max(values[0], 0.0)]
    series = f"batch {units.integer(row['batch_size'])}"
    if row["method"] != labels.REFERENCE:
        series += f", {labels.method_label(row['method'])}"
    parameters = row["details"].get("num_parameters")
    count = parameters if isinstance(parameters, int) else len(row["samples"])
    return pd.DataFrame(
        {
            "problem": labels.problem_label(row["problem"], row["data"]),
            "series": series,
            "rank": np.arange(1, len(values) + 1),
            "eigenvalue": values,
            "weight": 1 / count,
        }
    )


def _sorted(
    axes: Axes,
    values: pd.DataFrame,
    series: list[str],
    colors: dict[str, tuple[float, float, float]],
) -> None:
    for name, style in zip(series, itertools.cycle(STYLES), strict=False):
        own = values[values["series"] == name]["eigenvalue"]
        plots.eigenvalues(own, axes, label=name, color=colors[name], style=style)
    axes.legend(title=None, loc="lower left")


def _density(
    axes: Axes,
    values: pd.DataFrame,
    series: list[str],
    colors: dict[str, tuple[float, float, float]],
) -> None:
    sns.histplot(
        data=values,
        x="eigenvalue",
        weights="weight",
        hue="series",
        hue_order=series,
        palette=colors,
        log_scale=(True, False),
        bins=BINS,
        element="step",
        fill=True,
        alpha=0.25,
        legend=False,
        ax=axes,
    )
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(bottom=values["weight"].min() / 2)
    axes.set(xlabel="eigenvalue", ylabel="share of the D eigenvalues")


SECTION = Spectra()
