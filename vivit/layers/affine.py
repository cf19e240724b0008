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

import math
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
        s: Cotangents, shape ``[N, C, T, o]``; fastest if ``T`` is the innermost axis in memory.
        bias: Whether there is a further input that is always one, and whose weight is the bias.
        classes: ``i`` of one-hot inputs.
    """

    a: Tensor
    s: Tensor
    bias: bool = False
    classes: int | None = None

    @property
    def num_inputs(self) -> int:
        """``i``, without the constant one."""
        return self.a.shape[2] if self.classes is None else self.classes

    def inner_products(self, rows: slice, other: Factors, cols: slice) -> Tensor:
        """``A[n,t,m,u] = <a_nt, a_mu>`` for some samples, shape ``[N, T, M, U]``."""
        left, right = self.a[rows], other.a[cols]
        if self.classes is not None:
            equal = (left[..., None, None] == right) & (right >= 0)
            return equal.to(self.s.dtype)
        inner = left.flatten(end_dim=1) @ right.flatten(end_dim=1).T
        inner = inner.view(*left.shape[:2], *right.shape[:2])
        return inner.add_(1) if self.bias else inner


def hadamard(gram: Tensor, left: Factors, right: Factors | None = None, *, workspace: int) -> None:
    """Add the Gram matrix for one position (``T = 1``): ``(S S^T) * (A A^T)``.

    Never forms the weight-sized columns.

    Args:
        gram: Shape ``[N * C, M * D]``; added to, in place.
        left: Factors of the rows.
        right: Factors of the columns; by default ``left``, and only lower blocks are added to.
        workspace: Bytes that a block of products may take.
    """
    other = left if right is None else right
    (n, c), (m, d) = left.s.shape[:2], other.s.shape[:2]
    fitting = workspace // (c * m * d * gram.element_size())
    s_left, s_right = left.s[:, :, 0].flatten(end_dim=1), other.s[:, :, 0].flatten(end_dim=1)
    for rows in _chunks(n, min(_triangle_block(n), fitting)):
        cols = slice(0, rows.stop if right is None else m)
        block = s_left[_columns(rows, c)] @ s_right[_columns(cols, d)].T
        block = block.view(-1, c, cols.stop, d)
        block *= left.inner_products(rows, other, cols)
        target = gram[_columns(rows, c), _columns(cols, d)]
        target += block.view(target.shape)


def direct(gram: Tensor, left: Factors, right: Factors | None = None, *, workspace: int) -> None:
    """Add the Gram matrix by forming the columns, in chunks of inputs.

    Args:
        gram: Shape ``[N * C, M * D]``; added to, in place.
        left: Factors of the rows.
        right: Factors of the columns; by default ``left``, and only lower blocks are added to.
        workspace: Bytes that a chunk of columns may take.
    """
    columns = sum(gram.shape) if right is not None else len(gram)
    per_input = columns * left.s.shape[3] * gram.element_size()
    buffers = [Buffer(gram), Buffer(gram)]
    for inputs in _chunks(left.num_inputs, workspace // max(per_input, 1)):
        chunk = _flat(form_columns(left, inputs, buffers[0]))
        other = None if right is None else _flat(form_columns(right, inputs, buffers[1]))
        gram_of_columns(gram, chunk, other)
    if left.bias:
        gram_of_columns(gram, _bias_columns(left), None if right is None else _bias_columns(right))


class Buffer:
    """Memory that is used again and again: fresh memory can cost more than writing to it."""

    def __init__(self, like: Tensor) -> None:
        """Hold nothing yet; ``like`` gives dtype and device."""
        self._memory = like.new_empty(0)

    def take(self, *shape: int) -> Tensor:
        """A tensor of some shape, with arbitrary content; what was taken before is lost."""
        size = math.prod(shape)
        if size > len(self._memory):
            self._memory = self._memory.new_empty(size)
        return self._memory[:size].view(shape)


def form_columns(
    factors: Factors, inputs: slice = slice(None), buffer: Buffer | None = None
) -> Tensor:
    """Contract the shared positions: ``V[n,c,o,i] = sum_t s[n,c,t,o] a[n,t,i]``.

    Args:
        factors: Of ``N`` samples and ``C`` columns.
        inputs: Which of the inputs ``i``; the constant one is not among them.
        buffer: Memory to use.

    Returns:
        Columns, shape ``[N, C, o, i]``.
    """
    a, s = factors.a, factors.s.transpose(2, 3)
    if factors.classes is None:
        left, right = s.flatten(1, 2), a[:, :, inputs]
        columns = (buffer or Buffer(s)).take(len(left), left.shape[1], right.shape[2])
        return torch.bmm(left, right, out=columns).unflatten(1, s.shape[1:3])
    index = a - (inputs.start or 0)
    size = len(range(factors.classes)[inputs])
    index = torch.where((index < 0) | (index >= size), size, index)  # one more for all others
    columns = s.new_zeros(*s.shape[:3], size + 1)
    columns.scatter_add_(3, index[:, None, None, :].expand(s.shape), s)
    return columns[..., :-1]


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
    left = replace(left, a=left.a.contiguous())  # read many times, by rows
    other = left if right is None else replace(right, a=right.a.contiguous())
    (n, c, t, o), (m, d, u, _) = left.s.shape, other.s.shape
    s_left = left.s.reshape(n, c, t * o)
    view = gram.unflatten(1, (m, d)).unflatten(0, (n, c))
    per_pair = (t * u + t * o * d) * gram.element_size()
    side = max(min(int((workspace / max(per_pair, 1)) ** 0.5), max(n, m)), 1)
    buffer = gram.new_empty(side * t, o * d)  # once: fresh memory costs more than the product
    for cols in _chunks(m, side):
        # d innermost in the right factor, so that B is never transposed in memory
        s_right = other.s[cols].permute(0, 2, 3, 1).reshape(-1, u, o * d)
        for rows in _chunks(n, side, start=cols.start if right is None else 0):
            inner = left.inner_products(rows, other, cols).flatten(end_dim=1)
            mixed = buffer[: len(inner)]
            by_sample = mixed.view(-1, t * o, d)
            for j, sample in enumerate(range(cols.start, cols.stop)):
                torch.mm(inner[:, j], s_right[j], out=mixed)
                view[rows, :, sample] += s_left[rows] @ by_sample


def mirror(gram: Tensor) -> None:
    """Complete a Gram matrix, whose lower blocks are filled, to a symmetric one, in place."""
    for rows in _row_blocks(len(gram)):
        gram[: rows.start, rows] = gram[rows, : rows.start].T
        block = gram[rows, rows]
        block.copy_(block.tril() + block.tril(-1).T)


def _row_blocks(size: int) -> Iterator[slice]:
    return _chunks(size, _triangle_block(size))


def _triangle_block(size: int) -> int:
    return -(-size // TRIANGLE_BLOCKS)


def _columns(samples: slice, num_columns: int) -> slice:
    return slice(samples.start * num_columns, samples.stop * num_columns)


def _chunks(size: int, length: int, start: int = 0) -> Iterator[slice]:
    length = max(length, 1)
    return (slice(i, min(i + length, size)) for i in range(start, size, length))


def _flat(columns: Tensor) -> Tensor:
    return columns.flatten(end_dim=1).flatten(start_dim=1)


def _bias_columns(factors: Factors) -> Tensor:
    return factors.s.sum(dim=2).flatten(end_dim=1)
