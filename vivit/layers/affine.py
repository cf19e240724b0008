"""The affine kernel: Gram blocks of columns ``V_nc = sum_t s[n,c,t,o] a[n,t,i]``.

``K[(n,c),(m,d)] = <V_nc, V_md>`` in three orders of contraction that give the same result at
different cost (see `vivit.layers.cost`). All of them add to a preallocated Gram matrix, touch
only the blocks on and below its diagonal, and keep their temporaries within a workspace.
Axes: ``n, m`` samples, ``c, d`` columns, ``t, u`` positions, ``i`` input, ``o`` output feature.
The orders and their costs: Novak, Sohl-Dickstein, Schoenholz, "Fast finite width neural tangent
kernel", ICML 2022, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

TRIANGLE_BLOCKS = 8
"""Row blocks into which a Gram matrix is cut to skip its upper triangle: 9/16 of the work."""


def hadamard(gram: Tensor, a: Tensor, s: Tensor) -> None:
    """Add the Gram matrix for one position (``T = 1``): ``(S S^T) * (A A^T)``.

    Never forms the weight-sized columns.

    Args:
        gram: Shape ``[N * C, N * C]``; its lower blocks are added to, in place.
        a: Inputs, shape ``[N, 1, i]``.
        s: Cotangents, shape ``[N, C, 1, o]``.
    """
    num_samples, num_columns = s.shape[:2]
    a, s = a[:, 0], s[:, :, 0].flatten(end_dim=1)
    for rows in _row_blocks(num_samples):
        upto = slice(0, rows.stop)
        block = s[_columns(rows, num_columns)] @ s[_columns(upto, num_columns)].T
        block = block.view(-1, num_columns, rows.stop, num_columns)
        block *= (a[rows] @ a[upto].T)[:, None, :, None]
        target = gram[_columns(rows, num_columns), _columns(upto, num_columns)]
        target += block.view(target.shape)


def direct(gram: Tensor, a: Tensor, s: Tensor, workspace: int) -> None:
    """Add the Gram matrix by forming the columns, in chunks of output features.

    Args:
        gram: Shape ``[N * C, N * C]``; its lower blocks are added to, in place.
        a: Inputs, shape ``[N, T, i]``.
        s: Cotangents, shape ``[N, C, T, o]``.
        workspace: Bytes that a chunk of columns may take.
    """
    num_samples, num_columns, _, out_features = s.shape
    per_feature = num_samples * num_columns * a.shape[2] * s.element_size()
    for features in _chunks(out_features, workspace // max(per_feature, 1)):
        columns = form_columns(a, s[..., features])
        gram_of_columns(gram, columns.flatten(end_dim=1).flatten(start_dim=1))


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
    if a.shape[2]:
        for c in range(num_columns):  # a loop, since [c, o] of s do not flatten without a copy
            columns[:, c] = s[:, c].transpose(1, 2) @ a
    return columns


def gram_of_columns(gram: Tensor, columns: Tensor) -> None:
    """Add ``columns columns^T`` to the lower blocks of ``gram``.

    Args:
        gram: Shape ``[M, M]``; changed in place.
        columns: Shape ``[M, p]``.
    """
    for rows in _row_blocks(len(columns)):
        gram[rows, : rows.stop].addmm_(columns[rows], columns[: rows.stop].T)


def pairwise(gram: Tensor, a: Tensor, s: Tensor, workspace: int) -> None:
    """Add the Gram matrix by contracting the inputs of pairs of positions first.

    ``A[n,t,m,u] = <a_nt, a_mu>``, then ``B[m,n,t,o,d] = sum_u A[n,t,m,u] s[m,d,u,o]``, then
    ``K[n,c,m,d] = sum_to s[n,c,t,o] B[m,n,t,o,d]``. The layouts are chosen such that each step is
    a (batched) matrix product on contiguous memory.

    Args:
        gram: Shape ``[N * C, N * C]``; its lower blocks are added to, in place.
        a: Inputs, shape ``[N, T, i]``.
        s: Cotangents, shape ``[N, C, T, o]``.
        workspace: Bytes that the temporaries of a pair of sample blocks may take.
    """
    num_samples, num_columns, positions, out_features = s.shape
    a = a.contiguous()
    left = s.reshape(num_samples, num_columns, positions * out_features)
    view = gram.view(num_samples, num_columns, num_samples, num_columns)
    per_pair = positions * (positions + num_columns * out_features) * s.element_size()
    side = min(int((workspace / max(per_pair, 1)) ** 0.5), num_samples)
    for cols in _chunks(num_samples, side):
        # d innermost in the right factor, so that B is never transposed in memory
        right = s[cols].permute(0, 2, 3, 1).reshape(-1, positions, out_features * num_columns)
        a_right = a[cols].flatten(end_dim=1).T
        for rows in _chunks(num_samples, side, start=cols.start):
            num_rows = rows.stop - rows.start
            inner = (a[rows].flatten(end_dim=1) @ a_right).unflatten(1, (-1, positions))
            for j, m in enumerate(range(cols.start, cols.stop)):
                mixed = inner[:, j] @ right[j]
                mixed = mixed.view(num_rows, positions * out_features, num_columns)
                view[rows, :, m] += left[rows] @ mixed


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


def add_ones(a: Tensor) -> Tensor:
    """Append the constant input one, whose weight is the bias: ``[..., i] -> [..., i + 1]``."""
    return torch.cat([a, a.new_ones(*a.shape[:-1], 1)], dim=-1)
