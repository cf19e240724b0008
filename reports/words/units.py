"""Numbers as people read them."""

from __future__ import annotations

import math
import re

import pandas as pd

NOTHING = "—"
"""Stands where there is no number."""

AMOUNT = re.compile(r"(?:better, |worse, )?([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)(x?) ?([^\d\s(\[]*)")
UNITS = {"µs": 1e-6, "ms": 1e-3, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
UNITS |= {"k": 1e3, "M": 1e6, "G": 1e9, "%": 1e-2}
SLOWER = ("slower", "more")
"""After a ratio: its reciprocal is meant."""


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


def count(value: float, digits: int = 3) -> str:
    """A number of many things: "128", "895 k", "3.27 M"."""
    for power, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= power:
            return f"{significant(value / power, digits)} {unit}"
    return f"{value:.0f}"


def integer(value: object) -> str:
    """A whole number that may be missing."""
    return NOTHING if pd.isna(value) else str(value)


def error(value: float) -> str:
    """A relative error in scientific notation."""
    return f"{value:.1e}" if value else "0"


def amount(text: str) -> float | None:
    """The number that a text begins with, to sort by.

    Args:
        text: What the functions above give, or a ratio such as "2.00x slower".

    Returns:
        In base units; None if the text does not begin with a number.
    """
    found = AMOUNT.match(text)
    if found is None:
        return None
    number, ratio, unit = float(found[1].replace(",", "")), found[2], found[3]
    if ratio and unit in SLOWER:
        return 1 / number if number else math.inf
    return number * UNITS.get(unit, 1.0)


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
