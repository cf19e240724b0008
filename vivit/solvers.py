"""Ways to the leading eigenpairs: the Gram matrix, or products with it alone.

The Gram matrix costs ``M^2`` memory, and work that grows with the square of the batch size.
Lanczos iteration (Lehoucq, Sorensen, Yang, "ARPACK Users' Guide", SIAM 1998) needs some dozens of
products, each about four forward passes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from vivit.errors import ConvergenceError, InputError
from vivit.plan import Plan
from vivit.spectrum import NOT_FINITE, GramPairs, rank_cutoff

PRODUCTS_PER_PAIR = 12
"""Products that Lanczos iteration takes for an eigenpair, roughly, with the search for copies."""

PASSES_PER_PRODUCT = 8
"""Time of a product in units of a forward pass that runs as fast as large matrix products."""

FLOPS_PER_EIGENVECTOR = 20
"""Time of a full eigendecomposition with vectors, in units of ``M^3`` flops."""


@dataclass(frozen=True)
class FullGram:
    """Form the Gram matrix (or the ``D x D`` matrix, if smaller) and decompose it."""


@dataclass(frozen=True)
class Lanczos:
    """Multiply with the Gram matrix without forming it.

    Attributes:
        tolerance: Norm of a residual ``K e - lambda e`` relative to ``lambda`` at which an
            eigenpair counts as found; by default the square root of the dtype's precision. The
            error of the eigenvalue is of second order in it.
        max_restarts: Of the iteration, before it gives up.
        seed: Of the first vector.
    """

    tolerance: float | None = None
    max_restarts: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise InputError(f"Lanczos needs a tolerance in (0, 1), got {self.tolerance}.")
        if self.max_restarts < 1:
            raise InputError(f"Lanczos needs at least one restart, got {self.max_restarts}.")

    def pairs(
        self, operator: LinearOperator, k: int, rank_tolerance: float | None, like: Tensor
    ) -> GramPairs:
        """The ``k`` largest eigenpairs, or all nontrivial ones if there are fewer.

        An iteration from one vector can miss copies of a multiple eigenvalue. So it runs again
        with what was found projected out, until nothing larger than the smallest is left.

        Args:
            operator: The Gram matrix, shape ``[M, M]``.
            k: Less than ``M``.
            rank_tolerance: As for `rank_cutoff`.
            like: A tensor of the dtype and device to use.

        Returns:
            The pairs, ascending.

        Raises:
            InputError: A product is NaN or infinite.
            ConvergenceError: The iteration did not find them.
        """
        size = operator.shape[0]
        tolerance = self.tolerance or torch.finfo(like.dtype).eps ** 0.5
        generator = np.random.default_rng(self.seed)
        values = np.empty(0, operator.dtype)
        vectors = np.empty((size, 0), operator.dtype)
        while True:
            start = generator.standard_normal(size).astype(operator.dtype)
            rest = _without(operator, vectors) if len(values) else operator
            more = self._iterate(rest, k, tolerance, start)
            bound = rank_cutoff(torch.from_numpy(values), rank_tolerance, size)
            if len(values) == k:
                bound = max(bound, values[0] * (1 + tolerance))
            larger = more[0] > bound
            values = np.concatenate([values, more[0][larger]])
            vectors = np.concatenate([vectors, more[1][:, larger]], axis=1)
            order = np.argsort(values)[-k:]
            values, vectors = values[order], vectors[:, order]
            if not larger.any():
                break
        pairs = GramPairs(torch.from_numpy(values).to(like), torch.from_numpy(vectors).to(like))
        cutoff = rank_cutoff(pairs.values, rank_tolerance, size)
        return pairs.keep(pairs.values > cutoff)

    def _iterate(
        self, operator: LinearOperator, k: int, tolerance: float, start: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        product = operator @ start
        if not np.isfinite(product).all():
            raise InputError(NOT_FINITE)
        if not product.any():  # nothing to iterate on
            return np.empty(0, operator.dtype), np.empty((len(start), 0), operator.dtype)
        try:
            return eigsh(
                operator, k=k, which="LA", v0=start, tol=tolerance, maxiter=self.max_restarts
            )
        except ArpackNoConvergence as error:
            raise ConvergenceError(
                f"Lanczos iteration found {len(error.eigenvalues)} of {k} eigenpairs within "
                f"{self.max_restarts} restarts at tolerance {tolerance:.1e}. Ask for fewer, with "
                "a larger tolerance or more restarts, or use method=FullGram()."
            ) from error


def _without(operator: LinearOperator, vectors: np.ndarray) -> LinearOperator:
    """An operator on the complement of some of its eigenvectors.

    Their errors enter squared, unlike those of a difference.
    """

    def project(x: np.ndarray) -> np.ndarray:
        return x - vectors @ (vectors.T @ x)

    def matvec(x: np.ndarray) -> np.ndarray:
        return project(operator @ project(x.reshape(-1)))

    return LinearOperator(operator.shape, matvec=matvec, dtype=operator.dtype)


Solver = FullGram | Lanczos


def cheapest_solver(plan: Plan, k: int, available: int | None) -> Solver:
    """Choose by predicted time, among what fits into memory.

    Args:
        plan: Of the matrices of all blocks, which share their passes.
        k: Number of eigenpairs.
        available: Bytes that are left; None if unknown.

    Returns:
        The solver, with default settings.
    """
    if available is not None and plan.peak_bytes > available:
        return Lanczos()
    columns = plan.num_columns / plan.num_samples
    gram = plan.flops + columns * plan.forward_flops
    gram += FLOPS_PER_EIGENVECTOR * sum(side**3 for side in plan.sides)
    lanczos = PRODUCTS_PER_PAIR * k * PASSES_PER_PRODUCT * plan.forward_flops * len(plan.sides)
    return Lanczos() if lanczos < gram else FullGram()
