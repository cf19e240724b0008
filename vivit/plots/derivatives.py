"""Slope and curvature along eigenvectors, and how much samples agree about them."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from vivit.errors import InputError
from vivit.plots.arrays import array, axis_or_new, same_shape
from vivit.plots.style import COLORBLIND

SLOPE, CURVATURE = COLORBLIND[3], COLORBLIND[0]


def gradient_curvature(
    slopes: Any, curvatures: Any, axis: Axes | None = None, *, leading: int | None = None
) -> Axes:
    """Draw the size of the slope over the curvature, a symbol for each direction.

    Args:
        slopes: Shape ``[K]``, such as ``gammas.mean(0)`` of directional derivatives.
        curvatures: Shape ``[K]``, such as the eigenvalues of these directions.
        axis: Where to draw; by default in a new figure.
        leading: How many of the directions of largest curvature are filled; by default all.

    Returns:
        The axis. Directions in which either vanishes are left out, for both axes are logarithmic.

    Raises:
        InputError: Shapes differ, or `leading` is negative.
    """
    given, along = array("slopes", slopes, 1), array("curvatures", curvatures, 1)
    same_shape("slopes", given, "curvatures", along)
    is_leading = _are_leading(along, leading)
    axis = axis_or_new(axis)
    _scatter(axis, along, np.abs(given), is_leading, SLOPE, None)
    axis.set_xlabel("curvature (log scale)")
    axis.set_ylabel("size of the slope (log scale)")
    return axis


def signal_to_noise(
    curvatures: Any,
    of_slopes: Any,
    of_curvatures: Any,
    axis: Axes | None = None,
    *,
    leading: int | None = None,
) -> Axes:
    """Draw signal-to-noise ratios of slope and curvature between samples.

    Below the dashed line at 1, samples disagree by more than they have in common.

    Args:
        curvatures: Shape ``[K]``, of the directions.
        of_slopes: Shape ``[K]``: squared mean over variance of the slopes of the samples.
        of_curvatures: Shape ``[K]``, the same of their curvatures.
        axis: Where to draw; by default in a new figure.
        leading: How many of the directions of largest curvature are filled; by default all.

    Returns:
        The axis. What is zero or NaN is left out, for both axes are logarithmic.

    Raises:
        InputError: Shapes differ, or `leading` is negative.
    """
    along = array("curvatures", curvatures, 1)
    both = {
        "of_slopes": (array("of_slopes", of_slopes, 1), SLOPE, "slope"),
        "of_curvatures": (array("of_curvatures", of_curvatures, 1), CURVATURE, "curvature"),
    }
    for name, (ratios, _, _) in both.items():
        same_shape(name, ratios, "curvatures", along)
    is_leading = _are_leading(along, leading)
    axis = axis_or_new(axis)
    for ratios, color, label in both.values():
        _scatter(axis, along, ratios, is_leading, color, label)
    axis.axhline(1.0, color="0.3", linestyle="--", linewidth=1)
    axis.set_xlabel("curvature (log scale)")
    axis.set_ylabel("signal-to-noise ratio (log scale)")
    return axis


def _are_leading(along: np.ndarray, leading: int | None) -> np.ndarray:
    """Which directions are among those of largest curvature."""
    if leading is not None and leading < 0:
        raise InputError(f"leading must be a number of directions, got {leading}.")
    count = len(along) if leading is None else min(leading, len(along))
    found = np.zeros(len(along), dtype=bool)
    found[np.argsort(along, kind="stable")[len(along) - count :]] = True
    return found


def _scatter(
    axis: Axes,
    along: np.ndarray,
    values: np.ndarray,
    is_leading: np.ndarray,
    color: str,
    label: str | None,
) -> None:
    """One symbol for each direction, on logarithmic axes; leading ones are filled."""
    fine = (values > 0) & (along > 0)
    for chosen, face, alpha in (
        (fine & ~is_leading, "none", 0.35),
        (fine & is_leading, color, 1.0),
    ):
        axis.scatter(
            along[chosen],
            values[chosen],
            s=14,
            facecolors=face,
            edgecolors=color,
            alpha=alpha,
            linewidths=0.8,
            label=label if face == color else None,
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
