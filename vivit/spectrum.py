"""Eigendecomposition of Gram matrices, and which of the eigenvalues count."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vivit.errors import InputError
from vivit.layers.affine import gram_of_columns, mirror

NOT_FINITE = (
    "The curvature is NaN or infinite: look for derivatives of square roots, norms or divisions "
    "at zero, and for overflow."
)

EIGENVALUE_COPIES = 1
"""Matrices that LAPACK's ``syevd`` holds beside its input, without eigenvectors."""

EIGENVECTOR_COPIES = 3
"""And with them: the vectors and a workspace of two matrices."""

Criterion = Callable[[Tensor], Any]
"""Maps eigenvalues in ascending order to the indices of those to keep."""


@dataclass(frozen=True)
class GramPairs:
    """Eigenpairs of a Gram matrix, in ascending order.

    Attributes:
        values: Shape ``[K]``.
        coefficients: Unit eigenvectors ``e~``, shape ``[M, K]``.
        vectors: Those of ``G``, shape ``[D, K]``, where they are known: as ``V e~`` they would
            lose accuracy.
    """

    values: Tensor
    coefficients: Tensor
    vectors: Tensor | None = None

    def keep(self, index: Any) -> GramPairs:
        """Those pairs that an index (a list, tensor, mask or slice) selects."""
        vectors = None if self.vectors is None else self.vectors[:, index]
        return GramPairs(self.values[index], self.coefficients[:, index], vectors)


def split_vectors(vectors: Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Flat vectors as tensors by parameter.

    Args:
        vectors: Columns, shape ``[D, K]``.
        shapes: Of the parameters, in the order of the rows.

    Returns:
        A tensor of shape ``[K, *shape]`` for each name.
    """
    pieces = vectors.T.split([shape.numel() for shape in shapes.values()], dim=1)
    return {
        name: piece.reshape(len(piece), *shape)
        for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
    }


@dataclass(frozen=True)
class GroupMatrix:
    """The smaller of the two matrices that have the nonzero spectrum of a block.

    Attributes:
        columns: ``V^T``, shape ``[M, D]``, in the order of flat vectors, if the block has no more
            parameters than columns.
        gram: ``V^T V``, shape ``[M, M]``, if it has more.
    """

    columns: Tensor | None
    gram: Tensor | None

    def gram_matrix(self) -> Tensor:
        """``V^T V``, a tensor of its own."""
        if self.gram is not None:
            return self.gram.clone()
        assert self.columns is not None
        gram = self.columns.new_zeros(len(self.columns), len(self.columns))
        gram_of_columns(gram, self.columns)
        mirror(gram)
        return gram

    def eigenvalues(self, dimension: int) -> Tensor:
        """The largest ``min(M, dimension)``, ascending."""
        if self.gram is not None:
            values = robust(torch.linalg.eigvalsh, self.gram)
            return values[max(len(values) - dimension, 0) :]
        assert self.columns is not None
        return robust(torch.linalg.eigvalsh, self.columns.T @ self.columns)

    def pairs(self, rank_tolerance: float | None) -> GramPairs:
        """All nontrivial eigenpairs of the Gram matrix."""
        if self.gram is not None:
            values, vectors = robust(torch.linalg.eigh, self.gram)
            keep = nontrivial(values, rank_tolerance)
            return GramPairs(values[keep], vectors[:, keep])
        assert self.columns is not None
        values, vectors = robust(torch.linalg.eigh, self.columns.T @ self.columns)
        keep = nontrivial(values, rank_tolerance)
        values, vectors = values[keep], vectors[:, keep]
        coefficients = self.columns @ vectors
        return GramPairs(values, coefficients / coefficients.norm(dim=0), vectors)


def robust(solver: Callable[[Tensor], Any], matrix: Tensor) -> Any:
    """Run an eigensolver, again in double precision and then on the CPU if it does not converge.

    Args:
        solver: ``torch.linalg.eigh`` or ``eigvalsh``.
        matrix: Symmetric.

    Returns:
        What the solver gives, in the matrix's dtype and on its device.

    """
    retries = (lambda: matrix, matrix.double, lambda: matrix.double().cpu())
    for attempt, prepare in enumerate(retries):
        try:
            result = solver(prepare())
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            if attempt == 2:
                raise
            where = "in double precision" if attempt == 0 else "on the CPU"
            warnings.warn(f"The eigensolver did not converge; trying {where}.", stacklevel=2)
            continue
        if isinstance(result, Tensor):
            return result.to(matrix)
        return tuple(part.to(matrix) for part in result)
    raise AssertionError("unreachable")


def rank_cutoff(values: Tensor, tolerance: float | None = None, size: int | None = None) -> float:
    """Threshold below which an eigenvalue cannot be told from rounding errors.

    Args:
        values: Eigenvalues in ascending order, with the largest.
        tolerance: Relative to the largest eigenvalue; by default ``M eps``, as for numerical ranks
            (Golub and Van Loan, "Matrix Computations", section 5.4).
        size: ``M``, of the matrix; by default the number of eigenvalues.

    Returns:
        The threshold, in the units of the eigenvalues.

    Raises:
        InputError: The tolerance is not in [0, 1).
    """
    if tolerance is not None and not 0 <= tolerance < 1:
        raise InputError(f"rank_tolerance must be at least 0 and below 1, got {tolerance}.")
    if not len(values):
        return 0.0
    if tolerance is None:
        tolerance = (size or len(values)) * torch.finfo(values.dtype).eps
    return tolerance * max(float(values[-1]), 0.0)


def nontrivial(values: Tensor, tolerance: float | None = None) -> slice:
    """The eigenvalues above the rank cut-off.

    Args:
        values: All eigenvalues in ascending order, shape ``[M]``.
        tolerance: As for `rank_cutoff`.

    Returns:
        A slice that ends with the largest.
    """
    return slice(int((values <= rank_cutoff(values, tolerance)).sum()), len(values))


def check_choice(k: int | None, criterion: Criterion | None, largest: int) -> None:
    """Check how many eigenpairs are asked for.

    Args:
        k: The largest ``k``.
        criterion: Chooses instead.
        largest: The largest ``k`` that makes sense.

    Raises:
        InputError: Both or an impossible ``k`` are given.
    """
    if k is not None and criterion is not None:
        raise InputError("Give either k or criterion, not both.")
    if k is not None and (not isinstance(k, int) or not 1 <= k <= largest):
        raise InputError(f"k must be a whole number between 1 and min(M, D) = {largest}, got {k}.")


def select(pairs: GramPairs, k: int | None, criterion: Criterion | None) -> GramPairs:
    """Keep some eigenpairs.

    Args:
        pairs: All nontrivial ones.
        k: Keep the largest ``k``.
        criterion: Chooses instead.

    Returns:
        The kept pairs.

    Raises:
        InputError: The criterion does not return indices that fit.
    """
    if criterion is not None:
        index = criterion(pairs.values) if len(pairs.values) else slice(None)
        if isinstance(index, int) or (isinstance(index, Tensor) and index.ndim == 0):
            raise InputError(
                "criterion must return the indices of the eigenvalues to keep (a list, tensor, "
                f"mask or slice), got one number: {index}."
            )
        try:
            return pairs.keep(index)
        except IndexError as error:
            raise InputError(
                f"criterion chose indices that do not fit {len(pairs.values)} eigenvalues: {error}"
            ) from error
    if k is None:
        return pairs
    return pairs.keep(slice(max(len(pairs.values) - k, 0), None))
