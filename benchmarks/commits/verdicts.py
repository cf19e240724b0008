"""What ratios of two versions say: worse, better, or nothing, as far as noise allows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from statistics import median

import scipy


class RulesError(ValueError):
    """By such rules, nothing can be decided."""


class Verdict(str, Enum):
    """What a comparison of two versions says."""

    REGRESSION = "regression"
    """Worse by more than the threshold, the noise aside; or it does not work any more."""
    IMPROVEMENT = "improvement"
    UNCHANGED = "unchanged"
    """By more than the threshold, it is neither worse nor better."""
    FAILED = "failed"
    """The base does not work, though it has what is needed: nothing can be compared."""
    UNDECIDED = "undecided"
    """The noise is larger than what there is to be seen."""
    SKIPPED = "skipped"
    """The base is from before this could be computed."""


@dataclass(frozen=True)
class Rules:
    """How versions are compared.

    Attributes:
        threshold: Ratio of the times of head and base above which something is worse.
        memory_threshold: The same of bytes, which have no noise.
        confidence: Of the interval in which the ratio is, if pairs of samples are independent.
        processes: Pairs of processes, each started anew: where memory happens to lie makes a
            difference, too.
        samples: Pairs of samples from each pair of processes.
        timeout: Seconds for one step.
    """

    threshold: float = 1.1
    memory_threshold: float = 1.01
    confidence: float = 0.99
    processes: int = 2
    samples: int = 8
    timeout: float = 300.0

    def __post_init__(self) -> None:
        """Refuse rules by which nothing can be decided."""
        pairs = self.processes * self.samples
        thresholds = (self.threshold, self.memory_threshold)
        if not all(1 < t < math.inf for t in thresholds) or not 0 < self.confidence < 1:
            raise RulesError(
                "Expected thresholds above 1 and a confidence between 0 and 1, got "
                f"{self.threshold:g}, {self.memory_threshold:g} and {self.confidence:g}."
            )
        if 2 * 0.5**pairs >= 1 - self.confidence:  # of the widest interval that there is
            raise RulesError(
                f"Expected enough samples for a confidence of {self.confidence:g}, got {pairs} "
                "pairs: ask for more samples or processes."
            )

    def judge(self, ratios: list[list[float]]) -> tuple[float, float, Verdict]:
        """Decide by the ratios of head to base.

        The interval is by ranks, so it does not matter how ratios are distributed. But those of
        one pair of processes share what is particular to them, so the median of each has to be
        beyond the threshold, too.

        Args:
            ratios: Of pairs of samples, for each pair of processes.

        Returns:
            Ends of the interval of confidence of their median, and the verdict.
        """
        together = [ratio for of_pair in ratios for ratio in of_pair]
        interval = scipy.stats.quantile_test(together, p=0.5).confidence_interval(self.confidence)
        low, high = float(interval.low), float(interval.high)
        verdict = _verdict(low, high, self.threshold)
        medians = [median(of_pair) for of_pair in ratios]
        agreed = _verdict(min(medians), max(medians), self.threshold)
        return low, high, verdict if verdict is agreed else Verdict.UNDECIDED

    def judge_bytes(self, ratio: float) -> Verdict:
        """Decide by a ratio without noise.

        Args:
            ratio: Of the bytes of head and base.

        Returns:
            The verdict.
        """
        return _verdict(ratio, ratio, self.memory_threshold)


def _verdict(low: float, high: float, threshold: float) -> Verdict:
    """Decide by an interval in which the ratio is."""
    if low > threshold:
        return Verdict.REGRESSION
    if high < 1 / threshold:
        return Verdict.IMPROVEMENT
    if 1 / threshold <= low and high <= threshold:
        return Verdict.UNCHANGED
    return Verdict.UNDECIDED
