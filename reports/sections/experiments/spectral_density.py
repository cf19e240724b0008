"""How eigenvalues are distributed, one panel for each approximation."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.records.record import Quantity
from reports.figures.plot import Plot
from reports.sections.experiments.base import ExperimentSection, problem_titles
from reports.sources.published import VARIANTS
from reports.sources.sources import Sources
from reports.tables.table import Table
from reports.words import labels, units
from vivit.plots import spectral_density, styled
from vivit.plots.spectra import SMALLEST, edges_of

TITLES = {
    "full_batch_exact": "exact, all samples",
    "full_batch_mc": "Monte-Carlo, all samples",
    "frac_batch_exact": "exact, first eighth",
    "frac_batch_mc": "Monte-Carlo, first eighth",
}
HOW_TO_READ = (
    "Each panel is a histogram of all D eigenvalues, both axes logarithmic; each counts 1/D. "
    f"The first bar has all that are below {SMALLEST:g}, most of them exactly zero: the GGN "
    "of a mini-batch has a low rank. Approximations keep the outliers on the right, and lose "
    "small eigenvalues, for their rank is lower."
)
CAPTION = "What the histograms are made of. An eigenvalue counts as nonzero from 1e-4 on."


class SpectralDensitySection(ExperimentSection):
    """A figure for each problem, and a table of all."""

    def tables(self, sources: Sources) -> list[Table]:
        """Ranks and largest eigenvalues."""
        rows = self.of(sources, Quantity.SPECTRUM)
        if not len(rows):
            return []
        titles, spectra = problem_titles(rows), [np.array(x) for x in rows["samples"]]
        sizes = [details.get("num_parameters", 0) for details in rows["details"]]
        large = [int((spectrum >= SMALLEST).sum()) for spectrum in spectra]
        shown = pd.DataFrame(
            {
                "Problem": [titles[problem] for problem in rows["problem"]],
                "Approximation": [TITLES[_variant(row)] for _, row in rows.iterrows()],
                "Batch": [units.integer(n) for n in rows["batch_size"]],
                "Parameters": [f"{size:,}" for size in sizes],
                "Nonzero eigenvalues": [f"{count:,}" for count in large],
                "Largest": [units.significant(float(s.max())) for s in spectra],
            }
        )
        raw = pd.DataFrame({"nonzero": large, "largest": [float(s.max()) for s in spectra]})
        return [Table(self.name, self.title, CAPTION, shown, raw, (*shown.columns[3:],))]

    def figures(self, sources: Sources) -> list[Plot]:
        """Four panels for each problem."""
        rows = self.of(sources, Quantity.SPECTRUM)
        titles, found = problem_titles(rows), []
        for (problem, size), group in rows.groupby(["problem", "batch_size"], sort=False):
            title = f"{self.title}: {titles[problem]}, batch {size}"
            alt = f"{title}. Histograms for {', '.join(TITLES.values())}."
            name = labels.slug(f"{self.name} {problem} {size}")
            found.append(Plot(name, title, HOW_TO_READ, alt, partial(draw, group)))
        return found


def _variant(row: pd.Series) -> str:
    return VARIANTS[row["approximation"], row["subset"]]


def draw(rows: pd.DataFrame) -> Figure:
    """Draw the histograms of a problem.

    Args:
        rows: Its spectra.

    Returns:
        The figure, with a panel for each approximation.
    """
    spectra = {_variant(row): np.array(row["samples"]) for _, row in rows.iterrows()}
    size = int(rows["details"].iloc[0]["num_parameters"])
    edges = edges_of(*spectra.values())
    with styled():
        figure = Figure(figsize=(9.5, 6.0), layout="constrained")
        axes = figure.subplots(2, 2, sharex=True, sharey=True).flatten()
        for axis, (variant, title) in zip(axes, TITLES.items(), strict=True):
            if variant in spectra:
                spectral_density(spectra[variant], size, axis, edges=edges)
            axis.set_title(title, fontsize="medium")
            axis.label_outer()
    return figure


SECTION = SpectralDensitySection("spectral-density")
