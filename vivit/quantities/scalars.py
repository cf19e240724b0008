"""Scalars of the spectrum that need no eigenvector."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from vivit.gram.spectrum import EIGENVALUE_COPIES, robust
from vivit.quantities.arguments import Dampings, Positive
from vivit.quantities.block import Block, SmallerMatrix
from vivit.quantities.inverses import CHOLESKYS_PER_SPECTRUM, cholesky

COPIES = 2
"""Matrices that a Cholesky factorization holds: what it is of, and the factor."""


@torch.no_grad()
def frobenius_norm(block: Block) -> Tensor:
    """``||G||_F = ||K||_F``, a scalar in the parameters' dtype."""
    tensor = block.smaller(EIGENVALUE_COPIES, float("inf")).tensor
    return tensor.norm().to(block.factor.like.dtype)


@torch.no_grad()
def logdet(block: Block, damping: Positive) -> Tensor:
    """``log det(G + delta I) = (D - S) log delta + log det(A + delta I)``.

    ``A`` is the smaller matrix, of size ``S``.

    Args:
        block: The curvature.
        damping: One or several.

    Returns:
        A scalar, or shape ``[P]``.
    """
    like, (dimension, _) = block.factor.like, block.factor.shape
    dampings = Dampings.of(damping, like.dtype)
    matrix = _smaller(block, dampings)
    tensor = matrix.tensor
    flat = (dimension - len(tensor)) * dampings.shaped(tensor)[:, 0, 0].log()
    return _result(dampings, flat + _log_determinants(tensor, dampings), like)


@torch.no_grad()
def effective_dimension(block: Block, damping: Positive) -> Tensor:
    """``sum_k lambda_k / (lambda_k + delta)``, between 0 and the rank.

    Args:
        block: The curvature.
        damping: One or several.

    Returns:
        A scalar, or shape ``[P]``.
    """
    like = block.factor.like
    dampings = Dampings.of(damping, like.dtype)
    values = _eigenvalues(_smaller(block, dampings).tensor)
    shares = values / (values + dampings.shaped(values)[..., 0])
    return _result(dampings, shares.sum(dim=1), like)


def _log_determinants(matrix: Tensor, dampings: Dampings) -> Tensor:
    """Of ``A + delta_p I``, shape ``[P]``: by Cholesky factors, one at a time, if they are few."""
    if len(dampings.values) <= CHOLESKYS_PER_SPECTRUM:
        factors = (cholesky(matrix, Dampings(x[None], True)) for x in dampings.values)
        found = [None if x is None else 2 * x[0].diagonal().log().sum() for x in factors]
        if all(x is not None for x in found):
            return torch.stack([x for x in found if x is not None])
    values = _eigenvalues(matrix)
    return (values + dampings.shaped(values)[..., 0]).log().sum(dim=1)


def _smaller(block: Block, dampings: Dampings) -> SmallerMatrix:
    """The matrix; a warning, if its rounding errors are not small beside the damping."""
    smallest = float(dampings.values.min())
    matrix = block.smaller(COPIES, smallest)
    if matrix.noise > smallest:
        warnings.warn(
            f"The damping {smallest:.1e} is below the rounding errors of the curvature matrix, "
            f"{matrix.noise:.1e}: eigenvalues of that size are not known. Use a larger damping or "
            "a model in float64.",
            stacklevel=2,
        )
    return matrix


def _eigenvalues(matrix: Tensor) -> Tensor:
    """Ascending; negative ones are rounding errors, and set to zero."""
    values: Tensor = robust(torch.linalg.eigvalsh, matrix)
    return values.clamp(min=0)


def _result(dampings: Dampings, x: Tensor, like: Tensor) -> Tensor:
    return dampings.result(x).to(like.dtype)
