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
def leading_of_some(
    matrices: BlockMatrices, group: str, k: int, width: int = 1
) -> dict[str, Tensor] | None:
    """Vectors near the leading eigenspace, from the Gram matrix of few samples.

    It takes backward passes of these samples alone, which cost next to nothing.

    Args:
        matrices: Of all blocks; they need not have been made.
        group: The block.
        k: Number of eigenvectors to add up.
        width: Number of sums to distribute them to.

    Returns:
        Sums of leading eigenvectors of their curvature, tensors of shape ``[width, *shape]`` or
        fewer vectors, if there are fewer. None if few are most of them, or the model cannot run
        on them alone.
    """
    curvature = matrices.curvature
    batch = next(curvature.curved())
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
    sums = _sums_of_leading(of_few[group].pairs(None), k, width).to(curvature.like)
    cotangents = [factor.spread(x.reshape(count, -1)) for x in sums.unbind(dim=1)]
    pulled = [some.products.pullback(u, matrices.groups[group]) for u in cotangents]
    return {name: torch.stack([x[name] for x in pulled]) for name in pulled[0]} if pulled else None


def _sums_of_leading(pairs: GramPairs, k: int, width: int) -> Tensor:
    """``x`` such that columns of ``V x`` are sums of leading unit eigenvectors.

    Each of the ``k`` eigenvectors is in one of them. Shape ``[M, width]``, or fewer columns.
    """
    leading = pairs.keep(slice(max(len(pairs.values) - k, 0), None))
    weighted = leading.coefficients * leading.values.rsqrt()
    sums = [weighted[:, i::width].sum(dim=1) for i in range(min(width, weighted.shape[1]))]
    return torch.stack(sums, dim=1) if sums else weighted
