"""Eigenvalues, one by one and as a density."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from vivit.errors import InputError
from vivit.plots.arrays import array, axis_or_new
from vivit.plots.style import COLORBLIND

BINS = 29
SMALLEST = 1e-4
"""Dangel, Tatzel, Hennig (TMLR 2022), spectral densities: 30 edges from 1e-4 to the largest."""


def eigenvalues(
    values: Any,
    axis: Axes | None = None,
    *,
    label: str | None = None,
    color: Any = COLORBLIND[0],
    style: Any = "-",
) -> Axes:
    """Draw eigenvalues in descending order, both axes logarithmic.

    A step after the first few separates the outliers from the bulk.

    Args:
        values: Shape ``[K]``, in any order. Those that are not positive are left out.
        axis: Where to draw; by default in a new figure.
        label: For a legend.
        color: Of the line, as matplotlib takes it.
        style: Of the line, as matplotlib takes it.

    Returns:
        The axis.

    Raises:
        InputError: There is no positive eigenvalue, or the shape is another one.
    """
    found = array("values", values, 1)
    ordered = np.sort(found[found > 0])[::-1]
    if not len(ordered):
        raise InputError("Eigenvalues are drawn on a logarithmic axis, and none is positive.")
    axis = axis_or_new(axis)
    ranks = np.arange(1, len(ordered) + 1)
    axis.plot(ranks, ordered, color=color, linestyle=style, label=label)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("rank (1 = largest)")
    axis.set_ylabel("eigenvalue")
    return axis


def spectral_density(
    values: Any,
    size: int,
    axis: Axes | None = None,
    *,
    edges: Any = None,
    label: str | None = None,
    color: str = COLORBLIND[0],
    outline: bool = False,
) -> Axes:
    """Draw a histogram of all eigenvalues of a matrix, both axes logarithmic.

    Args:
        values: Shape ``[K]``: the eigenvalues that are not zero for lack of columns, as of
            `GGN.eigvalsh`. The ``size - K`` others count as zeros.
        size: ``D``, of the matrix.
        axis: Where to draw; by default in a new figure.
        edges: Of the bins, ascending; what is below the first edge, zeros among it, is counted in
            the first bin, what is above the last edge in the last bin. By default 30 from 1e-4
            to the largest eigenvalue.
        label: For a legend.
        color: Of the bars.
        outline: Whether only their outline is drawn, for a second spectrum on the same axis.

    Returns:
        The axis.

    Raises:
        InputError: A shape is another one, or there are more eigenvalues than `size`.
    """
    found = array("values", values, 1)
    if len(found) > size:
        raise InputError(
            f"A matrix of size {size} has as many eigenvalues at most, got {len(found)}: size is "
            "the number of parameters, shape[0] of the GGN."
        )
    bins = edges_of(found) if edges is None else array("edges", edges, 1)
    padded = np.concatenate([np.zeros(size - len(found)), found]).clip(bins[0], bins[-1])
    axis = axis_or_new(axis)
    axis.hist(
        padded,
        bins.tolist(),
        weights=np.full(size, 1 / size),
        color=color,
        label=label,
        histtype="step" if outline else "bar",
    )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_ylim(0.4 / size, 1.5)  # the bar of a single eigenvalue can be seen
    axis.set_xlabel("eigenvalue (log scale)")
    axis.set_ylabel("share of all (log scale)")
    return axis


def edges_of(*spectra: np.ndarray) -> np.ndarray:
    """Edges of the bins in which spectra can be compared.

    Args:
        *spectra: Eigenvalues, shape ``[K]`` each.

    Returns:
        From `SMALLEST` to the largest of all, in equal steps of the logarithm.
    """
    largest = max(float(spectrum.max()) for spectrum in spectra)
    return np.geomspace(SMALLEST, max(largest, 10 * SMALLEST), BINS + 1)
