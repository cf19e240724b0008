"""What is done in double precision although the model is in single precision, and when.

Rounding errors of the largest eigenvalues drown small ones: those of a Gram matrix in single
precision are ``eps lambda_max``, of eigenvectors and what follows from them the larger, the weaker
their direction. The columns of ``V`` come out of backward passes in single precision, with errors
that are small beside their length. So whatever follows from them is computed in double precision
where weak directions count and that costs little, and rounded at the end.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vivit.devices import traits
from vivit.gram.plan import Plan
from vivit.layers.affine import gram_of_columns, mirror
from vivit.layers.cost import AffineShape, cheapest_evaluation, evaluation_cost, keeps_columns

SMALL_FLOPS = 2e9
"""Of contractions, up to which there is no reason to try single precision first."""

AFFORDABLE_FLOPS = 1e12
"""Of contractions and decompositions in double precision that are worth weak directions: seconds
on any device."""

WEAK = 1e-4
"""Share of the largest eigenvalue below which a direction is weak: single precision is not enough
for it. Along stronger ones, derivatives lose no more than about ``eps / sqrt(WEAK)``."""

FLOPS_PER_DECOMPOSITION = 20
"""Of an eigendecomposition with vectors, in units of ``M^3``."""

LOST = 1e8
"""Largest eigenvalue over one whose vector is not orthogonal to others in single precision when it
was computed in double precision, from columns, as many as there are."""

DEPENDENT = 0.5
"""Length of what is left of a unit vector without its parts along others, below which it is not
one that only rounding errors have turned."""


def is_double(dtype: torch.dtype) -> bool:
    """Whether there is nothing to gain."""
    return torch.finfo(dtype).bits >= 64


def may_gain(like: Tensor) -> bool:
    """Whether there is a precision higher than a tensor's on its device."""
    return not is_double(like.dtype) and like.device.type != "mps"


def is_small(plan: Plan, workspace: int, available: int | None) -> bool:
    """Whether everything may be done in double precision at once.

    Args:
        plan: In double precision.
        workspace: Bytes. What stays, the matrices and all that the columns are made of, must not
            take more.
        available: Bytes that are left, for the eigensolver as well; None if unknown.

    Returns:
        Whether it takes few flops and bytes.
    """
    stays = plan.matrix_bytes + plan.settled_bytes
    if len(plan.sweeps) > 1 or plan.flops > SMALL_FLOPS or stays > workspace:
        return False
    return available is None or stays + plan.solver_bytes <= available


@dataclass
class Budget:
    """What may be made in double precision of layers that come by one after the other.

    Attributes:
        bytes: Left of the workspace for what is kept.
        flops: Left for contractions.
    """

    bytes: int
    flops: float = field(default_factory=lambda: SMALL_FLOPS)

    def spend(self, shape: AffineShape, stays: bool) -> bool:
        """Whether a layer is small enough for what is left, which is less afterwards.

        Args:
            shape: Of the layer.
            stays: Whether what is kept of it is needed later.
        """
        flops = evaluation_cost(cheapest_evaluation(shape, 8), shape).flops
        positions = shape.inputs if keeps_columns(shape, 8) else shape.positions
        size = 8 * shape.samples * shape.columns * shape.groups * shape.outputs * positions
        if flops > self.flops or size > self.bytes:
            return False
        self.flops -= flops
        self.bytes -= size * stays
        return True


def is_affordable(plan: Plan, available: int | None) -> bool:
    """Whether weak directions are worth the matrices in double precision.

    Args:
        plan: In double precision.
        available: Bytes that are left; None if unknown.

    Returns:
        Whether it fits, and takes no ages.
    """
    flops = plan.flops + FLOPS_PER_DECOMPOSITION * sum(side**3.0 for side in plan.sides)
    return flops <= AFFORDABLE_FLOPS and (available is None or plan.peak_bytes <= available)


def are_affordable(
    num_columns: int, dimension: int, solver_copies: int, available: int | None
) -> bool:
    """Whether a ``D x D`` matrix may be made in double precision, from columns that are kept.

    Args:
        num_columns: ``M``.
        dimension: ``D``, no more than ``M``.
        solver_copies: Matrices that the eigensolver holds beside its input.
        available: Bytes that are left; None if unknown.

    Returns:
        Whether it, the columns and their products fit, and take no ages.
    """
    flops = 4.0 * num_columns * dimension**2 + FLOPS_PER_DECOMPOSITION * dimension**3.0
    size = 8 * (3 * num_columns * dimension + (1 + solver_copies) * dimension**2)
    return flops <= AFFORDABLE_FLOPS and (available is None or size <= available)


