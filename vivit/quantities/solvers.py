"""Ways to the leading eigenpairs: the Gram matrix, or products with it alone; the cheaper one.

The Gram matrix costs ``M^2`` memory, and work that grows with the square of the batch size.
Lanczos iteration costs some dozens of products.
"""

from __future__ import annotations

from dataclasses import dataclass

from vivit.gram.forms import PASSES_OF_GRAM, PASSES_OF_PRODUCT, PASSES_PER_PRODUCT, Form
from vivit.gram.plan import Plan
from vivit.quantities.lanczos import Lanczos, is_few

PRODUCTS = 10
"""Products that Lanczos iteration takes for a single pair and the search for copies, roughly."""

PRODUCTS_PER_PAIR = 3
"""And for each further pair."""

FLOPS_PER_EIGENVECTOR = 20
"""Time of a full eigendecomposition with vectors, in units of ``M^3`` flops."""

FLOPS_OF_FEW = 8000
"""Time of an iteration on a matrix, in units of ``M^2`` flops: some hundred products with a
vector, at the speed of memory."""


@dataclass(frozen=True)
class FullGram:
    """Form the Gram matrix (or the ``D x D`` matrix, if smaller) and decompose it.

    For few of its pairs, an iteration on it takes the place of the full decomposition.
    """


Solver = FullGram | Lanczos


def typical_products(k: int) -> int:
    """Products that Lanczos iteration takes for ``k`` pairs, roughly."""
    return PRODUCTS + PRODUCTS_PER_PAIR * k


def cheapest_solver(plan: Plan, k: int, available: int | None, overhead: float) -> Solver:
    """Choose by predicted time, among what fits into memory.

    Args:
        plan: Of the matrices of all blocks, which share their passes.
        k: Number of eigenpairs.
        available: Bytes that are left; None if unknown.
        overhead: Time that a product takes for each layer whatever its size, in flops.

    Returns:
        The solver, with default settings.
    """
    if available is not None and plan.peak_bytes > available:
        return Lanczos()
    columns = plan.num_columns / plan.num_samples
    if any(layer.kept == "dense" for layer in plan.layers):  # the generic rule sends them again
        columns *= 2
    launching = overhead * len(plan.layers)
    passes = (columns + PASSES_OF_GRAM) / PASSES_OF_PRODUCT
    per_product = PASSES_PER_PRODUCT * plan.forward_flops + launching
    sent = bool(plan.sweeps) * plan.passes + bool(plan.summed)
    gram = plan.flops + sent * (columns * plan.forward_flops + passes * launching)
    for matrix in plan.matrices:  # one from columns that are kept is decomposed whole
        side, few = matrix.side, is_few(k, matrix.side) and matrix.form is not Form.COLUMNS
        gram += FLOPS_OF_FEW * side**2 if few else FLOPS_PER_EIGENVECTOR * side**3
        gram += side * per_product * (matrix.form is Form.PRODUCTS)
    lanczos = typical_products(k) * per_product * len(plan.matrices)
    return Lanczos() if lanczos < gram else FullGram()
