"""Leading eigenpairs from products with a matrix alone.

Block Lanczos iteration (Golub and Van Loan, "Matrix Computations", section 10.3.6, with all
vectors orthogonalized against each other) needs some dozens of products, each of which costs so
much more than a vector that all vectors are kept and convergence is looked for after each block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vivit.errors import ConvergenceError, InputError
from vivit.gram.spectrum import NOT_FINITE, GramPairs, rank_cutoff
from vivit.quantities.ritz import Rows, Space, extended, inner, most_mass, orthonormal

Multiply = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps vectors ``x``, columns of a matrix ``[size, b]``, to ``A x`` and to ``F x``, shape
``[any, b]``, with some linear map ``F`` that comes by on the way."""

SEARCH_TOLERANCE = 0.03
"""Of the search for copies, if what it finds is clearly too small: see `CLEARLY`."""

CLEARLY = 2.0
"""Residuals by which a search must end below the smallest pair that was found. Its vector may be a
mixture of close eigenvectors, whose residual tells how far they are apart."""

FEW_PAIRS = 50
"""Share of all pairs, as one over this, up to which iteration beats a full decomposition."""

WORTH_ITERATING = 320
"""Side of a matrix below which it never does: steps take longer than their arithmetic."""

BLOCK_OF_MATRIX = 4
"""Vectors in a block for a matrix that is there, on a CPU. Products with it are cheap, so fewer
looks for convergence, each a small decomposition, outweigh more products."""

IMPROBABLE = 1e-3
"""Of a random vector: that it has so little of an eigenvector as not to show it."""

NOISE = 0.3
"""Random part of a first vector that was given: it must have something of every eigenvector."""

UNPRODUCTIVE = 10
"""Units of the precision of the largest eigenvalue below which a direction is a rounding error."""


