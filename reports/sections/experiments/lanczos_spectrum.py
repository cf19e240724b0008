"""Exact spectra, and what Lanczos and a diagonal show of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.records.record import Quantity
from reports.figures.plot import Plot
from reports.sections.base import Words
from reports.sections.experiments.base import ExperimentSection, moments_of
from reports.sources.sources import Sources
from reports.tables.table import Table
from reports.words import units
from vivit.plots import spectral_density, styled
from vivit.plots.spectra import SMALLEST, edges_of
from vivit.plots.style import COLORBLIND

EXACT = "gram"
TITLES = {
    EXACT: "exact (vivit)",
    "lanczos_ggn": "Lanczos on the GGN",
    "lanczos_hessian": "Lanczos on the Hessian",
    "diagonal": "Monte-Carlo diagonal",
}
SAME = 1e-3
"""Relative distance up to which Ritz values count as one: without reorthogonalization, Lanczos
finds leading eigenvalues again and again."""

HOW_TO_READ = (
    "Grey in each panel: all D eigenvalues of the GGN of one mini-batch, both axes logarithmic; "
    f"the first bar has all below {SMALLEST:g}, zeros among them. A stem is a Ritz value of 100 "
    "Lanczos steps from one random vector, as high as the share of all eigenvalues that it stands "
    "for; negative ones, which only the Hessian has, are drawn at their size. The diagonal is "
    "that of the GGN with one Monte-Carlo sample, as a histogram of its D entries."
)
SHOWS = f"Panels for {', '.join(TITLES.values())}."
CAPTION = (
    "“Told apart”: eigenvalues above 1e-4, of Lanczos Ritz values that differ by more than a "
    "thousandth. “Share” is the share of all eigenvalues that lie above 1e-4. The distance is the "
    "Wasserstein-1 distance to the exact spectrum in units of its mean: nothing but zeros would "
    "have 1; of Lanczos the median (smallest to largest) over random vectors. The Hessian is "
    "another matrix: its distance says how different both are."
)


@dataclass(frozen=True)
class Network:
    """Spectra of a network at one moment.

    Attributes:
        epoch: The moment.
        exact: Eigenvalues that are not zero for lack of columns.
        size: ``D``.
        others: By method: samples and details.
    """

    epoch: float
    exact: np.ndarray
    size: int
    others: dict[str, tuple[np.ndarray, dict[str, Any]]]

    @classmethod
    def of(cls, epoch: float, rows: pd.DataFrame) -> Network:
        """Read the measurements of a network at one moment.

        Args:
            epoch: The moment.
            rows: The exact spectrum among them.
        """
        found = {
            str(row["method"]): (np.array(row["samples"]), row["details"])
            for _, row in rows.iterrows()
        }
        exact, details = found.pop(EXACT)
        return cls(epoch, exact, details["num_parameters"], found)

    @property
    def mean(self) -> float:
        """Of all eigenvalues."""
        return float(self.exact.sum() / self.size)

    def distances(self, method: str) -> list[float]:
        """Of the runs of a method, relative to the mean."""
        return [d / self.mean for d in self.others[method][1]["distances"]]

    def in_numbers(self, method: str) -> tuple[int | None, float, float]:
        """How many are told apart, their share, and the largest."""
        if method == EXACT:
            count = int((self.exact >= SMALLEST).sum())
            return count, count / self.size, float(self.exact.max())
        values, details = self.others[method]
        if method == "diagonal":
            above = float(values[np.array(details["edges"])[:-1] >= SMALLEST].sum())
            return None, above / values.sum(), float(details["largest"])
        is_above = values >= SMALLEST
        share = float(np.array(details["weights"])[is_above].sum())
        return told_apart(values[is_above]), share, float(values.max())


def told_apart(values: np.ndarray) -> int:
    """How many positive values differ by more than rounding.

    Args:
        values: Shape ``[K]``.

    Returns:
        Their number, neighbours within `SAME` counted as one.
    """
    if not len(values):
        return 0
    ordered = np.sort(values)
    return 1 + int((np.diff(ordered) > SAME * ordered[1:]).sum())


class LanczosSpectrumSection(ExperimentSection):
    """A table of all, and a figure for each problem."""

    def answers(self, sources: Sources) -> list[Words]:
        """How near Lanczos comes, and how many eigenvalues it sees."""
        points = [
            f"{title}, epoch {found.epoch:g}: of {exact} eigenvalues above {SMALLEST:g}, Lanczos "
            f"tells {seen} apart; its distance from the exact spectrum is "
            f"{units.significant(float(np.median(found.distances('lanczos_ggn'))))}."
            for title, found in self._networks(sources)
            if "lanczos_ggn" in found.others
            for exact, seen in [(found.in_numbers(EXACT)[0], found.in_numbers("lanczos_ggn")[0])]
        ]
        return self.in_short(points)

    def tables(self, sources: Sources) -> list[Table]:
        """A row for each spectrum."""
        shown, raw = [], []
        for title, found in self._networks(sources):
            for method in TITLES:
                if method == EXACT or method in found.others:
                    row, numbers = _row(title, found, method)
                    shown.append(row)
                    raw.append(numbers)
        return self.table(CAPTION, shown, raw, 3)

    def figures(self, sources: Sources) -> list[Plot]:
        """A row of panels for each moment."""
        networks: dict[str, list[Network]] = {}
        for title, found in self._networks(sources):
            networks.setdefault(title, []).append(found)
        return [
            self.plot(title, HOW_TO_READ, SHOWS, partial(draw, found))
            for title, found in networks.items()
        ]

    def _networks(self, sources: Sources) -> list[tuple[str, Network]]:
        return [
            (title, Network.of(epoch, rows))
            for title, epoch, rows in moments_of(self.of(sources, Quantity.SPECTRUM))
            if (rows["method"] == EXACT).any()
        ]


def _row(title: str, found: Network, method: str) -> tuple[dict[str, str], dict[str, float]]:
    count, share, largest = found.in_numbers(method)
    distances = [] if method == EXACT else found.distances(method)
    shown = {
        "Problem": title,
        "Epoch": f"{found.epoch:g}",
        "Spectrum": TITLES[method],
        "Told apart": units.NOTHING if count is None else f"{count:,}",
        "Share": f"{units.significant(100 * share)}%",
        "Largest": units.significant(largest),
        "Distance": _spread(distances),
    }
    middle = float(np.median(distances)) if distances else 0.0
    return shown, {"share": share, "largest": largest, "distance": middle}


def _spread(distances: list[float]) -> str:
    if not distances:
        return units.NOTHING
    middle = units.significant(float(np.median(distances)))
    if len(distances) == 1:
        return middle
    low, high = (units.significant(x) for x in (min(distances), max(distances)))
    return f"{middle} ({low} to {high})"


def draw(networks: list[Network]) -> Figure:
    """Draw what was seen of a network's spectra.

    Args:
        networks: At several moments.

    Returns:
        The figure: a row for each moment.
    """
    with styled():
        figure = Figure(figsize=(10.5, 3.1 * len(networks) + 0.6), layout="constrained")
        axes = figure.subplots(len(networks), 3, squeeze=False, sharey=True)
        for row, found in zip(axes, networks, strict=True):
            for axis, method in zip(row, (m for m in TITLES if m != EXACT), strict=True):
                _panel(axis, found, method)
                axis.set_title(f"epoch {found.epoch:g}: {TITLES[method]}", fontsize="medium")
                axis.label_outer()
    return figure


def _panel(axis: Axes, found: Network, method: str) -> None:
    spectral_density(
        found.exact, found.size, axis, edges=edges_of(found.exact), color="0.75", label="exact"
    )
    if method not in found.others:
        return
    values, details = found.others[method]
    if method == "diagonal":
        edges = np.array(details["edges"])
        bins = np.append(SMALLEST, edges[edges > SMALLEST])
        middle = np.sqrt(edges[1:] * edges[:-1]).clip(SMALLEST)
        shares, _ = np.histogram(middle, bins, weights=values / values.sum())
        axis.stairs(shares, bins, color=COLORBLIND[3], linewidth=1.5, label="diagonal")
    else:
        weights = np.array(details["weights"])
        for chosen, color, label in (
            (values > 0, COLORBLIND[0], "Ritz values"),
            (values < 0, COLORBLIND[1], "negative (size)"),
        ):
            sizes = np.abs(values[chosen]).clip(SMALLEST)
            if chosen.any() and (label == "Ritz values" or method == "lanczos_hessian"):
                axis.vlines(sizes, 1e-9, weights[chosen], color=color, linewidth=0.8)
                axis.plot(sizes, weights[chosen], "o", color=color, markersize=3, label=label)
    axis.legend(frameon=False, fontsize="small", loc="upper right")


SECTION = LanczosSpectrumSection("lanczos-spectrum")
