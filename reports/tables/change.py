"""Whether a figure became better or worse, as far as its noise allows."""

from __future__ import annotations

import math
from dataclasses import dataclass

THRESHOLD = 1.05
"""Ratio from which on a change is named, if the noise does not explain it."""

PROCESS, TIMES, ERROR = 1.1, 1.25, 10.0
"""The same of what has a single sample: memory of whole processes, which varies with the
allocator; times without repeats and their ratios; and errors, which round-off decides."""


@dataclass(frozen=True)
class Figure:
    """A figure and its noise.

    Attributes:
        value: The figure.
        low: Lower end of the interval in which it may be; NaN if that is not known.
        high: Upper end.
    """

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def has_noise(self) -> bool:
        """Whether the interval is known."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def judge(
    before: Figure,
    after: Figure,
    threshold: float = THRESHOLD,
    *,
    larger_is_better: bool = False,
) -> str:
    """Compare two figures.

    Args:
        before: What to compare with.
        after: What to judge.
        threshold: Ratio up to which they count as equal.
        larger_is_better: Whether it is a figure such as a batch size.

    Returns:
        ``"better"``, ``"worse"``, or ``"unchanged"``, also where intervals meet.
    """
    factor = ratio(before.value, after.value)
    if 1 / threshold <= factor <= threshold or _meet(before, after):
        return "unchanged"
    return "better" if (factor > 1) == larger_is_better else "worse"


def ratio(before: float, after: float) -> float:
    """The later figure over the earlier one; 1 if they are equal, even zero."""
    if before == after:
        return 1.0
    return after / before if before else math.inf


def _meet(one: Figure, other: Figure) -> bool:
    """Whether intervals meet; what has none is judged by the threshold alone."""
    if not (one.has_noise and other.has_noise):
        return False
    return one.low <= other.high and other.low <= one.high
