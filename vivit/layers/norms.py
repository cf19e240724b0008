"""Norms of the columns ``V_nc = sum_t s[n,c,t,o] a[n,t,i]`` of an affine layer.

``sum_c ||V_nc||^2 = sum_tu <a_nt, a_nu> sum_c <s_nct, s_ncu>`` needs no columns: where positions
are few, it is the cheaper way.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vivit.layers.affine import Factors, Workspace, form_columns
from vivit.layers.cost import AffineShape


def pays_by_pairs(shape: AffineShape) -> bool:
    """Whether pairs of positions take fewer multiplications than columns.

    Args:
        shape: Sizes of the layer.
    """
    mixed = shape.columns * shape.outputs
    return shape.positions * (mixed + shape.product) < mixed * shape.product


def square_norm(factors: Factors, by_pairs: bool, workspace: Workspace) -> Tensor:
    """``sum_nc ||V_nc||^2`` of the columns of a weight, or of those of a bias.

    Args:
        factors: Without inputs, if they are those of a bias; else without a bias.
        by_pairs: Whether the columns are not formed.
        workspace: Bounds what is formed at a time.

    Returns:
        A scalar in double precision.
    """
    samples, columns, positions, outputs = factors.s.shape
    if factors.bias:
        return factors.s.sum(dim=2).square().sum(dtype=torch.float64)
    numbers = 2 * positions**2 if by_pairs else columns * outputs * factors.num_inputs
    step = max(workspace.size // max(numbers, 1), 1)
    total = factors.s.new_zeros((), dtype=torch.float64)
    for start in range(0, samples, step):
        rows = slice(start, start + step)
        some = replace(factors, a=factors.a[rows], s=factors.s[rows])
        parts = _pairs(some) if by_pairs else form_columns(some).square()
        total += parts.sum(dtype=torch.float64)
    return total


def _pairs(factors: Factors) -> Tensor:
    """What the pairs of positions add to each sample, shape ``[N, T, T]``."""
    s = factors.s.transpose(2, 3).flatten(start_dim=1, end_dim=2)
    if factors.classes is None:
        inner = factors.a @ factors.a.mT
    else:
        left, right = factors.a[:, :, None], factors.a[:, None, :]
        inner = ((left == right) & (right >= 0)).to(s.dtype)
    return inner.mul_(s.mT @ s)
