"""The affine kernel: Gram blocks of columns ``V_nc = sum_t s[n,c,t,o] a[n,t,i]``.

``K[(n,c),(m,d)] = <V_nc, V_md>`` in three orders of contraction that give the same result at
different cost (see `vivit.layers.cost`). All of them add to a preallocated matrix and keep their
temporaries within a workspace. Between the columns of one batch the matrix is symmetric, and only
the blocks on and below its diagonal are touched; between those of two batches it is rectangular.
Axes: ``n, m`` samples, ``c, d`` columns, ``t, u`` positions, ``i`` input, ``o`` output feature.
The orders and their costs: Novak, Sohl-Dickstein, Schoenholz, "Fast finite width neural tangent
kernel", ICML 2022, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

TRIANGLE_BLOCKS = 8
"""Row blocks into which a Gram matrix is cut to skip its upper triangle: 9/16 of the work."""


@dataclass(frozen=True)
class Factors:
    """What the columns of an affine layer are made of.

    Attributes:
        a: Inputs, shape ``[N, T, i]``; of one-hot inputs the indices, ``[N, T]``, -1 for zero.
        s: Cotangents, shape ``[N, C, T, o]``.
        classes: ``i`` of one-hot inputs.
    """

    a: Tensor
    s: Tensor
    classes: int | None = None

    @classmethod
    def of(cls, a: Tensor, s: Tensor, classes: int | None) -> Factors:
        """Factors of inputs ``[N, T, i]``, or indices ``[N, T, 1]`` of one-hot inputs."""
        return cls(a if classes is None else a.squeeze(2), s, classes)

    @property
    def num_inputs(self) -> int:
        """``i``."""
        return self.a.shape[2] if self.classes is None else self.classes


def hadamard(gram: Tensor, left: Factors, right: Factors | None = None) -> None:
    """Add the Gram matrix for one position (``T = 1``): ``(S S^T) * (A A^T)``.

    Never forms the weight-sized columns.

    Args:
        gram: Shape ``[N * C, M * D]``; added to, in place.
        left: Factors of the rows.
        right: Factors of the columns; by default ``left``, and only lower blocks are added to.
    """
    other = left if right is None else right
    (n, c), (m, d) = left.s.shape[:2], other.s.shape[:2]
    s_left, s_right = left.s[:, :, 0].flatten(end_dim=1), other.s[:, :, 0].flatten(end_dim=1)
    a_left, a_right = left.a[:, 0], other.a[:, 0]
    for rows in _row_blocks(n):
        cols = slice(0, rows.stop if right is None else m)
        block = s_left[_columns(rows, c)] @ s_right[_columns(cols, d)].T
        block = block.view(-1, c, cols.stop, d)
        block *= inner_products(a_left[rows], a_right[cols], block)[:, None, :, None]
        target = gram[_columns(rows, c), _columns(cols, d)]
        target += block.view(target.shape)


def direct(gram: Tensor, left: Factors, right: Factors | None = None, *, workspace: int) -> None:
    """Add the Gram matrix by forming the columns, in chunks of output features.

    Args:
        gram: Shape ``[N * C, M * D]``; added to, in place.
        left: Factors of the rows.
        right: Factors of the columns; by default ``left``, and only lower blocks are added to.
        workspace: Bytes that a chunk of columns may take.
    """
    per_feature = sum(gram.shape) * left.num_inputs * gram.element_size()
    for features in _chunks(left.s.shape[3], workspace // max(per_feature, 1)):
        columns = _flat_columns(left, features)
        gram_of_columns(gram, columns, None if right is None else _flat_columns(right, features))


def form_columns(factors: Factors) -> Tensor:
    """Contract the shared positions: ``V[n,c,o,i] = sum_t s[n,c,t,o] a[n,t,i]``.

    Args:
        factors: Of ``N`` samples and ``C`` columns.

    Returns:
        Columns, shape ``[N, C, o, i]``.
    """
    a, s = factors.a, factors.s
    n, num_columns, _, o = s.shape
    if factors.classes is not None:
        columns = s.new_zeros(n, num_columns, o, factors.classes + 1)  # the last one is for -1
        index = torch.where(a < 0, factors.classes, a)[:, None, None, :]
        columns.scatter_add_(3, index.expand(n, num_columns, o, -1), s.transpose(2, 3))
        return columns[..., :-1]
    columns = s.new_empty(n, num_columns, o, a.shape[2])
    for c in range(num_columns):  # a loop, since [c, o] of s do not flatten without a copy
        columns[:, c] = s[:, c].transpose(1, 2) @ a
    return columns


def inner_products(left: Tensor, right: Tensor, like: Tensor) -> Tensor:
    """Inner products of the rows of two lists of inputs.

    Args:
        left: Inputs ``[P, i]``; indices ``[P]`` of one-hot inputs.
        right: Inputs ``[Q, i]``; indices ``[Q]``.
        like: A tensor of the dtype to use.

    Returns:
        Shape ``[P, Q]``.
    """
    if left.ndim == 2:
        return left @ right.T
    return ((left[:, None] == right) & (right >= 0)).to(like.dtype)


def gram_of_columns(gram: Tensor, left: Tensor, right: Tensor | None = None) -> None:
    """Add ``left right^T``.

    Args:
        gram: Shape ``[M, K]``; changed in place.
        left: Shape ``[M, p]``.
        right: Shape ``[K, p]``; by default ``left``, and only lower blocks are added to.
    """
    if right is not None:
        gram.addmm_(left, right.T)
        return
    for rows in _row_blocks(len(left)):
        gram[rows, : rows.stop].addmm_(left[rows], left[: rows.stop].T)


def pairwise(gram: Tensor, left: Factors, right: Factors | None = None, *, workspace: int) -> None:
    """Add the Gram matrix by contracting the inputs of pairs of positions first.

    ``A[n,t,m,u] = <a_nt, a_mu>``, then ``B[m,n,t,o,d] = sum_u A[n,t,m,u] s[m,d,u,o]``, then
    ``K[n,c,m,d] = sum_to s[n,c,t,o] B[m,n,t,o,d]``. The layouts are chosen such that each step is
    a (batched) matrix product on contiguous memory.

    Args:
        gram: Shape ``[N * C, M * D]``; added to, in place.
        left: Factors of the rows.
        right: Factors of the columns; by default ``left``, and only lower blocks are added to.
        workspace: Bytes that the temporaries of a pair of sample blocks may take.
    """
    other = left if right is None else right
    (n, c, t, o), (m, d, u, _) = left.s.shape, other.s.shape
    a_left, a_right = left.a.contiguous(), other.a.contiguous()
    s_left = left.s.reshape(n, c, t * o)
    view = gram.unflatten(1, (m, d)).unflatten(0, (n, c))
    per_pair = (t * u + t * o * d) * gram.element_size()
    side = min(int((workspace / max(per_pair, 1)) ** 0.5), max(n, m))
    for cols in _chunks(m, side):
        # d innermost in the right factor, so that B is never transposed in memory
        s_right = other.s[cols].permute(0, 2, 3, 1).reshape(-1, u, o * d)
        a_block = a_right[cols].flatten(end_dim=1)
        for rows in _chunks(n, side, start=cols.start if right is None else 0):
            num_rows = rows.stop - rows.start
            inner = inner_products(a_left[rows].flatten(end_dim=1), a_block, gram)
            inner = inner.unflatten(1, (-1, u))
            for j, sample in enumerate(range(cols.start, cols.stop)):
                mixed = (inner[:, j] @ s_right[j]).view(num_rows, t * o, d)
                view[rows, :, sample] += s_left[rows] @ mixed


def mirror(gram: Tensor) -> None:
    """Complete a Gram matrix, whose lower blocks are filled, to a symmetric one, in place."""
    for rows in _row_blocks(len(gram)):
        gram[: rows.start, rows] = gram[rows, : rows.start].T
        block = gram[rows, rows]
        block.copy_(block.tril() + block.tril(-1).T)


def _row_blocks(size: int) -> Iterator[slice]:
    return _chunks(size, -(-size // TRIANGLE_BLOCKS))


def _columns(samples: slice, num_columns: int) -> slice:
    return slice(samples.start * num_columns, samples.stop * num_columns)


def _chunks(size: int, length: int, start: int = 0) -> Iterator[slice]:
    length = max(length, 1)
    return (slice(i, min(i + length, size)) for i in range(start, size, length))


def _flat_columns(factors: Factors, features: slice) -> Tensor:
    columns = form_columns(replace(factors, s=factors.s[..., features]))
    return columns.flatten(end_dim=1).flatten(start_dim=1)
