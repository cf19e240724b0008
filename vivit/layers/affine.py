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

from vivit.devices import traits

TRIANGLE_BLOCKS = 8
"""Blocks into which a Gram matrix is cut to skip its upper triangle: 9/16 of the work."""

THINNEST_BLOCK = 64
"""Columns of a block below which matrix products lose more than the triangle saves."""

THINNEST_PRODUCTS = 256
"""The same of entrywise products of two matrices, which have more operations for each block."""

ALIGNED = 8
"""Lengths of chunks are multiples of this, where they can be: matrix products like them."""


class Workspace:
    """Memory for temporaries that is used again and again, within a bound.

    Fresh memory can cost more than a small matrix product that writes to it.

    Attributes:
        size: Number of elements that the temporaries of one evaluation may take.
        block: Number of elements of which it is best to make a temporary at a time.
    """

    def __init__(self, size_bytes: int, like: Tensor) -> None:
        """Hold nothing yet.

        Args:
            size_bytes: The bound.
            like: A tensor of the dtype and device to use.
        """
        self.size = size_bytes // like.element_size()
        self.block = traits(like.device).block_within(self.size)
        self._memory = [like.new_empty(0), like.new_empty(0)]

    def take(self, *shape: int, slot: int = 0) -> Tensor:
        """A tensor with arbitrary content, in place of what was taken before.

        Args:
            *shape: Of the tensor; a single evaluation may need more than the bound.
            slot: 0 or 1, for two tensors at once.

        Returns:
            The tensor.
        """
        size, other = math.prod(shape), 1 - slot
        if size > len(self._memory[slot]):
            self._memory[slot] = self._memory[slot].new_empty(0)  # first free the old one
            if size + len(self._memory[other]) > self.size:  # larger than is needed beside this
                self._memory[other] = self._memory[other].new_empty(0)
            self._memory[slot] = self._memory[slot].new_empty(size)
        return self._memory[slot][:size].view(shape)

    @property
    def like(self) -> Tensor:
        """A tensor of its dtype and device."""
        return self._memory[0]

    def release(self) -> None:
        """Free the memory; what is taken later is made anew."""
        self._memory = [memory.new_empty(0) for memory in self._memory]


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


