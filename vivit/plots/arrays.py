"""What figures are drawn from and on: arrays that are checked, and an axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes

from vivit.errors import InputError
from vivit.plots.style import styled


def array(name: str, values: Any, *dimensions: int) -> np.ndarray:
    """Numbers as numpy has them.

    Args:
        name: Of the argument, for messages.
        values: A tensor on any device, or what numpy takes.
        *dimensions: How many it may have.

    Returns:
        In double precision.

    Raises:
        InputError: It has another number of dimensions, or nothing in it.
    """
    given = values.detach().cpu() if isinstance(values, torch.Tensor) else values
    found = np.asarray(given, dtype=float)
    if found.ndim not in dimensions or found.size == 0:
        expected = " or ".join(map(str, dimensions))
        raise InputError(
            f"{name} must have {expected} dimension{'s' if dimensions != (1,) else ''} and not be "
            f"empty, got shape {list(found.shape)}."
        )
    return found


def same_shape(name: str, values: np.ndarray, other_name: str, other: np.ndarray) -> None:
    """Refuse arrays that do not belong together.

    Args:
        name: Of an argument.
        values: What it is.
        other_name: Of another one.
        other: What that is.

    Raises:
        InputError: Their shapes differ.
    """
    if values.shape != other.shape:
        raise InputError(
            f"{name} and {other_name} must have the same shape, got {list(values.shape)} and "
            f"{list(other.shape)}."
        )


def axis_or_new(axis: Axes | None) -> Axes:
    """An axis to draw on.

    Args:
        axis: Of the caller's; None for that of a new figure.

    Returns:
        The axis.
    """
    if axis is not None:
        return axis
    from matplotlib import pyplot  # which chooses how figures are shown: not before one is wanted

    with styled():
        _, new = pyplot.subplots(layout="constrained")
    return new
