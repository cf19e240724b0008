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
from dataclasses import dataclass

import torch
from torch import Tensor

TRIANGLE_BLOCKS = 8
"""Row blocks into which a Gram matrix is cut to skip its upper triangle: 9/16 of the work."""


@dataclass(frozen=True)
class Factors:
    """What the columns of an affine layer are made of.

    Attributes:
        a: Inputs, shape ``[N, T, i]``.
        s: Cotangents, shape ``[N, C, T, o]``.
    """

    a: Tensor
    s: Tensor


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
        block *= (a_left[rows] @ a_right[cols].T)[:, None, :, None]
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
    per_feature = sum(gram.shape) * left.a.shape[2] * gram.element_size()
    for features in _chunks(left.s.shape[3], workspace // max(per_feature, 1)):
        columns = _flat_columns(left, features)
        gram_of_columns(gram, columns, None if right is None else _flat_columns(right, features))


def form_columns(a: Tensor, s: Tensor) -> Tensor:
    """Contract the shared positions: ``V[n,c,o,i] = sum_t s[n,c,t,o] a[n,t,i]``.

    Args:
        a: Inputs, shape ``[N, T, i]``.
        s: Cotangents, shape ``[N, C, T, o]``.

    Returns:
        Columns, shape ``[N, C, o, i]``.
    """
    num_samples, num_columns, _, out_features = s.shape
    columns = s.new_empty(num_samples, num_columns, out_features, a.shape[2])
    for c in range(num_columns):  # a loop, since [c, o] of s do not flatten without a copy
        columns[:, c] = s[:, c].transpose(1, 2) @ a
    return columns


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
        a_block = a_right[cols].flatten(end_dim=1).T
        for rows in _chunks(n, side, start=cols.start if right is None else 0):
            num_rows = rows.stop - rows.start
            inner = (a_left[rows].flatten(end_dim=1) @ a_block).unflatten(1, (-1, u))
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
    columns = form_columns(factors.a, factors.s[..., features])
    return columns.flatten(end_dim=1).flatten(start_dim=1)


def add_ones(a: Tensor) -> Tensor:
    """Append the constant input one, whose weight is the bias: ``[..., i] -> [..., i + 1]``."""
    return torch.cat([a, a.new_ones(*a.shape[:-1], 1)], dim=-1)