@dataclass(frozen=True)
class Lanczos:
    """Multiply with the Gram matrix, or with the curvature itself, without forming it.

    Attributes:
        tolerance: Norm of a residual ``K e - lambda e`` relative to ``lambda`` at which an
            eigenpair counts as found; by default the square root of the dtype's precision. The
            error of the eigenvalue is of second order in it.
        max_products: Of one iteration, before it gives up; each needs a vector.
        seed: Of random vectors.
        block: Vectors that are multiplied at once, in one run through the data. More of them need
            fewer runs and more products. An eigenvalue is found that many times by itself, if it
            is multiple.
    """

    tolerance: float | None = None
    max_products: int = 500
    seed: int = 0
    block: int = 1

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise InputError(f"Lanczos needs a tolerance in (0, 1), got {self.tolerance}.")
        if self.max_products < 1:
            raise InputError(f"Lanczos needs at least one product, got {self.max_products}.")
        if self.block < 1:
            raise InputError(f"Lanczos needs at least one vector in a block, got {self.block}.")

    def pairs(
        self,
        multiply: Multiply,
        size: int,
        k: int,
        rank_tolerance: float | None,
        like: Tensor,
        start: Tensor | None = None,
        floor: float = 0.0,
        rank: int | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> Space:
        """The ``k`` largest eigenpairs, or all nontrivial ones if there are fewer.

        An iteration finds no more copies of a multiple eigenvalue than a block has vectors. So if
        it has found as many of one, a random vector tells whether there are more in what is left,
        and as long as there are, the iteration runs again with what was found projected out.

        Args:
            multiply: The matrix ``A``, symmetric and positive semidefinite.
            size: Of the matrix.
            k: Less than that.
            rank_tolerance: As for `rank_cutoff`.
            like: A tensor of the dtype and device to use.
            start: First vectors close to the leading eigenspace, shape ``[size, any]``; by
                default random ones.
            floor: Share of the largest eigenvalue to which the residuals of smaller ones are
                relative.
            rank: The largest that the matrix can have; by default its size.
            report: Is told how far it is, in words, after each block.

        Returns:
            The pairs, ascending.

        Raises:
            InputError: A product is NaN or infinite.
            ConvergenceError: The iteration did not find them.
        """
        rank = rank or size
        tolerance = self.tolerance or torch.finfo(like.dtype).eps ** 0.5
        generator = torch.Generator().manual_seed(self.seed)
        width = min(self.block, self.max_products, size)

        def random() -> Tensor:
            z = torch.randn(size, width, generator=generator, dtype=like.dtype).to(like.device)
            return z / z.norm(dim=0)

        first = random()
        if start is not None and start.isfinite().all() and start.any(dim=0).all():
            given = start[:, :width] / start[:, :width].norm(dim=0)
            first[:, : given.shape[1]] *= NOISE
            first[:, : given.shape[1]] += given
        floor = max(floor, rank * torch.finfo(like.dtype).eps)
        iteration = _Iteration(multiply, tolerance, floor, self.max_products, report)
        found = iteration.run(k, first, Space.empty(like, size))
        while 0 < len(found.values) < size and self._may_hide(found.values, k, tolerance, floor):
            smallest, largest = float(found.values[0]), float(found.values[-1])
            bound = rank_cutoff(found.values, rank_tolerance, rank)
            if len(found.values) == k:
                bound = max(bound, smallest + tolerance * max(smallest, floor * largest))
            left = iteration.run(1, random()[:, :1], found, bound)
            if not (left.values > bound).any():
                break
            found = found.joined(iteration.run(k, random(), found)).largest(k)
        keep = found.values > rank_cutoff(found.values, rank_tolerance, rank)
        return found.largest(int(keep.sum()))

    def _may_hide(self, values: Tensor, k: int, tolerance: float, floor: float) -> bool:
        """Whether more copies of an eigenvalue may be among the ``k`` largest than were found.

        Only of one that was found as often as a block has vectors; of the smallest of ``k`` no
        more are needed.
        """
        if self.block == 1:
            return True
        error = 2 * tolerance * values.clamp(min=floor * float(values[-1]))
        some, others = values[: 1 - self.block], values[self.block - 1 :]
        multiple = others - some <= error[self.block - 1 :]
        if len(values) == k:
            multiple &= others > values[0] + error[self.block - 1 :]
        return bool(multiple.any())


@dataclass(frozen=True)
class _Iteration:
    """Block Lanczos iteration.

    Attributes:
        multiply: The matrix.
        tolerance: Of residuals.
        floor: Share of the largest eigenvalue to which the residuals of smaller ones are relative.
        max_products: Products before it gives up.
        report: Is told how far it is.
    """

    multiply: Multiply
    tolerance: float
    floor: float
    max_products: int
    report: Callable[[str], None]

    def run(self, k: int, start: Tensor, found: Space, bound: float | None = None) -> Space:
        """The largest eigenpairs on the complement of eigenvectors that are known.

        Args:
            k: Number of pairs; there are fewer if the first vectors lie in the span of fewer.
            start: The first vectors, shape ``[size, b]``.
            found: The eigenpairs that are known.
            bound: End as soon as it is known whether the largest eigenvalue is above this.

        Returns:
            The pairs, whose products are as good as the iteration's products, however far it has
            converged.

        Raises:
            InputError: A product is NaN or infinite.
            ConvergenceError: The iteration did not find them.
        """
        eps, size = torch.finfo(start.dtype).eps, len(start)
        basis, images = Rows(), Rows()
        projected = torch.zeros(0, 0, dtype=torch.float64)
        scale = max((float(x) for x in found.values[-1:]), default=0.0)
        rest, coupling = orthonormal(start.T, [found.vectors.T], eps)
        converged = 0
        while True:
            block, before = rest, len(projected)
            if before + len(block) > self.max_products:
                raise self._gave_up(k, before, converged)
            product, image = self.multiply(block.T)
            if not product.isfinite().all():
                raise InputError(NOT_FINITE)
            basis.append(block)
            images.append(image.T)
            projected = extended(projected, coupling, inner(block, product.T))
            values, mix = torch.linalg.eigh(projected)
            scale = max(scale, float(values[-1].abs()))
            known = [found.vectors.T, basis.rows]
            rest, coupling = orthonormal(product.T, known, UNPRODUCTIVE * eps * scale)
            residuals = (coupling.T.cpu() @ mix[before:]).norm(dim=0)
            allowed = self.tolerance * values.clamp(min=self.floor * scale)
            converged = int((residuals <= allowed)[-k:].sum())
            searching = "" if bound is None else ", looking for copies"
            self.report(f"Lanczos: {converged} of {k} pairs{searching}")
            room = size - found.vectors.shape[1]
            done = not len(rest) or len(values) >= room
            done = done or self._is_enough(values, residuals, allowed, k, bound)
            if not done and bound is not None:
                above = found.values[found.values > bound]
                done = _is_absent(above, projected, float(coupling.norm()), room)
            if done:
                left = rest.T @ (coupling.T.cpu() @ mix[before:, -k:]).to(start)
                mix = mix[:, -k:].to(start)
                vectors = basis.rows.T @ mix
                products = vectors * values[-k:].to(start) + left
                return Space(values[-k:].to(start), vectors, products, images.rows.T @ mix)

    def _is_enough(
        self, values: Tensor, residuals: Tensor, allowed: Tensor, k: int, bound: float | None
    ) -> bool:
        """Whether the pairs have converged, or it is decided what was asked."""
        if bound is not None and _is_decided(values[-1], residuals[-1], bound):
            return True
        if len(values) < k or bool((residuals > allowed)[-k:].any()):
            return False
        if len(values) == k:
            return True
        return bool(values[-k - 1] + CLEARLY * residuals[-k - 1] <= values[-k] + allowed[-k])

    def _gave_up(self, k: int, count: int, converged: int) -> ConvergenceError:
        return ConvergenceError(
            f"Lanczos iteration found {converged} of {k} eigenpairs with {count} products at "
            f"tolerance {self.tolerance:.1e}. Ask for fewer, with a larger tolerance or more "
            "products, or use method=FullGram()."
        )


def _is_decided(value: Tensor, residual: Tensor, bound: float) -> bool:
    """Whether the largest eigenvalue is above a bound, or clearly is not."""
    is_below = residual <= SEARCH_TOLERANCE * value and value + CLEARLY * residual <= bound
    return bool(value > bound or is_below)


def _is_absent(above: Tensor, projected: Tensor, left: float, size: int) -> bool:
    """Whether it is improbable that copies of some eigenvalues exist, without having been seen.

    A component of a random unit vector is as small as ``c`` with a probability of at most
    ``sqrt(2 size / pi) c``.

    Args:
        above: The eigenvalues, ascending, of which there may be copies.
        projected: The matrix in the basis of an iteration from a random vector.
        left: Length of its next vector.
        size: Dimension of the space that the random vector is from.
    """
    if not len(above):
        return False
    mass = most_mass(float(above[0]), projected, left)
    return bool((2 * size * mass / torch.pi) ** 0.5 <= IMPROBABLE)


def is_few(k: int | None, size: int) -> bool:
    """Whether an iteration finds ``k`` pairs of a matrix faster than a full decomposition."""
    return k is not None and size >= WORTH_ITERATING and FEW_PAIRS * k <= size


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

    def multiply(u: Tensor) -> tuple[Tensor, Tensor]:
        return gram @ u, u[:0]

    precision = 10 * torch.finfo(gram.dtype).eps
    method = Lanczos(precision, block=BLOCK_OF_MATRIX if gram.device.type == "cpu" else 1)
    try:
        found = method.pairs(multiply, len(gram), k, rank_tolerance, gram, floor=1.0)
    except ConvergenceError:
        return None
    return pairs_of_gram(found)


def pairs_of_gram(found: Space) -> GramPairs:
    """Eigenpairs of a Gram matrix with what its products with them tell."""
    images = found.products / found.values.clamp(min=0).sqrt()
    return GramPairs(found.values, found.vectors, images=images)
