"""Eigendecomposition of Gram matrices, and which of the eigenvalues count."""

from __future__ import annotations

import torch
from torch import Tensor


def rank_cutoff(values: Tensor) -> float:
    """Threshold below which an eigenvalue cannot be told from rounding errors.

    ``M eps lambda_max`` for an ``M x M`` matrix, as for numerical ranks (Golub and Van Loan,
    "Matrix Computations", section 5.4).

    Args:
        values: All eigenvalues in ascending order, shape ``[M]``.

    Returns:
        The threshold, in the units of the eigenvalues.
    """
    if not len(values):
        return 0.0
    return len(values) * torch.finfo(values.dtype).eps * max(float(values[-1]), 0.0)


def nontrivial(values: Tensor) -> slice:
    """The eigenvalues above the rank cut-off.

    Args:
        values: All eigenvalues in ascending order, shape ``[M]``.

    Returns:
        A slice that ends with the largest.
    """
    return slice(int((values <= rank_cutoff(values)).sum()), len(values))


def spectrum(gram: Tensor, dimension: int) -> Tensor:
    """Eigenvalues of ``G`` that its Gram matrix determines.

    Args:
        gram: Shape ``[M, M]``.
        dimension: ``D``, the size of ``G``: it has ``D - M`` more zeros, or ``M - D`` fewer.

    Returns:
        The ``min(M, D)`` largest, ascending.
    """
    values = torch.linalg.eigvalsh(gram)
    return values[len(values) - min(len(values), dimension) :]
