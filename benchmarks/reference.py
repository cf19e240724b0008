"""Reference spectra in double precision, checked against an independent implementation."""

from __future__ import annotations

import torch
from curvlinops import GGNLinearOperator
from torch import Tensor

from benchmarks.problems import Instance
from vivit import GGN
from vivit.spectrum import nontrivial

LARGEST_RESIDUAL = 1e-9
"""Of an eigenpair, relative to the largest eigenvalue, in float64."""


def reference_spectrum(instance: Instance) -> tuple[Tensor, float]:
    """All eigenvalues of the exact GGN, from its float64 Gram matrix.

    The largest, the middle and the smallest nontrivial eigenpair are put to the test with
    curvlinops' matrix-free GGN, which shares no code with ours.

    Args:
        instance: A problem in float64.

    Returns:
        Eigenvalues, ascending, and the largest residual ``||G e - lambda e|| / lambda_max``.

    Raises:
        ArithmeticError: The residual is too large.
    """
    data = (instance.inputs, instance.targets)
    ggn = GGN(instance.model, instance.loss_func, data)
    values = ggn.eigvalsh()
    kept = values[nontrivial(values)]
    tested = torch.tensor([0, len(kept) // 2, len(kept) - 1])
    pairs = ggn.eigh(criterion=lambda _: tested)
    vectors = torch.cat([v.flatten(start_dim=1) for v in pairs.vectors.values()], dim=1)
    residual = largest_residual(instance, pairs.values, vectors)
    if not residual <= LARGEST_RESIDUAL:
        raise ArithmeticError(
            f"The reference spectrum has a relative residual of {residual:.1e}, expected at most "
            f"{LARGEST_RESIDUAL:.0e}."
        )
    return values, residual


def largest_residual(instance: Instance, values: Tensor, vectors: Tensor) -> float:
    """The largest residual of up to three eigenpairs, by curvlinops' matrix-free GGN.

    Args:
        instance: The problem.
        values: Eigenvalues, ascending, shape ``[K]``.
        vectors: Unit eigenvectors, shape ``[K, D]``.

    Returns:
        ``||G e - lambda e|| / lambda_max``, the largest of the first, middle and last pair.
    """
    operator = GGNLinearOperator(
        instance.model,
        instance.loss_func,
        list(instance.model.parameters()),
        [(instance.inputs, instance.targets)],
        check_deterministic=False,
    )
    residuals = [
        float((operator @ vectors[k] - values[k] * vectors[k]).norm() / values[-1])
        for k in sorted({0, len(values) // 2, len(values) - 1})
    ]
    return max(residuals)
