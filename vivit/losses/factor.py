"""Symmetric factors of loss Hessians: columns when they are asked for, and products."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class HessianFactor(Protocol):
    """``S_n`` with ``H_n = S_n S_n^T`` for every sample; seldom stored as ``[N, C, *out]``."""

    @property
    def num_samples(self) -> int:
        """``N``."""
        ...

    @property
    def num_columns(self) -> int:
        """``C``, columns of each sample."""
        ...

    def columns(self, some: slice) -> Tensor:
        """Some of the columns ``s_nc``, shape ``[N, c, *out]``; the slice has both ends."""
        ...

    def spread(self, x: Tensor) -> Tensor:
        """``S_n x_n``: from ``[N, C]`` to ``[N, *out]``."""
        ...

    def contract(self, u: Tensor) -> Tensor:
        """``S_n^T u_n``: from ``[N, *out]`` to ``[N, C]``."""
        ...

    def of_samples(self, samples: Tensor) -> HessianFactor:
        """The factors of those samples that an index selects."""
        ...

    def scaled(self, scale: float) -> HessianFactor:
        """The factors times a positive number."""
        ...


@dataclass(frozen=True)
class DenseFactor:
    """Columns that are stored.

    Attributes:
        tensor: Shape ``[N, C, *out]``.
    """

    tensor: Tensor

    @property
    def num_samples(self) -> int:
        """``N``."""
        return self.tensor.shape[0]

    @property
    def num_columns(self) -> int:
        """``C``."""
        return self.tensor.shape[1]

    def columns(self, some: slice) -> Tensor:
        """A view."""
        return self.tensor[:, some]

    def spread(self, x: Tensor) -> Tensor:
        """``S_n x_n``."""
        return torch.einsum("nc...,nc->n...", self.tensor, x)

    def contract(self, u: Tensor) -> Tensor:
        """``S_n^T u_n``."""
        return torch.einsum("nc...,n...->nc", self.tensor, u)

    def of_samples(self, samples: Tensor) -> DenseFactor:
        """A copy of some samples' columns."""
        return DenseFactor(self.tensor[samples])

    def scaled(self, scale: float) -> DenseFactor:
        """A scaled copy."""
        return DenseFactor(self.tensor * scale)


def all_columns(factor: HessianFactor) -> Tensor:
    """``S`` as a whole, shape ``[N, C, *out]``."""
    return factor.columns(slice(0, factor.num_columns))


def columns_in_turn(factor: HessianFactor, at_a_time: int) -> Iterator[tuple[int, Tensor]]:
    """All columns, some at a time.

    Args:
        factor: Of all samples.
        at_a_time: Columns of a sample to make at once.

    Yields:
        The index of the first, and the columns, shape ``[N, c, *out]``.
    """
    total = factor.num_columns
    for start in range(0, total, at_a_time):
        yield start, factor.columns(slice(start, min(start + at_a_time, total)))
