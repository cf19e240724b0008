"""Numbers as they are written: finite or None, with as many digits as they are worth."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import Tensor

DIGITS = 8
"""Significant digits; single precision has seven."""


def number(value: float | Tensor) -> float | None:
    """A number that JSON has.

    Args:
        value: A number, or a tensor that holds one.

    Returns:
        The number, rounded; None if it is not finite.
    """
    plain = float(value)
    return float(f"{plain:.{DIGITS}g}") if math.isfinite(plain) else None


def numbers(values: Iterable[float] | Tensor) -> list[float | None]:
    """Numbers that JSON has.

    Args:
        values: Shape ``[K]``.

    Returns:
        As many numbers, None in place of those that are not finite.
    """
    plain = values.tolist() if isinstance(values, Tensor) else values
    return [number(value) for value in plain]