def may_be_factored(size: int, copies: int, available: int | None) -> bool:
    """Whether a matrix may be factored in double precision, as Cholesky does.

    Args:
        size: Of the matrix.
        copies: Matrices that are held beside it.
        available: Bytes that are left; None if unknown.

    Returns:
        Whether they fit, and it takes no ages.
    """
    fits = available is None or 8 * (1 + copies) * size**2 <= available
    return fits and size**3 / 3 <= AFFORDABLE_FLOPS


def has_weak(kept: Tensor, values: Tensor) -> bool:
    """Whether an eigenvalue that was kept is weak, of all nontrivial ones in ascending order."""
    return bool(len(values)) and bool((kept < WEAK * values[-1]).any())


def is_orthonormal(values: Tensor, num_columns: int) -> bool:
    """Whether eigenvectors ``V e~`` that are computed in double precision are orthonormal.

    Their inner products have errors of about ``M eps`` times the largest eigenvalue over theirs,
    which the rank cut-off keeps small enough, unless a smaller one was asked for.

    Args:
        values: Their eigenvalues.
        num_columns: ``M``.

    Returns:
        Whether they are, up to rounding to single precision.
    """
    return not len(values) or bool(LOST * values.min() > num_columns * values.max())


def orthonormalize(vectors: Mapping[str, Tensor], values: Tensor, workspace: int) -> None:
    """Remove from each vector its parts along those with larger eigenvalues, in place.

    As Gram-Schmidt does, by the Cholesky factor of the vectors' inner products, which are summed
    in double precision. The change is small, so that single precision is enough for it. Vectors
    that are zero stay so. If some depend on others, such as copies, all stay as they are; with a
    warning where that is for rounding errors, which a small rank tolerance lets pass.

    Args:
        vectors: For each parameter a contiguous tensor of shape ``[K, *shape]``.
        values: Their eigenvalues, shape ``[K]``.
        workspace: Bytes for temporaries.
    """
    count = len(values)
    if not count or not any(x.numel() for x in vectors.values()):
        return
    order = values.argsort(descending=True)
    gram = torch.zeros(count, count, dtype=torch.float64, device=values.device)
    for piece in cached_pieces(vectors, workspace):
        gram_of_columns(gram, piece.double())
    mirror(gram)
    gram = gram[order][:, order]
    diagonal = gram.diagonal()
    diagonal[diagonal == 0] = 1.0
    lengths = diagonal.sqrt()
    lower, failed = torch.linalg.cholesky_ex(gram)
    if failed or (lower.diagonal() < DEPENDENT * lengths).any():
        share, eps = float(values.min() / values.max()), torch.finfo(torch.float32).eps
        if share < eps:
            warnings.warn(
                "Some eigenvectors that were kept are not orthogonal to others: their eigenvalues "
                f"are down to {share:.1e} of the largest, which is rounding errors in single "
                "precision. Keep fewer, or use a larger rank_tolerance or a model in float64.",
                stacklevel=2,
            )
        return
    eye = torch.eye(count, dtype=gram.dtype, device=gram.device)
    change = torch.empty_like(gram)
    change[order[:, None], order] = torch.linalg.solve_triangular(lower, eye, upper=False) - eye
    for piece in cached_pieces(vectors, workspace):
        piece.add_(change.to(piece.dtype) @ piece)


def cached_pieces(vectors: Mapping[str, Tensor], workspace: int) -> Iterator[Tensor]:
    """Some entries of all vectors at a time, no more than stay in the caches.

    Args:
        vectors: For each parameter a contiguous tensor of shape ``[K, *shape]``.
        workspace: Bytes for a temporary of a piece in double precision.

    Yields:
        Views of shape ``[K, p]``.
    """
    for x in vectors.values():
        if x.numel():
            size = traits(x.device).block_within(workspace // 8)
            yield from x.view(len(x), -1).split(max(size // len(x), 1), dim=1)
