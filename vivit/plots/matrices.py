"""The Gram matrix as a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from vivit.errors import InputError
from vivit.plots.arrays import array, axis_or_new

DECADES = 4
"""Below the largest entry: what is smaller has the colour of zero."""

MOST_LINES = 32
"""Between samples; more would hide the picture."""


def gram(matrix: Any, axis: Axes | None = None, *, columns: int | None = None) -> Axes:
    """Draw the absolute values of a Gram matrix, by colours of a logarithmic scale.

    Args:
        matrix: Shape ``[M, M]``, rows and columns ordered ``(n, c)``, as of `GGN.gram`.
        axis: Where to draw; by default in a new figure.
        columns: ``C``, of a sample: lines are drawn between up to 32 samples.

    Returns:
        The axis.

    Raises:
        InputError: The matrix is not square, or `columns` does not divide its size.
    """
    found = np.abs(array("matrix", matrix, 2))
    rows, size = found.shape
    if rows != size:
        raise InputError(f"A Gram matrix is square, got shape {[rows, size]}.")
    if columns is not None and (columns < 1 or size % columns):
        raise InputError(f"columns must divide the size {size} of the matrix, got {columns}.")
    axis = axis_or_new(axis)
    largest = float(found.max()) or 1.0
    scale = LogNorm(largest * 10.0**-DECADES, largest)
    image = axis.imshow(found.clip(scale.vmin), norm=scale, cmap="magma", interpolation="nearest")
    axis.grid(False)
    if columns is not None and size // columns <= MOST_LINES:
        for edge in range(columns, size, columns):
            axis.axhline(edge - 0.5, color="white", linewidth=0.4)
            axis.axvline(edge - 0.5, color="white", linewidth=0.4)
    axis.figure.colorbar(image, ax=axis, label="absolute value (log scale)")
    axis.set_xlabel("column (n, c)")
    axis.set_ylabel("row (n, c)")
    return axis
