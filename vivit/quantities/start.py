"""A first vector for Lanczos iteration: near the leading eigenspace, and next to free."""

from __future__ import annotations

import torch
from torch import Tensor

from vivit.gram.blocks import BlockMatrices
from vivit.gram.matrices import group_matrices
from vivit.gram.spectrum import GramPairs

FEW_COLUMNS = 256
"""Columns of the few samples whose leading eigenspace starts a Lanczos iteration."""


@torch.no_grad()
def leading_of_some(matrices: BlockMatrices, group: str, k: int) -> Tensor | None:
    """What makes a vector near the leading eigenspace, from the Gram matrix of few samples.

    It takes backward passes of these samples alone, which cost next to nothing.

    Args:
        matrices: Of all blocks; they need not have been made.
        group: The block.
        k: Number of eigenvectors to add up.

    Returns:
        ``x`` of shape ``[M]``, not zero for a few samples only: ``V x`` is the sum of the
        leading eigenvectors of their curvature. None if few are most of them, or the model
        cannot run on them alone.
    """
    curvature = matrices.curvature
    batch = next(batch for batch in curvature.each() if batch.num_curvature_samples)
    samples = range(batch.batch.size) if batch.samples is None else batch.samples.tolist()
    count = max(FEW_COLUMNS // curvature.columns, 1)
    plan = matrices.costs.plan_of_few(group, count)
    too_large = not matrices.costs.fits(plan)
    if curvature.columns > FEW_COLUMNS or 2 * count > len(samples) or too_large:
        return None
    few = torch.tensor(samples[:count], device=curvature.like.device)
    some = batch.linearization.of_samples(few)
    if some is None:
        return None
    factor = batch.factor.of_samples(torch.arange(count, device=few.device))
    of_few = group_matrices(
        lambda: iter([(some, factor, None)]),
        [count],
        curvature.parameters,
        {group: matrices.groups[group]},
        curvature.columns,
        matrices.costs.room.workspace,
        plan,
    )
    weighted = _sum_of_leading(of_few[group].pairs(None), k)
    x = curvature.like.new_zeros(curvature.num_curvature_samples * curvature.columns)
    start = batch.rows.start * curvature.columns
    x[start : start + len(weighted)] = weighted
    return x


def _sum_of_leading(pairs: GramPairs, k: int) -> Tensor:
    """``x`` such that ``V x`` is the sum of the ``k`` leading unit eigenvectors, shape ``[M]``."""
    leading = pairs.keep(slice(max(len(pairs.values) - k, 0), None))
    return leading.coefficients @ leading.values.rsqrt()
