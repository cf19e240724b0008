"""References in double precision, checked against an independent implementation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor

from benchmarks.measure.accuracy import Outcome, Reference, largest, spectral_error
from benchmarks.measure.vectors import sketch
from benchmarks.methods.base import NotApplicableError
from benchmarks.methods.conventions import above_cutoff, blocks, flat_vectors, matrix_free_ggn
from benchmarks.problems.problem import Instance
from benchmarks.records.tasks import NEWTON_DAMPING, Approximation, Computed, Task
from benchmarks.run.cells import KNOWN_PAIRS
from benchmarks.run.certified import LARGEST_RESIDUAL, require
from benchmarks.run.family_reference import family_reference

LARGEST_DERIVATIVE_ERROR = 1e-6
"""Of directional derivatives in float64: between close eigenvalues, directions are less exact."""

LARGEST_DECOMPOSED = 20_000
"""Side of a matrix beyond which its leading pairs are all that is known: some minutes."""

PRODUCTS_OF_REFERENCE = 5000
"""With the Gram matrix, at most, for leading pairs to full accuracy."""

DRAWS = 16
"""Monte-Carlo approximations from which the deviation of their trace is estimated."""


def make_reference(instance: Instance, task: Task) -> tuple[Reference, dict[str, Any]]:
    """The result of a task in double precision.

    Sub-sampled curvature is that of the mean loss of the first samples: the same matrix, so that
    the subsets of our own library are put to the test as well.

    Args:
        instance: A problem in float64.
        task: What is computed.

    Returns:
        The reference, and how it was checked.

    Raises:
        ArithmeticError: A check failed.
        NotApplicableError: Steps and other results of approximations and of blocks have no
            reference.
    """
    if task.computed is Computed.NEWTON_STEP and not task.is_plain:
        raise NotApplicableError(
            f"There is no reference for: {task.title}. Steps of approximations and of blocks are "
            "measured in searches for critical batch sizes alone."
        )
    if task.computed.is_of_family:
        if not task.is_plain:
            raise NotApplicableError(
                f"There is no reference for: {task.title}. It is measured of the whole network, "
                "without approximation."
            )
        return family_reference(instance, task.computed)
    carrying = instance.first(task.num_samples(instance.num_samples))
    if task.computed is Computed.NEWTON_STEP:
        step, residual = reference_step(carrying)
        return Reference.single(sketch(step)), {"residual": residual, "projections": True}
    if task.computed is Computed.DERIVATIVES:
        derivatives, residual = reference_derivatives(carrying, task.k or 0)
        return Reference.single(derivatives), {"residual": residual}
    groups = blocks(instance.model, task.grouping)
    if task.approximation is Approximation.MONTE_CARLO:
        return _monte_carlo_reference(carrying, groups)
    spectra = [_spectrum_of_block(carrying, names, task) for names in groups]
    values = torch.cat([values for values, _ in spectra])
    lengths = tuple(len(values) for values, _ in spectra)
    reference = Reference(values, lengths, size=instance.num_parameters)
    return reference, {"residual": max(residual for _, residual in spectra)}


def _spectrum_of_block(instance: Instance, names: list[str], task: Task) -> tuple[Tensor, float]:
    """All eigenvalues; those of leading pairs, if that is all that is asked of a large matrix."""
    if task.computed is Computed.PAIRS:
        ggn = _ggn(instance, params=names)
        if min(ggn.shape[0], ggn.num_columns) > LARGEST_DECOMPOSED:
            return reference_leading(instance, names, max(task.k or 0, KNOWN_PAIRS))
    return reference_spectrum(instance, names)


def reference_leading(instance: Instance, names: list[str], k: int) -> tuple[Tensor, float]:
    """Leading eigenvalues of the exact GGN, or of a block, from products alone.

    Ours must be those that scipy finds on curvlinops' matrix-free GGN, which shares no code with
    ours.

    Args:
        instance: A problem in float64.
        names: Parameters of the block.
        k: Number of eigenvalues.

    Returns:
        Eigenvalues, ascending, and the largest difference, relative to the largest eigenvalue.

    Raises:
        ArithmeticError: The difference is too large.
    """
    from vivit import Lanczos

    method = Lanczos(tolerance=LARGEST_RESIDUAL, max_products=PRODUCTS_OF_REFERENCE)
    values = _ggn(instance, params=names).eigh(k=k, method=method).values
    operator = matrix_free_ggn(instance, names).to_scipy(dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(operator.shape[0])
    others = eigsh(operator, k, which="LA", v0=start, return_eigenvectors=False)
    error = spectral_error(torch.from_numpy(np.sort(others)), values)
    require(error, "leading eigenvalues")
    return values, error


def reference_spectrum(instance: Instance, names: list[str] | None = None) -> tuple[Tensor, float]:
    """All eigenvalues of the exact GGN, or of a block, from its float64 Gram matrix.

    The largest, the middle and the smallest nontrivial eigenpair are put to the test with
    curvlinops' matrix-free GGN, which shares no code with ours.

    Args:
        instance: A problem in float64.
        names: Parameters of the block; None for all.

    Returns:
        Eigenvalues, ascending, and the largest residual ``||G e - lambda e|| / lambda_max``.

    Raises:
        ArithmeticError: The residual is too large.
    """
    ggn = _ggn(instance, params=names)
    values = ggn.eigvalsh()
    pairs = ggn.eigh(criterion=lambda nontrivial: _spread(len(nontrivial)))
    vectors = flat_vectors(pairs.vectors.values())
    residual = largest_residual(instance, pairs.values, vectors, names)
    require(residual, "spectrum")
    return values, residual


def reference_step(instance: Instance) -> tuple[Tensor, float]:
    """The damped Newton step, from the float64 Gram matrix.

    Along three of its directions, which are checked as `reference_spectrum` does, its coefficient
    must be ``-gamma_k / (lambda_k + delta)`` with ``gamma_k`` from a plain gradient.

    Args:
        instance: A problem in float64.

    Returns:
        The flat step, and the largest error of a coefficient relative to the norm of the step.

    Raises:
        ArithmeticError: A residual or a coefficient is wrong.
    """
    ggn = _ggn(instance)
    step = ggn.newton_step(NEWTON_DAMPING, criterion=above_cutoff)
    flat = torch.cat([s.flatten() for s in step.values()])
    pairs = ggn.eigh(criterion=lambda values: _among(above_cutoff(values)))
    vectors = flat_vectors(pairs.vectors.values())
    require(largest_residual(instance, pairs.values, vectors), "eigenpairs")
    loss = instance.loss_func(instance.model(instance.inputs), instance.targets)
    parts = torch.autograd.grad(loss, list(instance.model.parameters()))
    slopes = vectors @ torch.cat([g.flatten() for g in parts])
    coefficients = -slopes / (pairs.values + NEWTON_DAMPING)
    error = float((vectors @ flat - coefficients).abs().max() / flat.norm())
    require(error, "Newton step")
    return flat, error


def reference_derivatives(instance: Instance, k: int) -> tuple[Tensor, float]:
    """Directional derivatives along the leading eigenvectors, from the float64 Gram matrix.

    The eigenvectors are checked as `reference_spectrum` does. For the first, the middle and the
    last sample, first derivatives must be the products with a plain gradient, up to their signs,
    and second ones those with curvlinops' GGN of the sample.

    Args:
        instance: A problem in float64.
        k: Number of directions.

    Returns:
        First derivatives ``[N, K]`` and then second ones, flat; and the largest relative error.

    Raises:
        ArithmeticError: A residual or a derivative is wrong.
    """
    ggn = _ggn(instance)
    pairs, derivatives = ggn.eigh(k=k), ggn.directional_derivatives(k=k)
    vectors = flat_vectors(pairs.vectors.values())
    require(largest_residual(instance, pairs.values, vectors), "eigenpairs")
    parameters = list(instance.model.parameters())
    errors = []
    for n in _spread(instance.num_samples):
        one = instance.samples(slice(n, n + 1))
        loss = one.loss_func(one.model(one.inputs), one.targets)
        slopes = vectors @ torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])
        operator = matrix_free_ggn(one)
        curvatures = torch.stack([v @ (operator @ v) for v in vectors])
        slopes_error = (derivatives.gammas[n].abs() - slopes.abs()).abs().max()
        curvatures_error = (derivatives.lambdas[n] - curvatures).abs().max()
        errors += [slopes_error / slopes.abs().max(), curvatures_error / curvatures.max()]
    error = float(torch.stack(errors).max())
    require(error, "directional derivatives", LARGEST_DERIVATIVE_ERROR)
    return torch.cat([derivatives.gammas.flatten(), derivatives.lambdas.flatten()]), error


def largest_residual(
    instance: Instance, values: Tensor, vectors: Tensor, names: list[str] | None = None
) -> float:
    """The largest residual of up to three eigenpairs, by curvlinops' matrix-free GGN.

    Args:
        instance: The problem, in whose precision the residual is taken.
        values: Eigenvalues, ascending, shape ``[K]``.
        vectors: Unit eigenvectors, shape ``[K, D]``.
        names: Parameters of the block; None for all.

    Returns:
        ``||G e - lambda e|| / lambda_max``, the largest of the first, middle and last pair.
    """
    operator = matrix_free_ggn(instance, names)
    like = instance.like
    values = values.to(like)
    residuals = []
    for k in _spread(len(values)):
        vector = vectors[k].to(like)
        residuals.append(float((operator @ vector - values[k] * vector).norm() / values[-1]))
    return largest(residuals)


def residual_of_pairs(outcome: Outcome, instance: Instance, task: Task) -> float:
    """The largest residual of the eigenpairs of all blocks, without approximation.

    In double precision or in that of the pairs, whichever is smaller. Of confident predictions,
    curvlinops' products cancel in single precision. And double precision decides near-ties of a
    max pooling otherwise, which makes it another GGN: of 3c3d's layers, 2.7e-4 away.

    Args:
        outcome: What a run gave.
        instance: The problem.
        task: What it was to compute.

    Returns:
        As `largest_residual`.
    """
    carrying = instance.first(task.num_samples(instance.num_samples))
    return min(_residual(outcome, x, task) for x in (carrying.double(), carrying))


def _residual(outcome: Outcome, carrying: Instance, task: Task) -> float:
    values = outcome.values.split(outcome.blocks or len(outcome.values))
    groups = blocks(carrying.model, task.grouping)
    pairs = zip(values, outcome.vectors or (), groups, strict=True)
    return largest(largest_residual(carrying, v, e, names) for v, e, names in pairs)


def deviation_from_orthonormal(vectors: Iterable[Tensor]) -> float:
    """How far some eigenvectors are from unit length and from being orthogonal.

    Args:
        vectors: Of each block, shape ``[K, D]``.

    Returns:
        The largest entry of ``|E E^T - I|`` of all blocks.
    """
    products = (v @ v.T for v in vectors)
    return largest(float((p - torch.eye(len(p)).to(p)).abs().max()) for p in products)


def _monte_carlo_reference(
    instance: Instance, groups: list[list[str]]
) -> tuple[Reference, dict[str, Any]]:
    """Spectra with the draws of our own library; mean and deviation of the trace of all draws."""
    from vivit import MonteCarlo

    first = MonteCarlo(samples=1, seed=0)
    spectra = _spectra(instance, groups, first)
    draws = [
        _spectra(instance, groups, MonteCarlo(samples=1, seed=seed))
        for seed in range(1, 1 + DRAWS)
    ]
    exact, residual = reference_spectrum(instance)
    traces = torch.stack([torch.cat(draw).sum() for draw in draws])
    trace, deviation = float(exact.sum()), float(traces.std())
    sums = torch.stack([_leading_sums(draw) for draw in draws])
    leading = [*zip(sums.mean(dim=0).tolist(), sums.std(dim=0).tolist(), strict=True)]
    facts = {
        "residual": residual,
        "exact_trace": trace,
        "trace_deviation": deviation,
        "leading_sums": leading,
    }
    blocks = tuple(map(len, spectra))
    return Reference(torch.cat(spectra), blocks, trace, deviation, (*leading,)), facts


def _spectra(instance: Instance, groups: list[list[str]], approximation: Any) -> list[Tensor]:
    return [
        _ggn(instance, params=names, approximation=approximation).eigvalsh() for names in groups
    ]


def _leading_sums(spectra: list[Tensor]) -> Tensor:
    """Sums of the 1, 2, ... leading eigenvalues, each of all blocks together."""
    zeros = spectra[0].new_zeros(KNOWN_PAIRS)
    leading = [torch.cat([values.flip(0), zeros])[:KNOWN_PAIRS] for values in spectra]
    return torch.stack(leading).sum(dim=0).cumsum(dim=0)


def _ggn(instance: Instance, **options: Any) -> Any:
    """Ours; imported here, since the name is the original's in the environment of peers."""
    from vivit import GGN

    data = (instance.inputs, instance.targets)
    return GGN(instance.model, instance.loss_func, data, **options)


def _among(mask: Tensor) -> Tensor:
    """Indices of the first, the middle and the last of some eigenvalues."""
    kept = mask.nonzero().flatten()
    return kept[_spread(len(kept))]


def _spread(count: int) -> list[int]:
    """First, middle and last of so many."""
    return sorted({0, count // 2, count - 1})
