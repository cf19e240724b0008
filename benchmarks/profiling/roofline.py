"""The limit of a machine: how fast it multiplies, and how fast it moves bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.measure.time_and_memory import seconds_per_run
from benchmarks.profiling.operations import Count

PRODUCT = 2048
"""Rows and columns of the matrices that are multiplied to see how fast that is."""

COPIED = 2**26
"""Numbers that are copied to see how fast memory is: more than caches hold."""

SAMPLES = 12
"""Of each. The best counts: other work, a clock that has yet to rise and fresh memory slow a
sample down, and nothing speeds one up."""


@dataclass(frozen=True)
class Roofline:
    """The limit of a machine.

    Attributes:
        flops: Per second, of a large product of matrices in single precision.
        bandwidth: Bytes per second, read and written, of a large copy.
    """

    flops: float
    bandwidth: float

    @classmethod
    def measured(cls, device: torch.device) -> Roofline:
        """Of this machine, with as many threads as torch has now.

        Args:
            device: Where.
        """
        a = torch.randn(PRODUCT, PRODUCT, device=device)
        x = torch.randn(COPIED, device=device)
        y = torch.empty_like(x)
        product = _best(partial(torch.mm, a, a, out=torch.empty_like(a)))
        copy = _best(partial(y.copy_, x))
        return cls(2 * PRODUCT**3 / product, 2 * x.numel() * x.element_size() / copy)

    def seconds(self, count: Count) -> float:
        """The least that operations can take, unless caches spare them memory."""
        return max(count.flops / self.flops, count.bytes / self.bandwidth)


def _best(run: Callable[[], object]) -> float:
    return min(seconds_per_run(run) for _ in range(SAMPLES))