def hadamard(
    gram: Tensor, left: Factors, right: Factors | None = None, *, workspace: Workspace
) -> None:
    """Add the Gram matrix for one position (``T = 1``): ``(S S^T) * (A A^T)``.

    Never forms the weight-sized columns.

    Args:
        gram: Shape ``[N * C, M * D]``; added to, in place.
        left: Factors of the rows.
        right: Factors of the columns; by default ``left``, and only lower blocks are added to.
        workspace: Memory for a block of products.
    """
    other = left if right is None else right
    (n, c), (m, d) = left.s.shape[:2], other.s.shape[:2]
    fitting = workspace.block // ((c + 1) * m * d)
    s_left, s_right = left.s[:, :, 0].flatten(end_dim=1), other.s[:, :, 0].flatten(end_dim=1)
    for rows in _chunks(n, min(max(_triangle_block(n), THINNEST_PRODUCTS // c), fitting)):
        cols = slice(0, rows.stop if right is None else m)
        left_rows, right_rows = s_left[_columns(rows, c)], s_right[_columns(cols, d)]
        block = workspace.take(len(left_rows), len(right_rows))
        torch.mm(left_rows, right_rows.T, out=block)
        inner = left.inner_products(rows, other, cols).flatten(start_dim=1)
        if d > 1:  # for long rows: fast to multiply
            inner = inner.repeat_interleave(d, dim=1)
        target = gram[_columns(rows, c), _columns(cols, d)].unflatten(0, (-1, c))
        target.addcmul_(block.view(target.shape), inner.unsqueeze(1))


def direct(
    gram: Tensor, left: Factors, right: Factors | None = None, *, workspace: Workspace
) -> None:
    """Add the Gram matrix by forming the columns, in chunks of inputs.

    Args:
        gram: Shape ``[N * C, M * D]``; added to, in place.
        left: Factors of the rows.
        right: Factors of the columns; by default ``left``, and only lower blocks are added to.
        workspace: Memory for a chunk of columns.
    """
    columns = sum(gram.shape) if right is not None else len(gram)
    fitting = workspace.size // max(columns * left.s.shape[3], 1)
    for inputs in _chunks(left.num_inputs, _round_down(fitting, ALIGNED)):
        chunk = _flat(form_columns(left, inputs, workspace, slot=0))
        other = None if right is None else _flat(form_columns(right, inputs, workspace, slot=1))
        gram_of_columns(gram, chunk, other)
    if left.bias:
        gram_of_columns(gram, _bias_columns(left), None if right is None else _bias_columns(right))


def form_columns(
    factors: Factors,
    inputs: slice = slice(None),
    workspace: Workspace | None = None,
    slot: int = 0,
) -> Tensor:
    """Contract the shared positions: ``V[n,c,o,i] = sum_t s[n,c,t,o] a[n,t,i]``.

    Args:
        factors: Of ``N`` samples and ``C`` columns.
        inputs: Which of the inputs ``i``; the constant one is not among them.
        workspace: Memory to use; by default the columns have their own.
        slot: Of the workspace.

    Returns:
        Columns, shape ``[N, C, o, i]``.
    """
    a, s = factors.a, factors.s.transpose(2, 3)
    if factors.classes is None:
        left, right = s.flatten(1, 2), a[:, :, inputs]
        if workspace is None:
            return torch.bmm(left, right).unflatten(1, s.shape[1:3])
        columns = workspace.take(len(left), left.shape[1], right.shape[2], slot=slot)
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
    for cols in _triangle_blocks(len(left)):
        gram[cols.start :, cols].addmm_(left[cols.start :], left[cols].T)


def pairwise(
    gram: Tensor, left: Factors, right: Factors | None = None, *, workspace: Workspace
) -> None:
    """Add the Gram matrix by contracting the inputs of pairs of positions first.

    ``A[n,t,m,u] = <a_nt, a_mu>``, then ``B[m,n,d,o,t] = sum_u s[m,d,u,o] A[n,t,m,u]``, then
    ``K[n,c,m,d] = sum_ot s[n,c,t,o] B[m,n,d,o,t]``. With ``t`` innermost, as cotangents are kept,
    each step is a (batched) matrix product without a copy, and the last one of rows with rows.

    Args:
        gram: Shape ``[N * C, M * D]``; added to, in place.
        left: Factors of the rows.
        right: Factors of the columns; by default ``left``, and only lower blocks are added to.
        workspace: Memory for the temporaries of a pair of sample blocks.
    """
    left = replace(left, a=left.a.contiguous())  # read many times, by rows
    other = left if right is None else replace(right, a=right.a.contiguous())
    (n, c, t, o), (m, d, u, _) = left.s.shape, other.s.shape
    s_left = left.s.transpose(2, 3).reshape(n, c, o * t)
    s_right = other.s.transpose(2, 3).reshape(m, d * o, u)
    view = gram.unflatten(1, (m, d)).unflatten(0, (n, c))
    size = min(workspace.block, workspace.size // 2)
    height = min(max(size // max(d * o * t, 1), 1), n)
    width = max(size // max(height * t * u, 1), 1)
    for cols in _chunks(m, width):
        for rows in _chunks(n, height, start=cols.start if right is None else 0):
            inner = left.inner_products(rows, other, cols)
            for sample in range(cols.start, cols.stop):
                skipped = max(sample - rows.start, 0) if right is None else 0
                block = inner[skipped:, :, sample - cols.start]
                if len(block):
                    mixed = workspace.take(len(block), d * o, t)
                    torch.bmm(s_right[sample].expand(len(block), -1, -1), block.mT, out=mixed)
                    some = slice(rows.start + skipped, rows.stop)
                    view[some, :, sample] += s_left[some] @ mixed.view(-1, d, o * t).mT


def mirror(gram: Tensor) -> None:
    """Complete a Gram matrix, whose lower blocks are filled, to a symmetric one, in place."""
    for rows in _triangle_blocks(len(gram)):
        gram[: rows.start, rows] = gram[rows, : rows.start].T
        block = gram[rows, rows]
        block.copy_(block.tril() + block.tril(-1).T)


def _triangle_blocks(size: int) -> Iterator[slice]:
    return _chunks(size, max(_triangle_block(size), THINNEST_BLOCK))


def _triangle_block(size: int) -> int:
    return -(-size // TRIANGLE_BLOCKS)


def _columns(samples: slice, num_columns: int) -> slice:
    return slice(samples.start * num_columns, samples.stop * num_columns)


def _round_down(length: int, step: int) -> int:
    """The largest multiple of a step; a length that is smaller as it is."""
    return length if length < step else length - length % step


def _chunks(size: int, length: int, start: int = 0) -> Iterator[slice]:
    length = max(length, 1)
    return (slice(i, min(i + length, size)) for i in range(start, size, length))


def _flat(columns: Tensor) -> Tensor:
    return columns.flatten(end_dim=1).flatten(start_dim=1)


def _bias_columns(factors: Factors) -> Tensor:
    return factors.s.sum(dim=2).flatten(end_dim=1)
