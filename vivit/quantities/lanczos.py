"""Leading eigenpairs from products with a matrix alone.

Lanczos iteration (Golub and Van Loan, "Matrix Computations", section 10.1, with all vectors
orthogonalized against each other) needs some dozens of products, each about five forward passes
for a Gram matrix that is not formed. A product costs so much more than a vector that all vectors
are kept and convergence is looked for after each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vivit.errors import ConvergenceError, InputError
from vivit.gram.spectrum import NOT_FINITE, GramPairs, rank_cutoff

SEARCH_TOLERANCE = 0.03
"""Of the search for copies, if what it finds is clearly too small: see `CLEARLY`."""

CLEARLY = 2.0
"""Residuals by which a search must end below the smallest pair that was found. Its vector may be a
mixture of close eigenvectors, whose residual tells how far they are apart."""

FEW_PAIRS = 50
"""Share of all pairs, as one over this, up to which iteration beats a full decomposition."""

NOISE = 1e-3
"""Random part of a first vector that was given: no eigenvector must be orthogonal to it."""


@dataclass(frozen=True)
class Lanczos:
    """Multiply with the Gram matrix without forming it.

    Attributes:
        tolerance: Norm of a residual ``K e - lambda e`` relative to ``lambda`` at which an
            eigenpair counts as found; by default the square root of the dtype's precision. The
            error of the eigenvalue is of second order in it.
        max_products: Of one iteration, before it gives up; each needs a vector of size ``M``.
        seed: Of random vectors.
    """

    tolerance: float | None = None
    max_products: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise InputError(f"Lanczos needs a tolerance in (0, 1), got {self.tolerance}.")
        if self.max_products < 1:
            raise InputError(f"Lanczos needs at least one product, got {self.max_products}.")

    def pairs(
        self,
        multiply: Callable[[Tensor], Tensor],
        size: int,
        k: int,
        rank_tolerance: float | None,
        like: Tensor,
        start: Tensor | None = None,
        floor: float = 0.0,
    ) -> GramPairs:
        """The ``k`` largest eigenpairs, or all nontrivial ones if there are fewer.

        An iteration from one vector can miss copies of a multiple eigenvalue. So the largest
        eigenvalue of what is left is searched for, and as long as it is one of the ``k`` largest,
        the iteration runs again with what was found projected out.

        Args:
            multiply: The Gram matrix: maps a tensor of shape ``[M]`` to another.
            size: ``M``.
            k: Less than ``M``.
            rank_tolerance: As for `rank_cutoff`.
            like: A tensor of the dtype and device to use.
            start: Close to the leading eigenspace, shape ``[M]``; by default a random vector.
            floor: Share of the largest eigenvalue to which the residuals of smaller ones are
                relative.

        Returns:
            The pairs, ascending.

        Raises:
            InputError: A product is NaN or infinite.
            ConvergenceError: The iteration did not find them.
        """
        tolerance = self.tolerance or torch.finfo(like.dtype).eps ** 0.5
        generator = torch.Generator().manual_seed(self.seed)

        def random() -> Tensor:
            z = torch.randn(size, generator=generator, dtype=like.dtype).to(like.device)
            return z / z.norm()

        first = random()
        if start is not None and start.isfinite().all() and start.any():
            first = NOISE * first + start / start.norm()
        iteration = _Iteration(multiply, tolerance, floor, self.max_products)
        values, vectors, images = iteration.run(k, first, like.new_empty(size, 0), 0.0)
        while 0 < len(values) < size:
            largest = float(values[-1])
            bound = rank_cutoff(values, rank_tolerance, size)
            if len(values) == k:
                error = tolerance * max(float(values[0]), floor * largest)
                bound = max(bound, float(values[0]) + error)
            left, *_ = iteration.run(1, random(), vectors, largest, bound)
            if not (left > bound).any():
                break
            more = iteration.run(k, random(), vectors, largest)
            products = more[2] + vectors @ (images.T @ more[1])  # what was projected out
            vectors = torch.cat([vectors, more[1]], dim=1)
            values, vectors, images = _ritz(vectors, torch.cat([images, products], dim=1))
            values, vectors, images = values[-k:], vectors[:, -k:], images[:, -k:]
        pairs = GramPairs(values, vectors, images=images / values.clamp(min=0).sqrt())
        return pairs.keep(values > rank_cutoff(values, rank_tolerance, size))


@dataclass(frozen=True)
class _Iteration:
    """Lanczos iteration.

    Attributes:
        multiply: The matrix: maps a tensor of shape ``[M]`` to another.
        tolerance: Of residuals.
        floor: Share of the largest eigenvalue to which the residuals of smaller ones are relative.
        max_products: Products before it gives up.
    """

    multiply: Callable[[Tensor], Tensor]
    tolerance: float
    floor: float
    max_products: int

    def run(
        self, k: int, start: Tensor, found: Tensor, largest: float, bound: float | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The largest eigenpairs on the complement of eigenvectors that are known.

        Args:
            k: Number of pairs; there are fewer if the first vector lies in the span of fewer.
            start: The first vector, shape ``[M]``.
            found: Unit eigenvectors, shape ``[M, K]``.
            largest: The largest eigenvalue of these.
            bound: End as soon as it is known whether the largest eigenvalue is above this.

        Returns:
            Eigenvalues, ascending, eigenvectors as columns, and the products with these, which
            are as good as the iteration's products however far it has converged.

        Raises:
            InputError: A product is NaN or infinite.
            ConvergenceError: The iteration did not find them.
        """
        eps = torch.finfo(start.dtype).eps
        basis = start.new_empty(0, len(start))
        tridiagonal = torch.zeros(0, 0, dtype=torch.float64)
        rest = _without(_without(start, found.T), found.T)
        for count in range(1, self.max_products + 1):
            norm = float(rest.norm())
            basis = torch.cat([basis, (rest / norm)[None]])
            product = self.multiply(basis[-1])
            if not product.isfinite().all():
                raise InputError(NOT_FINITE)
            tridiagonal = torch.nn.functional.pad(tridiagonal, (0, 1, 0, 1))
            tridiagonal[-1, -1] = float(basis[-1] @ product)
            if count > 1:
                tridiagonal[-1, -2] = tridiagonal[-2, -1] = norm
            rest = product
            for _ in range(2):  # once is not enough: Parlett, "The symmetric eigenvalue problem"
                rest = _without(_without(rest, found.T), basis)
            values, vectors = torch.linalg.eigh(tridiagonal)
            values, vectors = values[-k:], vectors[:, -k:]
            scale = max(largest, float(values[-1].abs()))
            left = float(rest.norm())
            residuals = left * vectors[-1].abs()
            allowed = self.tolerance * values.clamp(min=max(len(start) * eps, self.floor) * scale)
            exhausted = left <= 10 * eps * scale or count == len(start) - found.shape[1]
            converged = count >= k and bool((residuals <= allowed).all())
            if exhausted or converged or _is_decided(values[-1], residuals[-1], bound):
                found_vectors, weights = basis.T @ vectors.to(start), vectors[-1].to(start)
                products = found_vectors * values.to(start) + rest[:, None] * weights
                return values.to(start), found_vectors, products
        raise ConvergenceError(
            f"Lanczos iteration found {int((residuals <= allowed).sum())} of {k} eigenpairs with "
            f"{self.max_products} products at tolerance {self.tolerance:.1e}. Ask for fewer, with "
            "a larger tolerance or more products, or use method=FullGram()."
        )


