"""Spaces that an iteration builds: their orthonormal bases, and eigenpairs within them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PIECE = 8192
"""Entries of vectors that are added up in the precision of the vectors."""

MOSTLY = 0.5
"""Length that is left of a unit vector, orthogonalized again, if it was no rounding error."""

LARGEST = 1e100
"""Of a sum of squares whose inverse counts; what is larger might overflow."""


@dataclass(frozen=True)
class Space:
    """Eigenpairs of a matrix ``A``, ascending.

    Attributes:
        values: Shape ``[K]``.
        vectors: Unit eigenvectors ``x``, shape ``[size, K]``.
        products: ``A x``, shape ``[size, K]``.
        images: ``F x`` for another linear map ``F``, shape ``[any, K]``.
    """

    values: Tensor
    vectors: Tensor
    products: Tensor
    images: Tensor

    @classmethod
    def empty(cls, like: Tensor, size: int) -> Space:
        """No pairs, of a matrix of some size."""
        none = like.new_empty(size, 0)
        return cls(like.new_empty(0), none, none, none)

    def largest(self, k: int) -> Space:
        """The ``k`` largest pairs, or all if there are fewer."""
        start = max(len(self.values) - k, 0)
        columns = (x[:, start:] for x in (self.vectors, self.products, self.images))
        return Space(self.values[start:], *columns)

    def joined(self, other: Space) -> Space:
        """The best pairs within both spaces, so that different ones do not mix.

        Args:
            other: Pairs of the matrix on the complement of these, so that its products lack what
                lies in their span.
        """
        whole = other.products + self.vectors @ (self.products.T @ other.vectors)
        vectors = torch.cat([self.vectors, other.vectors], dim=1)
        products = torch.cat([self.products, whole], dim=1)
        images = torch.cat([self.images, other.images], dim=1)
        projected = inner(vectors.T, products.T)
        values, mix = torch.linalg.eigh((projected + projected.T) / 2)
        mix = mix.to(vectors)
        return Space(values.to(vectors), vectors @ mix, products @ mix, images @ mix)


class Rows:
    """A matrix to which rows are appended, in memory that is seldom moved."""

    def __init__(self) -> None:
        """No rows yet, of any length."""
        self._memory: Tensor | None = None
        self._count = 0

    @property
    def rows(self) -> Tensor:
        """All rows, as a view."""
        assert self._memory is not None
        return self._memory[: self._count]

    def append(self, rows: Tensor) -> None:
        """Append some."""
        count = self._count + len(rows)
        if self._memory is None:
            self._memory = rows.new_empty(8 * len(rows), rows.shape[1])
        elif count > len(self._memory):
            larger = rows.new_empty(2 * len(self._memory), rows.shape[1])
            larger[: self._count] = self.rows
            self._memory = larger
        self._memory[self._count : count] = rows
        self._count = count


def inner(x: Tensor, y: Tensor) -> Tensor:
    """Inner products of rows, in double precision.

    Long sums in single precision lose digits: those of pieces are added up.

    Args:
        x: Shape ``[a, size]``.
        y: Shape ``[b, size]``.

    Returns:
        Shape ``[a, b]``, in double precision.
    """
    total = x.new_zeros(len(x), len(y), dtype=torch.float64)
    for some, others in zip(x.split(PIECE, dim=1), y.split(PIECE, dim=1), strict=True):
        total += some @ others.T
    return total


def orthonormal(x: Tensor, known: Sequence[Tensor], smallest: float) -> tuple[Tensor, Tensor]:
    """What vectors add to a space.

    Args:
        x: Rows, shape ``[b, size]``.
        known: Orthonormal rows, of shape ``[K, size]`` each, orthogonal to those of the others.
        smallest: Length below which a direction is a rounding error.

    Returns:
        Orthonormal rows ``q`` of shape ``[r, size]``, orthogonal to all others, and the matrix
        ``f`` of shape ``[b, r]``, in double precision, with ``x = f q`` but for what lies in the
        span of the others.
    """
    factor = torch.eye(len(x), dtype=torch.float64, device=x.device)
    for bound in (smallest, MOSTLY):  # once is not enough: Parlett, "The symmetric eigenvalue
        for rows in known:  # problem", section 6.9
            x = x - inner(x, rows).to(x) @ rows
        turn, lengths, rows = _decomposed(x.double())
        keep = lengths > bound
        x, factor = rows[keep].to(x), factor @ (turn * lengths)[:, keep]
    return x, factor


def _decomposed(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Singular values, and the vectors of both sides; a single row needs no decomposition."""
    if len(x) == 1:
        length = x.norm(dim=1)
        return x.new_ones(1, 1), length, x / length
    q, r = torch.linalg.qr(x.T)
    turn, lengths, u = torch.linalg.svd(r.T)
    return turn, lengths, u @ q.T


def extended(projected: Tensor, coupling: Tensor, corner: Tensor) -> Tensor:
    """The matrix in the basis that has one more block, in double precision.

    Args:
        projected: In the basis before, shape ``[m, m]``.
        coupling: Of the last block with the new one, shape ``[b', b]``; not used without a last.
        corner: The matrix between the new vectors, shape ``[b, b]``.
    """
    before, width = len(projected), len(corner)
    result = torch.nn.functional.pad(projected, (0, width, 0, width))
    result[before:, before:] = (corner + corner.T) / 2
    if before:
        last = slice(before - len(coupling), before)
        result[last, before:] = coupling
        result[before:, last] = coupling.T
    return result


def most_mass(value: float, projected: Tensor, left: float) -> float:
    """How much of an eigenvector the first vector of an iteration can have, at the most.

    It is ``1 / sum_j p_j(value)^2`` with the orthonormal polynomials that the iteration has made
    (Akhiezer, "The classical moment problem", section 2.5), so it falls fast where the iteration
    has seen nothing.

    Args:
        value: The eigenvalue.
        projected: Tridiagonal, the matrix in the basis of an iteration from a single unit vector.
        left: Length of its next vector.

    Returns:
        The square of the component.
    """
    diagonal = projected.diagonal().tolist()
    lengths = [*projected.diagonal(1).tolist(), left]
    before, now, total = 0.0, 1.0, 1.0
    for j, (entry, length) in enumerate(zip(diagonal, lengths, strict=True)):
        coupled = lengths[j - 1] * before if j else 0.0
        before, now = now, ((value - entry) * now - coupled) / length
        total += now * now
        if total > LARGEST:
            break
    return 1 / total
