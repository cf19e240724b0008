"""The matrix of a block with few parameters, by products with unit vectors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vivit.curvature import Curvature
from vivit.dtypes import is_finite
from vivit.errors import InputError
from vivit.gram.spectrum import NOT_FINITE, OuterMatrix


@torch.no_grad()
def matrix_by_products(curvature: Curvature, parameters: Mapping[str, Tensor]) -> OuterMatrix:
    """``G I``: one run through the batches, a product for each parameter.

    Args:
        curvature: The loss curvature.
        parameters: Those of the block, by name.

    Returns:
        The matrix.

    Raises:
        UnsupportedError: An operation has neither a second derivative nor a forward mode.
        InputError: The matrix is not finite.
    """
    units = {name: curvature.like.new_zeros(p.shape) for name, p in parameters.items()}
    size = sum(p.numel() for p in parameters.values())
    matrix = curvature.like.new_zeros(size, size)
    for batch in curvature.pieces():
        row = 0
        for unit in units.values():
            for i in range(unit.numel()):
                unit.view(-1)[i] = 1
                product = batch.linearization.products.sandwich(batch.multiply, units)
                matrix[row] += torch.cat([product[name].flatten() for name in units])
                unit.view(-1)[i] = 0
                row += 1
    curvature.ranks.add([matrix], "products with unit vectors")
    if not is_finite(matrix):
        raise InputError(NOT_FINITE)
    return OuterMatrix((matrix + matrix.T) / 2)
