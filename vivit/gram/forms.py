"""Which matrix of a block is formed, and how: the smaller one, in the way that costs least."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

PASSES_PER_PRODUCT = 8
"""Time of a product in units of a forward pass that runs as fast as large matrix products."""

PASSES_OF_GRAM = 3
"""Passes that a Gram matrix takes beside those of its columns, where launching them is all."""

PASSES_OF_PRODUCT = 2
"""And those of a product."""


CLEARLY = 4.0
"""How much faster products have to be than columns that could be kept: these can be squared in
double precision."""


class Form(Enum):
    """What is formed of the columns of a block."""

    GRAM = "M x M, inner products of columns"
    COLUMNS = "D x D, from columns that are kept"
    SUM = "D x D, added up over samples"
    PRODUCTS = "D x D, by products with G"


SWEPT = (Form.GRAM, Form.COLUMNS)
"""Forms that are made in common sweeps; sums have one of their own, products none."""


@dataclass(frozen=True)
class MatrixPlan:
    """The matrix of a block that will be decomposed.

    Attributes:
        group: Name of the block.
        form: What is formed.
        side: Its size.
        kept_bytes: Of the matrix; of columns that are kept, these.
        why: In words.
    """

    group: str
    form: Form
    side: int
    kept_bytes: int
    why: str


@dataclass(frozen=True)
class Times:
    """Predicted times of the two ways to a ``D x D`` matrix that is not made of kept columns.

    In flops of large matrix products.

    Attributes:
        product: Of a single product with ``G``: a forward pass with tangents and a backward pass.
        sum: Of the backward passes of all columns, and of adding them up.
    """

    product: float
    sum: float


def matrix_plan(
    group: str,
    dimension: int,
    columns: int,
    element_size: int,
    workspace: int,
    times: Times,
    whole: bool = False,
) -> MatrixPlan:
    """Choose the form of the matrix of a block.

    Args:
        group: Name of the block.
        dimension: ``D``.
        columns: ``M``.
        element_size: Bytes of an element.
        workspace: Bytes that columns may take to be kept.
        times: What the ways take.
        whole: Whether the Gram matrix is asked for, whatever its size.

    Returns:
        The plan.
    """
    if dimension > columns or whole:
        size = columns**2 * element_size
        why = "it is asked for" if whole else f"M = {columns} < D = {dimension}"
        return MatrixPlan(group, Form.GRAM, columns, size, why)
    smaller = f"D = {dimension} <= M = {columns}"
    kept, size = columns * dimension * element_size, dimension**2 * element_size
    gain = CLEARLY if kept <= workspace else 1.0
    if gain * dimension * times.product < times.sum:
        why = f"{smaller}, and D products take less time than all columns"
        return MatrixPlan(group, Form.PRODUCTS, dimension, size, why)
    if kept <= workspace:
        why = f"{smaller}, and the columns fit into the workspace"
        return MatrixPlan(group, Form.COLUMNS, dimension, kept, why)
    why = f"{smaller}, and the columns do not fit into the workspace"
    return MatrixPlan(group, Form.SUM, dimension, size, why)
