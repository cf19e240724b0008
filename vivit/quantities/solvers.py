"""Ways to the leading eigenpairs: the Gram matrix, or products with it alone; the cheaper one.

The Gram matrix costs ``M^2`` memory, and work that grows with the square of the batch size.
Lanczos iteration costs some dozens of products. Several processes may have the matrix in blocks.
"""

from __future__ import annotations

from collections.abc import Callable
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


@dataclass(frozen=True)
class SpreadGram(Lanczos):
    """Let the Gram matrix lie in blocks on the ranks that compute them, and multiply with these.

    So no process has the whole matrix, whose size is bounded by the memory of all. A product
    costs no pass through the data. Settings are those of the iteration.
    """


Solver = FullGram | Lanczos


def typical_products(k: int) -> int:
    """Products that Lanczos iteration takes for ``k`` pairs, roughly."""
    return PRODUCTS + PRODUCTS_PER_PAIR * k


def cheapest_solver(
    plan: Plan,
    k: int,
    available: int | None,
    overhead: float,
    spread: Callable[[], Plan] | None = None,
) -> Solver:
    """Choose by predicted time, among what fits into memory.

    Args:
        plan: Of the matrices of all blocks, which share their passes.
        k: Number of eigenpairs.
        available: Bytes that are left; None if unknown.
        overhead: Time that a product takes for each layer whatever its size, in flops.
        spread: Gives the plan of a Gram matrix in blocks, if there are several ranks to have it.

    Returns:
        The solver, with default settings.
    """
    fits = available is None or plan.peak_bytes <= available
    if available is not None and not fits and spread is not None:
        return _cheapest_of_many(spread(), k, available, overhead)
    gram = _passes(plan, overhead) + _decompositions(plan, k, overhead)
    return FullGram() if fits and gram <= _lanczos(plan, k, overhead) else Lanczos()


def _cheapest_of_many(plan: Plan, k: int, available: int, overhead: float) -> Solver:
    """Blocks on several ranks or products alone; arguments as for `cheapest_solver`."""
    assert plan.travel is not None
    products = FLOPS_OF_FEW * plan.num_columns**2 / plan.travel.ranks
    in_blocks = _passes(plan, overhead) + products
    is_faster = in_blocks <= _lanczos(plan, k, overhead)
    return SpreadGram() if plan.peak_bytes <= available and is_faster else Lanczos()


def _per_product(plan: Plan, overhead: float) -> float:
    """Time of a product with ``G``, in flops of large matrix products, as all that follows."""
    return PASSES_PER_PRODUCT * plan.forward_flops + overhead * len(plan.layers)


def _lanczos(plan: Plan, k: int, overhead: float) -> float:
    """Time of the pairs by products alone."""
    return typical_products(k) * _per_product(plan, overhead) * len(plan.matrices)


def _passes(plan: Plan, overhead: float) -> float:
    """Time of all columns and of their products."""
    columns = plan.num_columns / plan.num_samples
    if any(layer.kept == "dense" for layer in plan.layers):  # the generic rule sends them again
        columns *= 2
    launching = overhead * len(plan.layers)
    passes = (columns + PASSES_OF_GRAM) / PASSES_OF_PRODUCT
    sent = bool(plan.sweeps) * plan.passes + bool(plan.summed)
    return plan.flops + sent * (columns * plan.forward_flops + passes * launching)


def _decompositions(plan: Plan, k: int, overhead: float) -> float:
    """Time of the pairs of all matrices; one from columns that are kept is decomposed whole."""
    total = 0.0
    for matrix in plan.matrices:
        side, few = matrix.side, is_few(k, matrix.side) and matrix.form is not Form.COLUMNS
        total += FLOPS_OF_FEW * side**2 if few else FLOPS_PER_EIGENVECTOR * side**3
        total += side * _per_product(plan, overhead) * (matrix.form is Form.PRODUCTS)
    return total
