"""A first vector for Lanczos iteration: near the leading eigenspace, and next to free."""

from __future__ import annotations

import torch
from torch import Tensor

from vivit.gram.blocks import BlockMatrices
from vivit.gram.spectrum import GramPairs
from vivit.quantities.few import FEW_COLUMNS, few_samples


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
    _, columns = matrices.curvature.places.shapes[0]
    if columns > FEW_COLUMNS:
        return None
    few = few_samples(matrices, group, max(FEW_COLUMNS // columns, 1))
    if few is None:
        return None
    sums = _sums_of_leading(few.pairs, k, width).to(matrices.curvature.like)
    return few.spread(sums) if sums.shape[1] else None


def _sums_of_leading(pairs: GramPairs, k: int, width: int) -> Tensor:
    """``x`` such that columns of ``V x`` are sums of leading unit eigenvectors.

    Each of the ``k`` eigenvectors is in one of them. Shape ``[M, width]``, or fewer columns.
    """
    leading = pairs.keep(slice(max(len(pairs.values) - k, 0), None))
    weighted = leading.coefficients * leading.values.rsqrt()
    sums = [weighted[:, i::width].sum(dim=1) for i in range(min(width, weighted.shape[1]))]
    return torch.stack(sums, dim=1) if sums else weighted
