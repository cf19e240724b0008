"""Damped systems ``(G + delta I) x = v``, with the flat directions, and how accurate they are.

Woodbury's identity makes them one of the size of the Gram matrix ``K = V^T V``
(Dangel, Tatzel, Hennig, "ViViT", TMLR 2022, appendix on inverse products)::

    (G + delta I)^-1 v = (v - V (K + delta I)^-1 V^T v) / delta.

For a small ``delta`` the difference cancels. So the residual of the solution is computed, by a
product with ``G``, and solved for in turn as long as that helps: iterative refinement (Higham,
"Accuracy and Stability of Numerical Algorithms", chapter 12).
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vivit.errors import InputError
from vivit.operators import flatten_columns, unflatten_columns
from vivit.quantities.arguments import Dampings
from vivit.quantities.block import Block, SmallerMatrix
from vivit.quantities.conjugate_gradients import ConjugateGradients, Preconditioner, Systems
from vivit.quantities.inverses import Inverse, copies_beside, inverse_of
from vivit.quantities.solvers import FullGram

SolveMethod = FullGram | ConjugateGradients

REFINEMENTS = 3
"""Corrections of a solution at most."""

GAIN = 0.5
"""Share of some residual that a correction must leave at most, or it is the last."""

ATTAINED = 4.0
"""Backward error, in units of the precision, below which another correction is not worth its time,
unless there would be a warning."""


@dataclass(frozen=True)
class Solution:
    """Solutions of damped systems.

    Attributes:
        x: Shape ``[P, D, K]``.
        residual: Norms of the residuals relative to the right-hand sides, shape ``[P, K]``; None
            if they are not known.
    """

    x: Tensor
    residual: Tensor | None


@dataclass(frozen=True)
class DampedInverse(ABC):
    """``(G + delta_p I)^-1`` for dampings ``delta_1, ..., delta_P``.

    Attributes:
        block: The curvature.
        dampings: The dampings.
    """

    block: Block
    dampings: Dampings

    def solve(self, v: Tensor, check: bool = True) -> Solution:
        """Solve for right-hand sides ``[D, K]``, and say how well unless that is not wanted."""
        if v.numel():
            scale = _near_largest(v)
            found = self._solved(v / scale, check)
            return Solution(found.x * scale, found.residual)
        count = len(self.dampings.values)
        return Solution(v.new_zeros(count, *v.shape), v.new_zeros(count, v.shape[1]))

    @abstractmethod
    def _solved(self, v: Tensor, check: bool) -> Solution: ...


@dataclass(frozen=True)
class DirectInverse(DampedInverse):
    """From a matrix that is factored once.

    Attributes:
        matrix: The smaller one of the two, of which `inverse` is.
        inverse: Of it.
    """

    matrix: SmallerMatrix
    inverse: Inverse

    def _solved(self, v: Tensor, check: bool) -> Solution:
        x = self.apply(v[None])
        return self.refined(v, x) if check else Solution(x, None)

    def refined(self, v: Tensor, x: Tensor) -> Solution:
        """Correct solutions by the inverse of their residuals, as long as that helps.

        Args:
            v: Right-hand sides, shape ``[D, K]``.
            x: First solutions, shape ``[P, D, K]``.

        Returns:
            Solutions whose residuals are the smallest that were met.
        """
        scale = _lengths(v)
        r = self._residual(v, x)
        size = r.norm(dim=1) / scale
        for _ in range(REFINEMENTS):
            if not (size > self._attainable(x, scale).clamp(max=self.block.accuracy)).any():
                break
            other = x + self.apply(r)
            rest = self._residual(v, other)
            found = rest.norm(dim=1) / scale
            better, gains = found < size, bool((found < GAIN * size).any())
            x = torch.where(better[:, None], other, x)
            r = torch.where(better[:, None], rest, r)
            size = torch.where(better, found, size)
            if not gains:
                break
        return Solution(x, size.to(v.dtype))

    def _attainable(self, x: Tensor, scale: Tensor) -> Tensor:
        """What rounding of ``x`` and of products may leave of residuals, shape ``[P, K]``."""
        lengths = (self.matrix.norm + self.dampings.shaped(x)[:, 0]) * x.norm(dim=1) / scale
        return ATTAINED * torch.finfo(x.dtype).eps * (1 + lengths)

    @abstractmethod
    def apply(self, b: Tensor) -> Tensor:
        """Map ``[P, D, K]``, or ``[1, D, K]`` for all, to ``[P, D, K]``."""

    @abstractmethod
    def _residual(self, v: Tensor, x: Tensor) -> Tensor:
        """``v - (G + delta_p I) x_p``, shape ``[P, D, K]``."""


class WoodburyInverse(DirectInverse):
    """From the Gram matrix: a Jacobian-vector and a vector-Jacobian product for each vector."""

    def apply(self, b: Tensor) -> Tensor:
        """See `DirectInverse`."""
        factor = self.block.factor
        images = factor.contract(unflatten_columns(_side_by_side(b), factor.shapes))
        return (b - self.spread(images, len(b))) / self.dampings.shaped(b)

    def spread(self, coordinates: Tensor, count: int = 1) -> Tensor:
        """``V (K + delta_p I)^-1 w``, shape ``[P, D, K]``.

        So with right-hand sides ``V w`` these are the solutions, without any difference.

        Args:
            coordinates: ``w``, shape ``[M, count K]``, of all dampings or one after the other.
            count: One, or the number of dampings.
        """
        factor, columns = self.block.factor, coordinates.shape[1] // count
        w = _stacked(coordinates.to(self.matrix.tensor), count)
        solved = _side_by_side(self.inverse.apply(w)).to(factor.like.dtype)
        spread = flatten_columns(factor.spread(solved), factor.shapes)
        return _stacked(spread, solved.shape[1] // columns)

    def _residual(self, v: Tensor, x: Tensor) -> Tensor:
        product = _stacked(self.block.multiply(_side_by_side(x)), len(x))
        return v - product - self.dampings.shaped(x) * x


class MatrixInverse(DirectInverse):
    """From ``G`` itself, if it has no more rows than the Gram matrix: no product with ``V``."""

    def apply(self, b: Tensor) -> Tensor:
        """See `DirectInverse`."""
        return self.inverse.apply(b.to(self.matrix.tensor)).to(self.block.factor.like.dtype)

    def _solved(self, v: Tensor, check: bool) -> Solution:
        """The residual is one of the matrix, which has rounding errors of its own beside ``G``."""
        found = super()._solved(v, check)
        if found.residual is None:
            return found
        own = self.matrix.noise * found.x.norm(dim=1) / _lengths(v)
        return Solution(found.x, found.residual + own)

    def _residual(self, v: Tensor, x: Tensor) -> Tensor:
        x = x.to(self.matrix.tensor)
        return v - self.matrix.tensor @ x - self.dampings.shaped(x) * x


@dataclass(frozen=True)
class IterativeInverse(DampedInverse):
    """By products with ``G``.

    Attributes:
        method: Settings.
        preconditioner: The preconditioner, if there is one.
    """

    method: ConjugateGradients
    preconditioner: Preconditioner | None

    def _solved(self, v: Tensor, check: bool) -> Solution:
        """The residual is known in any case: it ends the iteration."""
        count, progress = len(self.dampings.values), self.block.matrices.curvature.progress
        with progress.stage("conjugate gradients"):
            systems = Systems(
                self.block.multiply,
                self.preconditioner,
                self.method.tolerance_of(self.block),
                self.method.max_products,
                progress.describe,
            )
            dampings = self.dampings.values.to(v.dtype).to(v.device)
            x, residual = systems.solve(v.repeat(1, count), dampings.repeat_interleave(v.shape[1]))
        return Solution(_stacked(x, count), residual.reshape(count, -1))


def damped_inverse(
    block: Block, dampings: Dampings, method: SolveMethod | None = None
) -> DirectInverse | IterativeInverse:
    """Prepare the inverse: form and factor the smaller matrix, if it fits.

    Args:
        block: The curvature.
        dampings: The dampings.
        method: The way; by default the matrix, if it fits or has been made, else iteration.

    Returns:
        The inverse.

    Raises:
        InputError: The method is none.
        InsufficientMemoryError: The matrix was asked for, and does not fit.
    """
    if method is not None and not isinstance(method, (FullGram, ConjugateGradients)):
        raise InputError(f"method must be FullGram() or ConjugateGradients(), got {method!r}.")
    copies, costs = copies_beside(len(dampings.values)), block.matrices.costs
    if method is None and not block.matrices.are_made and not costs.fits(costs.plan(copies)):
        method = ConjugateGradients()
    if isinstance(method, ConjugateGradients):
        block.matrices.curvature.check_fresh()
        few = method.few(block)
        preconditioner = None if few is None else Preconditioner(few, block)
        return IterativeInverse(block, dampings, method, preconditioner)
    matrix = block.smaller(copies, float(dampings.values.min()))
    inverse = inverse_of(matrix.tensor, dampings, costs.room.available)
    if not block.has_gram:
        return MatrixInverse(block, dampings, matrix, inverse)
    factored = replace(matrix, tensor=matrix.tensor.new_empty(0))  # its factor is enough
    return WoodburyInverse(block, dampings, factored, inverse)


def tell(inverse: DirectInverse | IterativeInverse, found: Solution) -> bool:
    """Warn of a residual that is larger than products are accurate; whether it was.

    An iteration has said so itself, with a tolerance of its own.
    """
    if isinstance(inverse, IterativeInverse) or found.residual is None:
        return False
    if not found.residual.numel():  # of no vectors at all
        return False
    dtype = found.x.dtype
    limit, worst = inverse.block.accuracy, found.residual.amax(dim=1)
    if (worst <= limit).all():  # which NaN is not
        return False
    p = int(worst.argmax())
    damping, norm = float(inverse.dampings.values[p]), inverse.matrix.norm
    remedy = "" if dtype is torch.float64 else ", or a model in float64"
    warnings.warn(
        f"The damped system is solved up to a relative residual of {float(worst[p]):.1e}, above "
        f"{limit:.1e}: the damping {damping:.1e} is small beside the norm {norm:.1e} of the "
        f"curvature, in {dtype}. Use a larger damping{remedy}.",
        stacklevel=2,
    )
    return True


def _lengths(v: Tensor) -> Tensor:
    """Norms of columns, to divide by: one for those that are zero, shape ``[K]``."""
    found = v.norm(dim=0)
    return torch.where(found > 0, found, 1.0)


def _near_largest(v: Tensor) -> Tensor:
    """Powers of two near the largest entry of each column, shape ``[K]``.

    Divided by these, which is exact, no column is so small or large that its norm cannot be told.
    """
    largest = v.abs().amax(dim=0)
    _, exponents = torch.frexp(largest)
    return torch.ldexp(torch.ones_like(largest), exponents.clamp(-100, 100))


def _side_by_side(x: Tensor) -> Tensor:
    """``[P, D, K]`` as columns ``[D, P K]``."""
    return x.movedim(0, 1).flatten(1)


def _stacked(x: Tensor, count: int) -> Tensor:
    """Columns ``[D, P K]`` as ``[P, D, K]``."""
    return x.unflatten(1, (count, -1)).movedim(1, 0)
