"""Long vectors: a fixed random one that methods agree on, and few numbers in place of many."""

from __future__ import annotations

import torch
from torch import Tensor

PROJECTIONS = 64


def fixed_vector(size: int) -> Tensor:
    """The vector of solves and products: the same for all methods, and in every precision.

    Args:
        size: ``D``; entries are in the order of the model's parameters, each flat.

    Returns:
        Standard normal entries, shape ``[D]``, float32, on the CPU.
    """
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


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
