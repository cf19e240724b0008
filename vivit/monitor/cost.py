"""What observing costs, and whether one more stays within the budget."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

Clock = Callable[[], float]
"""Seconds since some moment."""

RECENT = 5
"""Observations by whose median the cost of the next one is expected: the first is slow."""


class Cost:
    """Time since the first call, and how much of it was spent on observations.

    Attributes:
        seconds: Spent in all.
    """

    def __init__(self, clock: Clock, devices: Callable[[], set[torch.device]]) -> None:
        """Nothing is spent yet.

        Args:
            clock: Tells the time.
            devices: Gives those on which work may go on while the clock is read.
        """
        self._clock, self._devices = clock, devices
        self._start: float | None = None
        self._spent: list[float] = []
        self.seconds = 0.0

    def start(self) -> None:
        """Count from now on, unless that has begun."""
        if self._start is None:
            self._start = self._clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return 0.0 if self._start is None else self._clock() - self._start

    @property
    def share(self) -> float:
        """Of the time since the start that was spent; 0 before the first observation."""
        elapsed = self.elapsed
        return min(self.seconds / elapsed, 1.0) if elapsed > 0 else 0.0

    @property
    def last(self) -> float:
        """What the last observation took."""
        return self._spent[-1]

    def allows(self, budget: float | None) -> bool:
        """Whether one more observation would stay within a share of the time when it is done.

        Args:
            budget: The share; None for any. There must have been one before.
        """
        if budget is None:
            return True
        expected = statistics.median(self._spent[-RECENT:])
        return self.seconds + expected <= budget * (self.elapsed + expected)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """What is done within was spent; what was begun before on a GPU was not."""
        start = self._now()
        try:
            yield
        finally:
            self._spent.append(self._now() - start)
            self.seconds += self.last

    def _now(self) -> float:
        for device in self._devices():
            torch.cuda.synchronize(device)
        return self._clock()
