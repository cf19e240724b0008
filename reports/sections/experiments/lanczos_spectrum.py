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

EXACT, LANCZOS, DIAGONAL = "gram", "lanczos_ggn", "diagonal"
TITLES = {
    EXACT: "exact (vivit)",
    "lanczos_ggn": "Lanczos on the GGN",
    "lanczos_hessian": "Lanczos on the Hessian",
    "diagonal": "Monte-Carlo diagonal",
}
NEAR = 1e-3
"""Relative distance from an eigenvalue within which a Ritz value has found it."""

HOW_TO_READ = (
    "Grey in each panel: all D eigenvalues of the GGN of one mini-batch, both axes logarithmic; "
    f"the first bar has all below {SMALLEST:g}, zeros among them. A stem is a Ritz value of 100 "
    "Lanczos steps from one random vector, as high as the share of all eigenvalues that it stands "
    f"for; the stem at {SMALLEST:g} has all whose size is smaller. Negative ones, which only the "
    "Hessian has, are drawn at their size. The diagonal is that of the GGN with one Monte-Carlo "
    "sample, as a histogram of its D entries."
)
SHOWS = f"Panels for {', '.join(TITLES.values())}."
CAPTION = (
    f"“Above {SMALLEST:g}” counts eigenvalues, and “found” those that have a Ritz value within a "
    "thousandth of them: of 100 Ritz values, several lie at each of the largest, and others at "
    f"none. “Share” is the share of all eigenvalues that lie above {SMALLEST:g}, or that Ritz "
    "values stand for. The distance is the Wasserstein-1 distance to the exact spectrum in units "
    "of its mean: nothing but zeros would have 1; of Lanczos the median (smallest to largest) "
    "over random vectors. The Hessian is another matrix: its distance says how different both are."
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

    @property
    def above(self) -> np.ndarray:
        """The exact eigenvalues that count."""
        return self.exact[self.exact >= SMALLEST]

    def found(self, method: str) -> int | None:
        """How many of these Lanczos finds; None where it is about something else."""
        return number_found(self.above, self.others[method][0]) if method == LANCZOS else None

    def share(self, method: str) -> float:
        """Of all eigenvalues, above what counts."""
        if method == EXACT:
            return len(self.above) / self.size
        values, details = self.others[method]
        if method == DIAGONAL:
            return float(details["above"] / values.sum())
        return float(np.array(details["weights"])[values >= SMALLEST].sum())

    def largest(self, method: str) -> float:
        """The largest value."""
        if method == EXACT:
            return float(self.exact.max())
        values, details = self.others[method]
        return float(details["largest"] if method == DIAGONAL else values.max())


def number_found(eigenvalues: np.ndarray, ritz_values: np.ndarray) -> int:
    """How many eigenvalues have a Ritz value within `NEAR` of them, relative to their size.

    Args:
        eigenvalues: Positive, shape ``[K]``.
        ritz_values: Shape ``[M]``.

    Returns:
        Their number.
    """
    gaps = np.abs(eigenvalues[:, None] - ritz_values[None, :])
    return int((gaps <= NEAR * eigenvalues[:, None]).any(axis=1).sum())


class LanczosSpectrumSection(ExperimentSection):
    """A table of all, and a figure for each problem."""

    def answers(self, sources: Sources) -> list[Words]:
        """How near Lanczos comes at the latest moment, and how many eigenvalues it finds."""
        latest = dict(self._networks(sources))
        points = [
            f"{title}, epoch {network.epoch:g}: of {len(network.above)} eigenvalues above "
            f"{SMALLEST:g}, 100 Lanczos steps find {network.found(LANCZOS)}; their distance from "
            "the exact spectrum, of whose mean nothing but zeros is 1 away, is "
            f"{units.significant(float(np.median(network.distances(LANCZOS))))}."
            for title, network in latest.items()
            if LANCZOS in network.others
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


def _row(title: str, network: Network, method: str) -> tuple[dict[str, str], dict[str, float]]:
    share, largest = network.share(method), network.largest(method)
    found = network.found(method)
    distances = [] if method == EXACT else network.distances(method)
    shown = {
        "Problem": title,
        "Epoch": f"{network.epoch:g}",
        "Spectrum": TITLES[method],
        f"Above {SMALLEST:g}": f"{len(network.above):,}" if method == EXACT else units.NOTHING,
        "Found": units.NOTHING if found is None else f"{found:,}",
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


def _panel(axis: Axes, network: Network, method: str) -> None:
    edges = edges_of(network.exact)
    spectral_density(network.exact, network.size, axis, edges=edges, color="0.75", label="exact")
    if method not in network.others:
        return
    values, details = network.others[method]
    if method == DIAGONAL:
        shares = values / values.sum()
        axis.stairs(shares, details["edges"], color=COLORBLIND[3], lw=1.5, label="diagonal")
    else:
        weights, is_small = np.array(details["weights"]), np.abs(values) < SMALLEST
        _stems(axis, values, weights, (values > 0) & ~is_small, COLORBLIND[0], "Ritz values")
        _stems(axis, values, weights, (values < 0) & ~is_small, COLORBLIND[1], "negative (size)")
        below = np.array([SMALLEST]), weights[is_small].sum(keepdims=True)
        _stems(axis, *below, np.array([is_small.any()]), COLORBLIND[0], None)
    axis.legend(frameon=False, fontsize="small", loc="upper right")


def _stems(
    axis: Axes,
    values: np.ndarray,
    weights: np.ndarray,
    chosen: np.ndarray,
    color: str,
    label: str | None,
) -> None:
    """A line and a dot for each value that is chosen, at its size."""
    if chosen.any():
        sizes = np.abs(values[chosen])
        axis.vlines(sizes, 1e-9, weights[chosen], color=color, linewidth=0.8)
        axis.plot(sizes, weights[chosen], "o", color=color, markersize=3, label=label)


SECTION = LanczosSpectrumSection("lanczos-spectrum")
