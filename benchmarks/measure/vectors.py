"""Long vectors: a fixed random one that methods agree on, and few numbers in place of many."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.records.tasks import SOLVE_DAMPING

PROJECTIONS = 64


def fixed_vector(size: int) -> Tensor:
    """The vector of solves and products: the same for all methods, and in every precision.

    Args:
        size: ``D``; entries are in the order of the model's parameters, each flat.

    Returns:
        Standard normal entries, shape ``[D]``, float32, on the CPU.
    """
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


def changed_by_curvature(solution: Tensor) -> Tensor:
    """What a solution of ``(G + d I) x = v`` owes to ``G``: errors are relative to its norm.

    A random vector of many parameters lies almost wholly where ``G`` is zero. There, ``x`` is
    ``v / d`` for any method: relative to the norm of ``x``, any result would seem right.

    Args:
        solution: ``x``, shape ``[D]``.

    Returns:
        ``x - v / d``, shape ``[D]``, float64, on the CPU: 1 is the error of ignoring ``G``.
    """
    vector = fixed_vector(len(solution)).double()
    return solution.detach().double().cpu() - vector / SOLVE_DAMPING


def sketch(vector: Tensor) -> Tensor:
    """Random projections that keep distances: a long vector in few numbers.

    The norm of a sketch, or of the difference of two, has the right square in expectation, with a
    standard deviation of about 9% of the norm.

    Args:
        vector: Shape ``[D]``.

    Returns:
        Shape ``[64]``, float64, on the CPU.
    """
    generator = torch.Generator().manual_seed(0)
    vector = vector.detach().double().cpu()
    projections = [
        torch.randn(len(vector), generator=generator, dtype=torch.float64) @ vector
        for _ in range(PROJECTIONS)
    ]
    return torch.stack(projections) / PROJECTIONS**0.5
