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
from vivit.spectrum import GramPairs, rank_cutoff

PRODUCTS_PER_PAIR = 7
"""Products that Lanczos iteration takes for an eigenpair, roughly: spectra of networks vary."""

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

        Args:
            operator: The Gram matrix, shape ``[M, M]``.
            k: Less than ``M``.
            rank_tolerance: As for `rank_cutoff`.
            like: A tensor of the dtype and device to use.

        Returns:
            The pairs, ascending.

        Raises:
            ConvergenceError: The iteration did not find them.
        """
        size = operator.shape[0]
        tolerance = self.tolerance or torch.finfo(like.dtype).eps ** 0.5
        start = np.random.default_rng(self.seed).standard_normal(size).astype(operator.dtype)
        try:
            found = eigsh(
                operator, k=k, which="LA", v0=start, tol=tolerance, maxiter=self.max_restarts
            )
        except ArpackNoConvergence as error:
            raise ConvergenceError(
                f"Lanczos iteration found {len(error.eigenvalues)} of {k} eigenpairs within "
                f"{self.max_restarts} restarts at tolerance {tolerance:.1e}. Ask for fewer, with "
                "a larger tolerance or more restarts, or use method=FullGram()."
            ) from error
        order = np.argsort(found[0])
        values, vectors = (torch.from_numpy(x).to(like) for x in (found[0], found[1]))
        pairs = GramPairs(values, vectors).keep(torch.from_numpy(order).to(like.device))
        cutoff = rank_cutoff(pairs.values, rank_tolerance, size)
        return pairs.keep(pairs.values > cutoff)


Solver = FullGram | Lanczos


def cheapest_solver(plan: Plan, k: int, available: int | None) -> Solver:
    """Choose by predicted time, among what fits into memory.

    Args:
        plan: Of the Gram matrix.
        k: Number of eigenpairs.
        available: Bytes that are left; None if unknown.

    Returns:
        The solver, with default settings.
    """
    if plan.num_columns <= PRODUCTS_PER_PAIR * k:
        return FullGram()
    if available is not None and plan.peak_bytes > available:
        return Lanczos()
    columns = plan.num_columns / plan.num_samples
    gram = plan.flops + columns * plan.forward_flops
    gram += FLOPS_PER_EIGENVECTOR * plan.num_columns**3
    lanczos = PRODUCTS_PER_PAIR * k * PASSES_PER_PRODUCT * plan.forward_flops
    return Lanczos() if lanczos < gram else FullGram()
