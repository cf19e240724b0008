"""Eigenpairs of a parameter group's matrix as vivit-for-pytorch 1.0.0 gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vivit.drop_in.captured import LossPass
from vivit.drop_in.parameter_groups import GroupState
from vivit.gram.spectrum import GramPairs, split_vectors
from vivit.losses.cross_entropy import CrossEntropyHessian


def chosen_pairs(
    pairs: GramPairs, num_values: int, criterion: Callable[[Tensor], Any], dtype: torch.dtype
) -> GramPairs:
    """Keep what a criterion chooses, in its order.

    What stands for an eigenvalue that is zero for lack of columns has zero coefficients.

    Args:
        pairs: All nontrivial ones.
        num_values: Eigenvalues that the criterion gets, with those that are zero.
        criterion: Maps eigenvalues in ascending order to indices.
        dtype: Of the eigenvalues that it gets.

    Returns:
        The chosen pairs.
    """
    lacking = num_values - len(pairs.values)
    values = torch.cat([pairs.values.new_zeros(lacking), pairs.values])
    places = torch.arange(len(values), device=values.device)
    chosen = places[_as_index(criterion(values.to(dtype)))] - lacking
    kept, exists = chosen.clamp(min=0), (chosen >= 0).to(values)
    values = values[chosen + lacking]
    if not len(pairs.values):  # there is nothing to choose from but zeros
        return GramPairs(
            values, pairs.coefficients.new_zeros(len(pairs.coefficients), len(values))
        )
    vectors = None if pairs.vectors is None else pairs.vectors[:, kept] * exists
    return GramPairs(values, pairs.coefficients[:, kept] * exists, vectors)


def _as_index(chosen: Any) -> Any:
    """Indices as torch takes them; tuples and ranges would mean something else."""
    return list(chosen) if isinstance(chosen, (tuple, range)) else chosen


def unit_vectors(state: GroupState, pairs: GramPairs, dtype: torch.dtype) -> dict[str, Tensor]:
    """Eigenvectors of the block, ``[K, *shape]`` per parameter, of unit norm; zeros stay."""
    vectors = (
        state.combine(pairs.coefficients)
        if pairs.vectors is None
        else split_vectors(pairs.vectors, state.shapes)
    )
    squares = sum(x.flatten(1).square().sum(dim=1) for x in vectors.values())
    assert isinstance(squares, Tensor)
    norms = torch.where(squares > 0, squares, 1.0).sqrt()
    return {
        name: (x / norms.to(x).reshape(-1, *[1] * (x.ndim - 1))).to(dtype).contiguous()
        for name, x in vectors.items()
    }


def weighted_sum(
    state: GroupState, pairs: GramPairs, weights: Tensor, dtype: torch.dtype
) -> list[Tensor]:
    """``sum_k weights_k e_k``, a tensor per parameter."""
    if pairs.vectors is not None:
        flat = (pairs.vectors @ weights)[:, None].to(dtype)
        return [x[0] for x in split_vectors(flat, state.shapes).values()]
    coefficients = pairs.coefficients @ (weights * reciprocal_roots(pairs.values))
    return [x[0].to(dtype) for x in state.combine(coefficients[:, None]).values()]


def reciprocal_roots(values: Tensor) -> Tensor:
    """``1 / sqrt(lambda)``, and 0 for eigenvalues that are zero."""
    return torch.where(values > 0, values, torch.inf).rsqrt()


def in_order_of_backpack(loss: LossPass, coefficients: Tensor) -> Tensor:
    """Eigenvectors of the Gram matrix of BackPACK's columns, in its order, ``[C N, K]``."""
    blocks = coefficients.unflatten(0, loss.factor.shape[:2])
    hessian = loss.hessian
    if isinstance(hessian, CrossEntropyHessian) and loss.has_reduced_columns:
        factor = hessian.factor()
        if loss.samples is not None:
            factor = factor.of_samples(loss.samples)
        blocks = factor.unreduced(blocks)
    return blocks.transpose(0, 1).flatten(end_dim=1)
