"""The curvature of few samples, which costs next to nothing and is near that of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vivit.backprop.autograd import Linearization
from vivit.factor import each_vector
from vivit.gram.blocks import BlockMatrices
from vivit.gram.matrices import group_matrices
from vivit.gram.spectrum import GramPairs
from vivit.losses import HessianFactor

FEW_COLUMNS = 256
"""Columns of few samples."""


@dataclass(frozen=True)
class FewSamples:
    """Columns ``V`` of few samples of a block, and their eigenpairs.

    Attributes:
        linearization: The model on these samples alone.
        factor: Their factors of the loss Hessian.
        names: Parameters of the block.
        pairs: Nontrivial eigenpairs of ``V^T V``.
    """

    linearization: Linearization
    factor: HessianFactor
    names: list[str]
    pairs: GramPairs

    @property
    def count(self) -> int:
        """Number of samples."""
        return self.factor.num_samples

    def spread(self, coefficients: Tensor) -> dict[str, Tensor]:
        """``V coefficients``: from ``[m, K]`` to tensors ``[K, *shape]`` by name."""
        products = self.linearization.products
        cotangents = [
            self.factor.spread(x.reshape(self.count, -1)) for x in coefficients.unbind(dim=1)
        ]
        pulled = [products.pullback(u, self.names) for u in cotangents]
        return {name: torch.stack([x[name] for x in pulled]) for name in self.names}

    def contract(self, v: Mapping[str, Tensor]) -> Tensor:
        """``V^T v``: from tensors ``[K, *shape]`` by name to ``[m, K]``."""
        push = self.linearization.products.pushforward
        found = [self.factor.contract(push(one)).flatten() for one in each_vector(v)]
        return torch.stack(found, dim=1)


@torch.no_grad()
def few_samples(
    matrices: BlockMatrices, group: str, count: int, or_half: bool = False
) -> FewSamples | None:
    """The first samples that carry curvature.

    Args:
        matrices: Of all blocks; they need not have been made.
        group: The block.
        count: How many.
        or_half: Whether to take half of the first batch where that is less.

    Returns:
        None if these are most of the first batch, do not fit into memory, or the model cannot run
        on them alone, as where they are parts of units; or if they are on one of several ranks.
    """
    curvature = matrices.curvature
    if curvature.sampling.has_units or curvature.ranks.size > 1:
        return None
    batch = next(curvature.curved())
    samples = range(batch.batch.size) if batch.samples is None else batch.samples.tolist()
    if or_half:
        count = max(min(count, len(samples) // 2), 1)
    plan = matrices.costs.plan_of_few(group, count)
    too_large = not matrices.costs.fits(plan)
    if 2 * count > len(samples) or too_large:
        return None
    few = torch.tensor(samples[:count], device=curvature.like.device)
    some = batch.linearization.of_samples(few)
    if some is None:
        return None
    factor = batch.factor.of_samples(torch.arange(count, device=few.device))
    of_few = group_matrices(
        lambda: iter([(some, factor, None)]),
        [(count, factor.num_columns)],
        curvature.parameters,
        {group: matrices.groups[group]},
        matrices.costs.room.workspace,
        plan,
    )
    return FewSamples(some, factor, matrices.groups[group], of_few[group].pairs(None))
