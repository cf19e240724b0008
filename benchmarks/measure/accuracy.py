"""How far a result is from the float64 reference: checked before a time counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import scipy  # its parts load when they are used: scipy.stats takes as long as torch
import torch
from torch import Tensor

from benchmarks.measure.vectors import PROJECTIONS, changed_by_curvature, sketch
from benchmarks.records.tasks import Computed, Task

STEP_TOLERANCE = 1e-2
"""Of a Newton step and of directional derivatives. Single precision decides near-ties of a max
pooling or ReLU otherwise than double, which changes the gradient by as much as 1e-3, and may put
an eigenvalue next to the cut-off on the other side, which adds or drops a direction."""

TRACE_DEVIATIONS = 5
"""Standard deviations that the trace of a Monte-Carlo GGN may be off the exact one."""

NEVER_RIGHT = 0.99
"""Relative error of a sum that no deviation excuses: that of nothing but zeros is 1."""

WEIGHT_TOLERANCE = 1e-3
"""Of the sum of the weights of a density, in single precision."""

SKETCHED = {
    Computed.NEWTON_STEP: "step",
    Computed.NTK: "kernel",
    Computed.SOLVE: "solution, without what it is where curvature is zero",
    Computed.PRODUCT: "product",
}
"""Results with many entries, of which references hold random projections."""


@dataclass(frozen=True)
class Outcome:
    """What a run computed.

    Attributes:
        values: Eigenvalues in ascending order, those of several blocks one after the other; the
            Gram matrix; the flat entries of a step, gradient, solution or product; the kernel,
            shape ``[N, N, C, C]``; or the trace, shape ``[1]``.
        vectors: Eigenvectors to the values, of each block one tensor ``[K, D_block]``, if they
            were asked for.
        blocks: Number of eigenvalues of each block; None if there is one block.
        weights: Of the values as a distribution of eigenvalues; None if they are all of them.
        details: Facts worth recording, such as numbers of iterations.
    """

    values: Tensor
    vectors: tuple[Tensor, ...] | None = None
    blocks: tuple[int, ...] | None = None
    weights: Tensor | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """The result in double precision.

    Attributes:
        values: Eigenvalues in ascending order, those of several blocks one after the other; or the
            `sketch` of a step, of a kernel, of a product, or of what `changed_by_curvature` in a
            solution; or the trace.
        blocks: Number of eigenvalues of each block.
        exact_trace: For a Monte-Carlo approximation, the trace of the GGN without it.
        trace_deviation: Standard deviation of the trace of the approximation.
        leading_sums: For a Monte-Carlo approximation, mean and standard deviation of the sum of
            the 1, 2, ... leading eigenvalues of all blocks.
        size: ``D``, how many eigenvalues there are, with those that are zero; 0 if unknown.
    """

    values: Tensor
    blocks: tuple[int, ...]
    exact_trace: float | None = None
    trace_deviation: float | None = None
    leading_sums: tuple[tuple[float, float], ...] = ()
    size: int = 0

    @classmethod
    def single(cls, values: Tensor) -> Reference:
        """Of a single block."""
        return cls(values, (len(values),))


@dataclass(frozen=True)
class Check:
    """How far a result is from what it should be.

    Attributes:
        error: Relative error.
        tolerance: Error up to which its time counts.
        against: What it was compared with.
    """

    error: float
    tolerance: float
    against: str


def check(outcome: Outcome, task: Task, reference: Reference, tolerance: float) -> Check:
    """Compare a result with the reference.

    Args:
        outcome: What a run gave.
        task: What it was to compute.
        reference: The same in float64.
        tolerance: Of eigenvalues and traces; that of steps, kernels and other vectors is at least
            `STEP_TOLERANCE`.

    Returns:
        The error, relative to the largest eigenvalue of the block, or to the norm of the result.
    """
    if task.computed in SKETCHED:
        return _check_sketch(outcome, task, reference, max(tolerance, STEP_TOLERANCE))
    if task.computed is Computed.TRACE:
        return Check(relative_error(outcome.values, reference.values), tolerance, "float64 trace")
    if task.computed is Computed.DERIVATIVES:
        return Check(
            derivatives_error(outcome.values, reference.values, task.k or 0),
            STEP_TOLERANCE,
            "derivatives in float64, up to signs",
        )
    if task.computed is Computed.DENSITY:
        error = density_error(outcome, reference)
        return Check(error, tolerance, "distribution of the eigenvalues in float64")
    values = outcome.values
    if task.computed is Computed.GRAM:
        values = torch.linalg.eigvalsh(values.double())
    parts = values.split(outcome.blocks or len(values))
    exact = reference.values.split(reference.blocks)
    error = largest(spectral_error(v, r) for v, r in zip(parts, exact, strict=True))
    return Check(error, tolerance, "eigenvalues in float64")


def _check_sketch(outcome: Outcome, task: Task, reference: Reference, tolerance: float) -> Check:
    """Compare random projections of a long result."""
    values, what = outcome.values.flatten(), SKETCHED[task.computed]
    if task.computed is Computed.SOLVE:
        values = changed_by_curvature(values)
    error = relative_error(sketch(values), reference.values)
    return Check(error, tolerance, f"{PROJECTIONS} projections of the float64 {what}")


def mean_error(outcome: Outcome, reference: Reference) -> float:
    """Of leading eigenvalues, each relative to the true one.

    The published accuracy is one minus the same, relative to what was found.

    Args:
        outcome: Leading pairs, ascending within each block.
        reference: At least as many eigenvalues of each block.

    Returns:
        The mean over those that are not zero; 0 if there are none.
    """
    parts = outcome.values.double().cpu().split(outcome.blocks or len(outcome.values))
    found = zip(parts, reference.values.split(reference.blocks), strict=True)
    pairs = [(values, exact[len(exact) - len(values) :]) for values, exact in found]
    errors = torch.cat([((v - r) / r).abs()[r > 0] for v, r in pairs])
    return float(errors.mean()) if len(errors) else 0.0


def largest(errors: Iterable[float]) -> float:
    """The largest error; NaN if any is, which Python's `max` may drop.

    Args:
        errors: At least one.

    Returns:
        One of them.
    """
    return float(torch.tensor([*errors], dtype=torch.float64).max())


def check_draws(outcome: Outcome, task: Task, reference: Reference) -> Check:
    """Compare a Monte-Carlo result, whose draws are its own, by the sum of its eigenvalues.

    That of all eigenvalues is the trace, whose mean is the exact trace. That of leading ones is
    compared with the mean of other draws.

    Args:
        outcome: What a run gave.
        task: What it was to compute.
        reference: With what is known about such sums.

    Returns:
        The error relative to the mean.

    Raises:
        ValueError: The reference knows no mean, or not how far draws are from it.
    """
    exact, deviation = reference.exact_trace, reference.trace_deviation
    what = "trace of the exact GGN"
    if task.computed is Computed.PAIRS:
        known = reference.leading_sums[: task.k]
        exact, deviation = known[-1] if len(known) == task.k else (None, None)
        what = f"mean of the sum of the {task.k} leading eigenvalues over other draws"
    if exact is None or deviation is None:
        raise ValueError(
            "A Monte-Carlo result is compared with the mean and the standard deviation of the sum "
            f"of its eigenvalues, got {exact} and {deviation} for: {task.title}."
        )
    error = abs(float(outcome.values.double().sum()) - exact) / exact
    against = (
        f"{what}, within {TRACE_DEVIATIONS} standard deviations, since draws differ between "
        "programs"
    )
    tolerance = min(TRACE_DEVIATIONS * deviation / exact, NEVER_RIGHT)
    return Check(error, tolerance, against)


def spectral_error(values: Tensor, reference: Tensor) -> float:
    """Largest error of the leading eigenvalues, relative to the largest one.

    Args:
        values: Eigenvalues in ascending order, shape ``[K]``.
        reference: Eigenvalues in float64, ascending; those that it lacks are zero.

    Returns:
        ``max_k |lambda_k - ref_k| / ref_max``.
    """
    zeros = reference.new_zeros(max(len(values) - len(reference), 0))
    expected = torch.cat([zeros, reference])[-len(values) :]
    return float((values.double().cpu() - expected).abs().max() / reference[-1])


def relative_error(values: Tensor, reference: Tensor) -> float:
    """Norm of the error relative to the norm of the reference."""
    exact = reference.double().cpu()
    return float((values.double().cpu() - exact).norm() / exact.norm())


def derivatives_error(values: Tensor, reference: Tensor, k: int) -> float:
    """Error of directional derivatives whose directions are known up to their signs.

    Args:
        values: First derivatives ``[N, K]`` and then second ones, flat.
        reference: The same in float64.
        k: Number of directions.

    Returns:
        The larger one of both kinds, each for the direction where it is largest: the norm of the
        error relative to the norm.
    """
    (slopes, curvatures), (exact, second) = (
        x.double().cpu().reshape(2, -1, k) for x in (values, reference)
    )
    slopes = slopes * torch.sign((slopes * exact).sum(dim=0))  # one sign for each direction
    pairs = ((slopes, exact), (curvatures, second))
    return largest(float(((x - y).norm(dim=0) / y.norm(dim=0)).max()) for x, y in pairs)


def density_error(outcome: Outcome, reference: Reference) -> float:
    """Distance of distributions of eigenvalues.

    Args:
        outcome: Values and their weights; all that is not given weight is zero.
        reference: All eigenvalues that are not trivial, and how many there are in all.

    Returns:
        The first Wasserstein distance relative to the mean eigenvalue: 1 for nothing but zeros.

    Raises:
        ArithmeticError: The weights sum up to more than one.
    """
    values = outcome.values.double().cpu()
    weights = torch.full_like(values, 1 / reference.size)
    if outcome.weights is not None:
        weights = outcome.weights.double().cpu()
    if weights.sum() > 1 + WEIGHT_TOLERANCE:
        raise ArithmeticError(f"the weights of a density sum up to {float(weights.sum()):g}")
    exact = reference.values
    distance = scipy.stats.wasserstein_distance(
        *(torch.cat([x.new_zeros(1), x]).numpy() for x in (values, exact)),
        *(_with_rest(x).numpy() for x in (weights, torch.full_like(exact, 1 / reference.size))),
    )
    return float(distance * reference.size / exact.sum())


def _with_rest(weights: Tensor) -> Tensor:
    """With what is left for zero before them."""
    return torch.cat([(1 - weights.sum()).clamp(min=0)[None], weights])