def _ritz(vectors: Tensor, products: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best eigenpairs within a space, so that different ones do not mix.

    Args:
        vectors: An orthonormal basis, shape ``[M, K]``.
        products: The matrix times these.

    Returns:
        Eigenvalues, ascending, eigenvectors, and the products with them.
    """
    inner = (vectors.T @ products).double()
    values, mix = torch.linalg.eigh((inner + inner.T) / 2)
    return values.to(vectors), vectors @ mix.to(vectors), products @ mix.to(vectors)


def _is_decided(value: Tensor, residual: Tensor, bound: float | None) -> bool:
    """Whether the largest eigenvalue is above a bound, or clearly is not."""
    if bound is None:
        return False
    is_below = residual <= SEARCH_TOLERANCE * value and value + CLEARLY * residual <= bound
    return bool(value > bound or is_below)


def is_few(k: int | None, size: int) -> bool:
    """Whether an iteration finds ``k`` pairs of a matrix faster than a full decomposition."""
    return k is not None and FEW_PAIRS * k <= size


def leading_of_matrix(gram: Tensor, k: int, rank_tolerance: float | None) -> GramPairs | None:
    """The ``k`` largest eigenpairs of a Gram matrix, as accurate as LAPACK's but without the rest.

    Args:
        gram: Shape ``[M, M]``.
        k: Much less than ``M``.
        rank_tolerance: As for `rank_cutoff`.

    Returns:
        The pairs, ascending; None if they do not pay, or do not converge.
    """
    if not is_few(k, len(gram)):
        return None
    precision = 10 * torch.finfo(gram.dtype).eps
    try:
        return Lanczos(precision).pairs(
            gram.__matmul__, len(gram), k, rank_tolerance, gram, floor=1.0
        )
    except ConvergenceError:
        return None


def _without(x: Tensor, vectors: Tensor) -> Tensor:
    """What is left of a vector when its parts along orthonormal rows are taken off."""
    return x - vectors.T @ (vectors @ x)
