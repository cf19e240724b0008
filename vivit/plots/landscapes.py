"""The loss along directions, beside what slope and curvature predict."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from vivit.errors import InputError
from vivit.plots.arrays import array, axis_or_new, same_shape
from vivit.plots.style import COLORBLIND

LEVELS = 12
"""Lines of equal loss in a plane."""

MODEL = COLORBLIND[1]


def landscape(
    distances: Any,
    losses: Any,
    axis: Axes | None = None,
    *,
    model: Any = None,
    label: str | None = None,
    color: str = COLORBLIND[0],
) -> Axes:
    """Draw the loss along a direction, or in the plane of two.

    Args:
        distances: Shape ``[T]``: where along the direction, or along each of the two.
        losses: Shape ``[T]``; in a plane ``[T, T]``, rows along the first direction.
        axis: Where to draw; by default in a new figure.
        model: What a quadratic model predicts, of the shape of `losses`: drawn with dashes, in a
            plane as lines at the same levels.
        label: For a legend, along one direction.
        color: Of the loss along one direction.

    Returns:
        The axis.

    Raises:
        InputError: A shape does not fit to the others.
    """
    along, found = array("distances", distances, 1), array("losses", losses, 1, 2)
    if any(size != len(along) for size in found.shape):
        raise InputError(
            f"losses must have shape [T] or [T, T] with T = {len(along)} as distances, got "
            f"{list(found.shape)}."
        )
    predicted = None if model is None else array("model", model, 1, 2)
    if predicted is not None:
        same_shape("model", predicted, "losses", found)
    axis = axis_or_new(axis)
    if found.ndim == 2:
        _draw_plane(axis, along, found, predicted)
    else:
        axis.plot(along, found, color=color, label=label, linewidth=1.8)
        if predicted is not None:
            axis.plot(along, predicted, color=color, linestyle="--", linewidth=1.2)
        axis.set_xlabel("distance along the direction")
        axis.set_ylabel("loss")
    return axis


def _draw_plane(
    axis: Axes, along: np.ndarray, losses: np.ndarray, model: np.ndarray | None
) -> None:
    """Lines of equal loss: colours for the loss, dashes for the model."""
    low, high = float(np.nanmin(losses)), float(np.nanmax(losses))
    levels = low + ((high - low) or 1.0) * np.linspace(0, 1, LEVELS) ** 3  # dense at the minimum
    axis.contourf(along, along, losses.T, levels=levels, cmap="viridis", extend="both")
    if model is not None:
        axis.contour(
            along,
            along,
            model.T,
            levels=levels,
            colors="white",
            linestyles="dashed",
            linewidths=0.9,
        )
    axis.plot(0, 0, "o", color=MODEL, markersize=5)
    axis.set_xlabel("distance along the first direction")
    axis.set_ylabel("distance along the second direction")
    axis.set_aspect("equal")
