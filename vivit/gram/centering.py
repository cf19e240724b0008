"""The mean of all columns, subtracted from each: ``V (I - 1 1^T / M)`` in place of ``V``."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from vivit.curvature import Curvature
from vivit.gram.spectrum import OuterMatrix


def center_columns(columns: Tensor) -> float:
    """Subtract the mean of all rows from each, in place.

    Args:
        columns: ``V^T``, shape ``[M, D]``.

    Returns:
        The eigenvalue that this removes from ``V V^T``, if the mean is an eigenvector.
    """
    mean = columns.mean(dim=0)
    columns -= mean
    return float(mean.square().sum()) * len(columns)


def center_gram(gram: Tensor) -> float:
    """Do to a Gram matrix what subtracting the mean of all columns does, in place.

    Args:
        gram: Shape ``[M, M]``.

    Returns:
        As `center_columns`.
    """
    mean = gram.mean(dim=0)
    of_mean = mean.mean()
    gram -= mean
    gram -= (mean - of_mean)[:, None]
    return float(of_mean) * len(gram)


@torch.no_grad()
def center_outer(outer: OuterMatrix, curvature: Curvature, names: Iterable[str]) -> OuterMatrix:
    """Subtract ``V 1 (V 1)^T / M`` from a matrix ``V V^T``, in place.

    Args:
        outer: The matrix.
        curvature: Where the columns come from.
        names: Of the parameters of the block.

    Returns:
        The matrix, of centred columns.
    """
    count = curvature.num_columns
    parameters = {name: curvature.parameters[name] for name in names}
    total = outer.matrix.new_zeros(len(outer.matrix))
    for piece in curvature.pieces():
        ones = total.new_ones(piece.rows.stop - piece.rows.start)
        found = piece.linearization.products.pullback(piece.spread(ones), parameters)
        total += torch.cat([found[name].flatten() for name in parameters])
    curvature.ranks.add([total], "the sum of all columns")
    outer.matrix.addr_(total, total, alpha=-1 / count)
    return OuterMatrix(outer.matrix, removed=float(total.square().sum()) / count)
