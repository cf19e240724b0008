"""Critical batch size: the largest batch with which a method gets by on a memory budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy

from benchmarks.records.names import Choice
from benchmarks.records.record import Status

FIRST, GROWTH = 16, 4
"""Sizes to which a model of the memory is fitted: the first one, and the ratio of the next."""

COEFFICIENTS = 3
"""Of the model: what is there anyway, activations, and the Gram matrix."""

TRUSTED = 8
"""A model predicts up to this multiple of the largest size that it was fitted to."""

MARGIN = 4
"""Resolutions beyond the prediction at which the search begins, and its first step up. Probes that
fail end early, so it comes from above: mostly one probe runs to its end."""

Answer = dict[str, Any]
Probe = Callable[[int, int], Answer]
"""Runs a batch size in a process of its own, the first or the second time. Gives its ``status``,
and ``samples`` with its peak memory in bytes, or a ``reason``."""


class BudgetMode(Choice):
    """What keeps a process within its budget."""

    PROCESS = "process"
    """The system: of all that the process holds, on a CPU; of the allocator, on a GPU."""
    SIMULATED = "simulated"
    """A count of the bytes that tensors hold, the same on any machine."""


@dataclass(frozen=True)
class Limits:
    """What is searched.

    Attributes:
        budget: Bytes that a process may allocate.
        largest: The largest batch size that counts.
        resolution: How close to the critical batch size to come: relative to it, and at least to
            the sample.
        mode: What enforces the budget.
    """

    budget: int
    largest: int = 2**15
    resolution: float = 1 / 32
    mode: BudgetMode = BudgetMode.PROCESS

    def __post_init__(self) -> None:
        """Refuse limits between which nothing can be searched."""
        if self.budget < 1 or self.largest < 1 or not 0 <= self.resolution < 1:
            raise ValueError(
                "Expected a budget and a largest batch size of at least 1 and a resolution in "
                f"[0, 1), got {self}."
            )

    @property
    def parameters(self) -> dict[str, Any]:
        """As plain JSON types; what enforces the budget is told where it is not the system."""
        told = {} if self.mode is BudgetMode.PROCESS else {"budget_mode": self.mode.value}
        numbers = {"budget": self.budget, "largest": self.largest, "resolution": self.resolution}
        return numbers | told


class UndecidedError(Exception):
    """A probe neither fits nor runs out of memory.

    Attributes:
        answer: Its status and reason.
    """

    def __init__(self, batch_size: int, answer: Answer) -> None:
        """Keep what the probe said.

        Args:
            batch_size: What was tried.
            answer: Of the probe.
        """
        super().__init__(f"at batch size {batch_size}: {answer['reason']}")
        self.answer = answer


def critical_batch_size(probe: Probe, limits: Limits) -> Answer:
    """Search the critical batch size.

    Out of memory is the only failure that counts as "does not fit"; any other ends the search.

    Args:
        probe: Tries a batch size.
        limits: What is searched.

    Returns:
        ``status``; ``samples`` with the largest size that fits, 0 if none does, and one more than
        the largest that counts if all do; ``details`` with the bracket and the sizes that were
        probed; ``reason`` if a probe failed otherwise.
    """
    search = _Search(probe, limits)
    try:
        search.run()
    except UndecidedError as error:
        return {**search.answer, "status": error.answer["status"], "reason": str(error)}
    return search.answer


@dataclass
class _Search:
    """A bracket that becomes narrow.

    Attributes:
        lower: Fits; 0 does always.
        upper: Does not fit; one more than the largest counts as such.
        peaks: Memory of the sizes that fit.
        too_large: Sizes that ran out of memory, and how often.
        tried: All sizes that were probed, in order.
    """

    probe: Probe
    limits: Limits
    lower: int = 0
    upper: int = field(init=False)
    peaks: dict[int, float] = field(default_factory=dict)
    too_large: Counter[int] = field(default_factory=Counter)
    tried: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.upper = self.limits.largest + 1

    def run(self) -> None:
        """Predict the critical size from small ones, come down to it from above, and bisect.

        Or climb to it, where the prediction turns out to be too low.

        What does not fit has to fail twice: near the budget, chance may decide.
        """
        self._measure_small_sizes()
        self._come_down()
        self._bisect()
        while self.too_large[self.upper] == 1:
            if self.fits(self.upper):
                larger = [size for size in self.too_large if size > self.lower]
                self.upper = min(larger, default=self.limits.largest + 1)
            self._bisect()

    def _measure_small_sizes(self) -> None:
        size = min(FIRST, self.limits.largest)
        while not self.is_narrow and self.fits(size):
            if len(self.peaks) >= COEFFICIENTS and TRUSTED * size >= self.predicted:
                break
            size = min(GROWTH * size, self.limits.largest)

    def _come_down(self) -> None:
        predicted = self.predicted
        width = self._width(predicted)
        size = predicted + MARGIN * width
        while not self.is_narrow:
            size = min(max(size, self.lower + 1), self.upper - 1)
            if self.fits(size):
                break
            size -= width
            width *= 2 if size < predicted else 1

    def _climb(self) -> None:
        """From a prediction that was too low: a method that adapts needs less than predicted."""
        step = MARGIN * self._width(self.lower)
        while self.upper > self.limits.largest and not self.is_narrow:
            self.fits(min(self.lower + step, self.limits.largest))
            step *= 2

    def _bisect(self) -> None:
        self._climb()
        while not self.is_narrow:
            self.fits((self.lower + self.upper) // 2)

    def fits(self, size: int) -> bool:
        """Probe, and narrow the bracket."""
        answer = self.probe(size, 1 + self.too_large[size])
        self.tried.append(size)
        status = Status(answer["status"])
        if status is Status.OK:
            self.lower = max(self.lower, size)
            self.peaks[size] = answer["samples"][0]
        elif status is Status.OUT_OF_MEMORY:
            self.upper = min(self.upper, size)
            self.too_large[size] += 1
        else:
            raise UndecidedError(size, answer)
        return status is Status.OK

    @property
    def predicted(self) -> int:
        """The size at which a polynomial through the known peaks meets the budget.

        Memory grows linearly with the activations and quadratically with the Gram matrix.
        """
        if not self.peaks:
            return self.upper // 2
        sizes, peaks = (np.array([*values]) for values in (self.peaks, self.peaks.values()))
        # In units of the largest: of powers of plain sizes, nnls may go round in circles.
        powers = (sizes / sizes.max())[:, None] ** np.arange(COEFFICIENTS, dtype=float)
        relative = peaks.max() / peaks[:, None]
        constant, linear, quadratic = scipy.optimize.nnls(powers * relative, np.ones(len(sizes)))[
            0
        ]
        budget = self.limits.budget / peaks.max()
        if constant >= budget:
            return self.lower
        roots = np.roots([quadratic, linear, constant - budget]) * sizes.max()
        return int(min([*roots[roots > 0], self.limits.largest]))

    @property
    def is_narrow(self) -> bool:
        """Whether the bracket is narrow enough, and both of its ends were tried."""
        if self.upper > self.limits.largest:
            return self.lower == self.limits.largest
        return self.upper - self.lower <= self._width(self.lower)

    def _width(self, size: int) -> int:
        return max(int(self.limits.resolution * size), 1)

    @property
    def answer(self) -> Answer:
        """What is known, and which sizes ran out of memory though this or a larger one fits."""
        largest = self.limits.largest
        found = largest + 1 if self.lower == largest else self.lower
        details = {
            "fits": self.lower,
            "does_not_fit": None if self.upper > largest else self.upper,
            "probed": self.tried,
            "contradicted": sorted(size for size in self.too_large if size <= self.lower),
        }
        return {"status": Status.OK.value, "samples": [float(found)], "details": details}
