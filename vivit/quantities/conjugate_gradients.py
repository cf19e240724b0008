"""Damped systems from products with ``G`` alone, many right-hand sides at once.

Conjugate gradients (Hestenes and Stiefel, "Methods of conjugate gradients for solving linear
systems", 1952), preconditioned by the inverse of the curvature of few samples. Where rounding
errors have driven the residual of the recursion away from the true one, it begins anew with that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vivit.errors import ConvergenceError, InputError
from vivit.gram.precision import is_double
from vivit.gram.spectrum import NOT_FINITE
from vivit.operators import flatten_columns, unflatten_columns
from vivit.quantities.block import Block
from vivit.quantities.few import FEW_COLUMNS, FewSamples, few_samples

Columns = Callable[[Tensor], Tensor]
"""Maps columns ``[D, Q]`` to as many."""

GAIN = 0.8
"""Share of the residual that a further start must leave at most, or there is none."""


RELIABLE = 1 / 3
"""Directions of few samples that count in their preconditioner, as a share of their columns. More
would be those of these samples alone, which makes it worse than none."""

BISECTIONS = 30
"""To find a damping; each halves the error of its exponent."""


@dataclass(frozen=True)
class ConjugateGradients:
    """Solve damped systems by products with the curvature, without any matrix.

    Attributes:
        tolerance: Norm of the residual ``v - (G + delta I) x`` relative to that of ``v``; by
            default 1e-10 in double and 3.5e-4 in single precision, the square root of ``eps``;
            more, if the model computes in half precision.
        max_products: With each right-hand side, before it gives up. All right-hand sides and
            dampings share their runs through the data.
        preconditioner_samples: Samples whose curvature, scaled to stand for all, preconditions;
            by default as many as have 256 columns. With 0 there is no preconditioner, nor with a
            model that cannot run on few samples alone.
    """

    tolerance: float | None = None
    max_products: int = 500
    preconditioner_samples: int | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        tolerance, samples = self.tolerance, self.preconditioner_samples
        if tolerance is not None and not 0 < tolerance < 1:
            raise InputError(f"ConjugateGradients needs a tolerance in (0, 1), got {tolerance}.")
        if self.max_products < 1:
            raise InputError(
                f"ConjugateGradients needs at least one product, got {self.max_products}."
            )
        if samples is not None and (not isinstance(samples, int) or samples < 0):
            raise InputError(
                f"preconditioner_samples must be a whole number >= 0, or None, got {samples}."
            )

    def tolerance_of(self, block: Block) -> float:
        """The tolerance for solving with a block."""
        if self.tolerance is not None:
            return self.tolerance
        return 1e-10 if is_double(block.factor.like.dtype) else block.accuracy

    def few(self, block: Block) -> FewSamples | None:
        """The samples that precondition, if any."""
        (_, columns), *_ = block.matrices.curvature.places.shapes
        count = self.preconditioner_samples
        if count == 0 or not columns or (count is None and columns > FEW_COLUMNS):
            return None
        count = max(FEW_COLUMNS // columns, 1) if count is None else count
        return few_samples(block.matrices, block.group, count, or_half=True)


class Preconditioner:
    """``(s V V^T + (delta + t) I)^-1`` by Woodbury, with ``V`` of one in ``s`` samples.

    With eigenpairs ``V^T V = U diag(lambda) U^T`` it maps ``v`` to
    ``(v - V U diag(s / (s lambda + delta + t)) U^T V^T v) / (delta + t)``. Weak directions of few
    samples are not those of all, and the others' curvature has no part in their flat ones. So
    ``t`` takes the place of both: it is so large that ``sum s lambda / (s lambda + t)``, the
    number of directions that count, is `RELIABLE` of the columns.
    """

    def __init__(self, few: FewSamples, block: Block) -> None:
        """Find the tail ``t``.

        Args:
            few: The samples.
            block: The block.
        """
        self._few, self._shapes = few, block.factor.shapes
        self._share = block.matrices.curvature.num_curvature_samples / few.count
        self._tail = _damping_of(self._share * few.pairs.values, RELIABLE)

    def apply(self, v: Tensor, dampings: Tensor) -> Tensor:
        """Map columns ``[D, Q]``, with a damping for each, shape ``[Q]``."""
        pairs, dampings = self._few.pairs, dampings + self._tail
        if not len(pairs.values):
            return v / dampings
        images = self._few.contract(unflatten_columns(v, self._shapes))
        vectors = pairs.coefficients.to(v)
        weights = self._share / (self._share * pairs.values.to(v)[:, None] + dampings)
        coefficients = vectors @ (weights * (vectors.T @ images))
        return (v - flatten_columns(self._few.spread(coefficients), self._shapes)) / dampings


def _damping_of(values: Tensor, share: float) -> float:
    """``t`` with ``sum lambda / (lambda + t)`` of that share of the number of eigenvalues.

    Args:
        values: Positive.
        share: Below one.

    Returns:
        The damping, found by bisection; 0 if there is no eigenvalue.
    """
    if not len(values):
        return 0.0
    low, high = share * float(values[0]), float(values[-1]) / share
    for _ in range(BISECTIONS):
        middle = (low * high) ** 0.5
        counted = float((values / (values + middle)).mean())
        low, high = (middle, high) if counted > share else (low, middle)
    return high


@dataclass
class Systems:
    """``(G + delta_q I) x_q = b_q`` for some right-hand sides, of one pass each step.

    Attributes:
        multiply: ``G`` times columns.
        preconditioner: Near its damped inverse, if there is one.
        tolerance: Of residuals, relative to ``b``.
        max_products: Before it gives up.
        report: Is told how far it is, in words.
    """

    multiply: Columns
    preconditioner: Preconditioner | None
    tolerance: float
    max_products: int
    report: Callable[[str], None]
    products: int = 0

    def solve(self, b: Tensor, dampings: Tensor) -> tuple[Tensor, Tensor]:
        """Solve all.

        Args:
            b: Columns, shape ``[D, Q]``.
            dampings: Of each, shape ``[Q]``.

        Returns:
            Solutions, shape ``[D, Q]``, and norms of their true residuals relative to ``b``.

        Raises:
            ConvergenceError: One residual stays too large.
            InputError: A product is NaN or infinite.
        """
        norms = b.norm(dim=0)
        x, r = torch.zeros_like(b), b.clone()
        relative = (norms > 0).to(b)
        while True:
            left = (relative <= self.tolerance).logical_not().nonzero()[:, 0]
            if not len(left):
                return x, relative
            if self.products >= self.max_products:
                raise self._gave_up(relative)
            x[:, left] += self._run(r[:, left], dampings[left], self.tolerance * norms[left])
            r[:, left] = b[:, left] - self._damped(x[:, left], dampings[left])
            before = relative[left]
            relative[left] = r[:, left].norm(dim=0) / norms[left]
            if not (relative[left] <= (GAIN * before).clamp(min=self.tolerance)).all():
                raise self._gave_up(relative)

    def _run(self, b: Tensor, dampings: Tensor, allowed: Tensor) -> Tensor:
        """From zero until the residuals of the recursion are small enough, or products run out.

        Columns whose residuals are small enough take no further part.
        """
        x, r, left = torch.zeros_like(b), b.clone(), torch.arange(b.shape[1], device=b.device)
        z = self._preconditioned(r, dampings)
        p, slope = z, _inner(r, z)
        while self.products + 1 < self.max_products:  # the true residual takes one
            q = self._damped(p, dampings[left])
            curvature = _inner(p, q)
            step = torch.where((curvature > 0) & (slope > 0), slope / curvature, 0.0)
            x[:, left] += step * p
            r = r - step * q
            going = (r.norm(dim=0) > allowed[left]) & (step > 0)  # no descent: rounding errors
            self.report(f"conjugate gradients: {self.products} products, {int(going.sum())} left")
            if not going.any():
                break
            left, r, p, before = left[going], r[:, going], p[:, going], slope[going]
            z = self._preconditioned(r, dampings[left])
            slope = _inner(r, z)
            p = z + slope / before * p
        return x

    def _damped(self, x: Tensor, dampings: Tensor) -> Tensor:
        self.products += 1
        product = self.multiply(x)
        if not product.isfinite().all():
            raise InputError(NOT_FINITE)
        return product + dampings * x

    def _preconditioned(self, r: Tensor, dampings: Tensor) -> Tensor:
        return (
            r / dampings if self.preconditioner is None else self.preconditioner.apply(r, dampings)
        )

    def _gave_up(self, relative: Tensor) -> ConvergenceError:
        return ConvergenceError(
            f"Conjugate gradients reached a relative residual of {float(relative.max()):.1e} with "
            f"{self.products} products, where {self.tolerance:.1e} is asked for. Use a larger "
            "damping, ConjugateGradients with a larger tolerance, more max_products or more "
            "preconditioner_samples, a model in float64, or method=FullGram()."
        )


def _inner(u: Tensor, v: Tensor) -> Tensor:
    """Inner products of columns, shape ``[Q]``."""
    return (u * v).sum(dim=0)
