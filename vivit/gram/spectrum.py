"""Eigendecomposition of Gram matrices, and which of the eigenvalues are rounding errors."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from vivit.gram.kept import KeptColumns
from vivit.gram.memory import Room
from vivit.gram.precision import are_affordable, may_gain
from vivit.layers.affine import gram_of_columns, mirror

NOT_FINITE = (
    "The curvature is NaN or infinite: look for derivatives of square roots, norms or divisions "
    "at zero, and for overflow."
)

EIGENVALUE_COPIES = 1
"""Matrices that LAPACK's ``syevd`` holds beside its input, without eigenvectors."""

EIGENVECTOR_COPIES = 3
"""And with them: the vectors and a workspace of two matrices."""


P = TypeVar("P", bound="Selectable")


@dataclass(frozen=True)
class Selectable(ABC):
    """Nontrivial eigenpairs of a block, in ascending order.

    Attributes:
        values: Shape ``[K]``.
    """

    values: Tensor

    @abstractmethod
    def keep(self: P, index: Any) -> P:
        """Those pairs that an index (a list, tensor, mask or slice) selects."""

    def from_largest(self: P, places: Tensor) -> P:
        """Those at some places, of which 0 is the largest; places of none are left out."""
        count = len(self.values)
        index = count - 1 - places[places < count]
        if len(index) and bool((index.diff() == 1).all()):  # without a copy
            return self.keep(slice(int(index[0]), int(index[-1]) + 1))
        return self.keep(index)


@dataclass(frozen=True)
class OuterPairs(Selectable):
    """Eigenpairs of ``V V^T``, where columns are too many to be kept.

    Attributes:
        vectors: Unit eigenvectors ``e``, shape ``[D, K]``.
    """

    vectors: Tensor

    def keep(self, index: Any) -> OuterPairs:
        """Those pairs that an index selects."""
        return OuterPairs(self.values[index], self.vectors[:, index])


@dataclass(frozen=True)
class GramPairs(Selectable):
    """Eigenpairs of a Gram matrix.

    Attributes:
        coefficients: Unit eigenvectors ``e~``, shape ``[M, K]``.
        vectors: Those of ``G``, shape ``[D, K]``, where they are known: as ``V e~`` they would
            lose accuracy.
        images: ``V^T e`` for the vectors ``e`` of ``G``, shape ``[M, K]``, where they are known
            better than as ``sqrt(lambda) e~``.
        kept: The very columns of ``V`` that the pairs are of, if they are kept in the precision
            of the pairs.
    """

    coefficients: Tensor
    vectors: Tensor | None = None
    images: Tensor | None = None
    kept: KeptColumns | None = None

    @property
    def derivatives(self) -> Tensor:
        """``V^T e``: of all that ``V`` is a derivative of, along the eigenvectors of ``G``."""
        if self.images is not None:
            return self.images
        return self.values.clamp(min=0).sqrt() * self.coefficients

    def keep(self, index: Any) -> GramPairs:
        """Those pairs that an index selects."""
        vectors, images = (None if x is None else x[:, index] for x in (self.vectors, self.images))
        values, coefficients = self.values[index], self.coefficients[:, index]
        return GramPairs(values, coefficients, vectors, images, self.kept)


Pairs = GramPairs | OuterPairs


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
class OuterMatrix:
    """``V V^T`` of a block with fewer parameters than columns, which are not kept.

    Attributes:
        matrix: Shape ``[D, D]``, in the order of flat vectors.
        removed: As for `GroupMatrix`.
    """

    matrix: Tensor
    removed: float = 0.0

    def outer(self, room: Room | None = None) -> Tensor:
        """``V V^T``, in the order of flat vectors."""
        return self.matrix

    def eigenvalues(self) -> Tensor:
        """All, ascending."""
        values: Tensor = robust(torch.linalg.eigvalsh, self.matrix)
        return values

    def pairs(self, rank_tolerance: float | None) -> OuterPairs:
        """All nontrivial eigenpairs.

        Args:
            rank_tolerance: As for `rank_cutoff`.
        """
        values, vectors = robust(torch.linalg.eigh, self.matrix)
        keep = nontrivial(values, rank_tolerance, removed=self.removed)
        return OuterPairs(values[keep], vectors[:, keep])


