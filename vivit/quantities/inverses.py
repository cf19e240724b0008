"""Inverses ``(A + delta I)^-1`` of a matrix that is formed, for one damping or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vivit.gram.spectrum import EIGENVECTOR_COPIES, robust
from vivit.quantities.arguments import Dampings

CHOLESKYS_PER_DECOMPOSITION = 10
"""Cholesky factors that take about as long as one eigendecomposition with vectors."""

CHOLESKYS_PER_SPECTRUM = 5
"""And as one without."""


class Inverse(Protocol):
    """``(A + delta_p I)^-1`` for dampings ``delta_1, ..., delta_P``."""

    def apply(self, b: Tensor) -> Tensor:
        """Map ``[P, S, K]``, or ``[1, S, K]`` for all, to ``[P, S, K]``."""


@dataclass(frozen=True)
class CholeskyInverse:
    """By a factor for each damping.

    Attributes:
        lower: Shape ``[P, S, S]``.
    """

    lower: Tensor

    def apply(self, b: Tensor) -> Tensor:
        """See `Inverse`."""
        return torch.cholesky_solve(b.expand(len(self.lower), -1, -1), self.lower)


@dataclass(frozen=True)
class EigenInverse:
    """By one decomposition for all dampings.

    Attributes:
        values: Shape ``[S]``; negative ones are rounding errors, and set to zero.
        vectors: Shape ``[S, S]``.
        dampings: Shape ``[P, 1, 1]``.
    """

    values: Tensor
    vectors: Tensor
    dampings: Tensor

    def apply(self, b: Tensor) -> Tensor:
        """See `Inverse`."""
        return self.vectors @ ((self.vectors.T @ b) / (self.values[:, None] + self.dampings))


def copies_beside(count: int) -> int:
    """Matrices that are held beside the one that is inverted for so many dampings."""
    return count + 1 if count < EIGENVECTOR_COPIES else EIGENVECTOR_COPIES


def inverse_of(matrix: Tensor, dampings: Dampings, available: int | None) -> Inverse:
    """Factor a matrix, in the way that is faster.

    Cholesky factors, as long as they are few and fit; else one eigendecomposition. So it is, too,
    if rounding errors have made the matrix indefinite, which the damping does not outweigh.

    Args:
        matrix: Shape ``[S, S]``, symmetric and positive semidefinite up to rounding errors.
        dampings: The dampings.
        available: Bytes that are left; None if unknown.

    Returns:
        The inverse.
    """
    count = len(dampings.values)
    size = (count + 1) * matrix.numel() * matrix.element_size()
    fits = count == 1 or available is None or size <= available
    if count <= CHOLESKYS_PER_DECOMPOSITION and fits:
        lower = cholesky(matrix, dampings)
        if lower is not None:
            return CholeskyInverse(lower)
    values, vectors = robust(torch.linalg.eigh, matrix)
    return EigenInverse(values.clamp(min=0), vectors, dampings.shaped(matrix))


def cholesky(matrix: Tensor, dampings: Dampings) -> Tensor | None:
    """Factors of ``A + delta_p I``, shape ``[P, S, S]``; None if one is not positive definite."""
    shifted = matrix.repeat(len(dampings.values), 1, 1)
    shifted.diagonal(dim1=1, dim2=2).add_(dampings.shaped(matrix)[..., 0])
    lower, failed = torch.linalg.cholesky_ex(shifted)
    return None if failed.any() else lower
