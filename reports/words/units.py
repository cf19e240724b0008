"""Numbers as people read them."""

from __future__ import annotations

import math

import pandas as pd

NOTHING = "—"
"""Stands where there is no number."""


def significant(value: float, digits: int = 3) -> str:
    """A number with a few significant digits and no exponent.

    Args:
        value: The number, not negative.
        digits: How many digits to keep.

    Returns:
        For example "1,240", "12.3" or "0.0123".
    """
    rounded = float(f"{value:.{digits}g}")
    if rounded >= 10 ** (digits - 1):
        return f"{rounded:,.0f}"
    exponent = int(f"{rounded:e}".split("e")[1]) if rounded else 0
    return f"{rounded:.{max(digits - 1 - exponent, 0)}f}"


def seconds(value: float, digits: int = 3) -> str:
    """A duration in us, ms or s."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms")):
        if value >= factor * 0.9995:
            return f"{significant(value / factor, digits)} {unit}"
    return f"{significant(value / 1e-6, digits)} µs"


def size(value: float, digits: int = 3) -> str:
    """An amount of memory in B, KiB, MiB or GiB."""
    for exponent, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if value >= 1024**exponent:
            return f"{significant(value / 1024**exponent, digits)} {unit}"
    return f"{value:.0f} B"


def factor(value: float, digits: int = 3) -> str:
    """A ratio such as "3.25x"; a dash for NaN."""
    return NOTHING if math.isnan(value) else f"{significant(value, digits)}x"


def integer(value: object) -> str:
    """A whole number that may be missing."""
    return NOTHING if pd.isna(value) else str(value)


def error(value: float) -> str:
    """A relative error in scientific notation."""
    return f"{value:.1e}" if value else "0"


def tick_seconds(value: float, _position: int | None = None) -> str:
    """A duration at a tick of an axis: no trailing zeros."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms")):
        if value >= factor * 0.9995:
            return f"{value / factor:g} {unit}"
    return f"{value / 1e-6:g} µs"


def tick_size(value: float, _position: int | None = None) -> str:
    """An amount of memory at a tick of an axis: no trailing zeros."""
    for exponent, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if value >= 1024**exponent:
            return f"{value / 1024**exponent:g} {unit}"
    return f"{value:g} B"