@dataclass(frozen=True)
class GroupMatrix:
    """The smaller of the two matrices that have the nonzero spectrum of a block.

    Attributes:
        columns: ``V^T``, shape ``[M, D]``, in the order of flat vectors, if the block has no more
            parameters than columns, which are kept.
        gram: ``V^T V``, shape ``[M, M]``, if it has more.
        precision: That of the columns as they came out of backward passes, and of results; the
            tensors may be more precise.
        kept: What the columns are made of, if that is kept in the precision of the tensors.
        removed: Eigenvalue of the mean of all columns that was subtracted from each, whose
            rounding errors stay; 0 without such.
    """

    columns: Tensor | None
    gram: Tensor | None
    precision: torch.dtype
    kept: KeptColumns | None = None
    removed: float = 0.0

    def gram_matrix(self) -> Tensor:
        """``V^T V``, a tensor of its own."""
        if self.gram is not None:
            return self.gram.to(self.precision, copy=True)
        assert self.columns is not None
        gram = self.columns.new_zeros(len(self.columns), len(self.columns))
        gram_of_columns(gram, self.columns)
        mirror(gram)
        return gram.to(self.precision)

    def eigenvalues(self, dimension: int) -> Tensor:
        """The largest ``min(M, dimension)``, ascending."""
        if self.gram is not None:
            values = robust(torch.linalg.eigvalsh, self.gram)
            return values[max(len(values) - dimension, 0) :].to(self.precision)
        assert self.columns is not None
        values = robust(torch.linalg.eigvalsh, self.columns.T @ self.columns)
        return values.to(self.precision)

    def pairs(self, rank_tolerance: float | None, room: Room | None = None) -> GramPairs:
        """All nontrivial eigenpairs of the Gram matrix.

        Args:
            rank_tolerance: As for `rank_cutoff`.
            room: Bytes to work with; None if unknown.

        Returns:
            The pairs; from columns in double precision, where that is affordable.
        """
        if self.gram is not None:
            values, vectors = robust(torch.linalg.eigh, self.gram)
            keep = nontrivial(values, rank_tolerance, self.precision, self.removed)
            return GramPairs(values[keep], vectors[:, keep], kept=self.kept)
        columns = self._accurate_columns(room)
        values, vectors = robust(torch.linalg.eigh, columns.T @ columns)
        keep = nontrivial(values, rank_tolerance, self.precision, self.removed)
        values, vectors = values[keep], vectors[:, keep]
        coefficients = columns @ vectors
        return GramPairs(values, coefficients / coefficients.norm(dim=0), vectors)

    def outer(self, room: Room | None = None) -> Tensor:
        """``V V^T`` of columns that are kept; in double precision, where that is affordable."""
        columns = self._accurate_columns(room)
        return columns.T @ columns

    def _accurate_columns(self, room: Room | None) -> Tensor:
        """The columns, in double precision where that is affordable."""
        assert self.columns is not None
        if may_gain(self.columns):
            available = None if room is None else room.available
            count, dimension = self.columns.shape
            if are_affordable(count, dimension, EIGENVECTOR_COPIES, available):
                return self.columns.double()
        return self.columns


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


def rank_cutoff(
    values: Tensor,
    tolerance: float | None = None,
    size: int | None = None,
    precision: torch.dtype | None = None,
    removed: float = 0.0,
) -> float:
    """Threshold below which an eigenvalue cannot be told from rounding errors.

    Args:
        values: Eigenvalues in ascending order, with the largest.
        tolerance: Relative to the largest eigenvalue; by default ``M eps``, as for numerical ranks
            (Golub and Van Loan, "Matrix Computations", section 5.4).
        size: ``M``, of the matrix; by default the number of eigenvalues.
        precision: The dtype of ``eps``; by default that of the eigenvalues.
        removed: An eigenvalue that was subtracted, whose rounding errors are there, whatever the
            tolerance.

    Returns:
        The threshold, in the units of the eigenvalues.
    """
    if not len(values):
        return 0.0
    rounding = (size or len(values)) * torch.finfo(precision or values.dtype).eps
    largest = max(float(values[-1]), 0.0)
    return max((rounding if tolerance is None else tolerance) * largest, rounding * removed)


def nontrivial(
    values: Tensor,
    tolerance: float | None = None,
    precision: torch.dtype | None = None,
    removed: float = 0.0,
) -> slice:
    """The eigenvalues above the rank cut-off.

    Args:
        values: All eigenvalues in ascending order, shape ``[M]``.
        tolerance: As for `rank_cutoff`.
        precision: As there.
        removed: As there.

    Returns:
        A slice that ends with the largest.
    """
    cutoff = rank_cutoff(values, tolerance, precision=precision, removed=removed)
    return slice(int((values <= cutoff).sum()), len(values))
