"""asv's benchmarks and their figures as people read them."""

from __future__ import annotations

import math

from reports.words import units
from reports.words.labels import capitalized

LARGER_IS_BETTER = ("samples", "ratio")
"""Units of what should grow."""

NAMES = {"gram": "Gram", "newton": "Newton"}
"""Of people, in the names of functions."""


def name_of(benchmark: str, kind: str) -> str:
    """A benchmark for people, from the name of its function.

    Args:
        benchmark: As asv names it, such as ``asv.speed.Eigenvalues.time_eigenvalues``.
        kind: asv's type, such as ``time``.

    Returns:
        For example “Time of eigenvalues”.
    """
    function = benchmark.rpartition(".")[2]
    words = function.partition("_")[2].replace("_", " ") or function
    words = " ".join(NAMES.get(word, word) for word in words.split(" "))
    prefix = {"time": "Time of ", "peakmemory": "Peak memory of the process, "}.get(kind, "")
    text = prefix + words
    return capitalized(text)


def amount(value: float, unit: str) -> str:
    """A figure with its unit.

    Args:
        value: In base units.
        unit: As asv's benchmarks have it.

    Returns:
        For example “1.20 s”; a dash for NaN.
    """
    if math.isnan(value):
        return units.NOTHING
    if unit == "seconds":
        return units.seconds(value)
    if unit == "bytes":
        return units.size(value)
    if unit == "ratio":
        return units.factor(value)
    if unit == "1":
        return units.error(value)
    return f"{value:g} {unit}"
