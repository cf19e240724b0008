"""Uses of parameters by affine operations: what each one multiplies with what.

Every affine operation gives columns of one form, ``V_nc = sum_t s[n,c,t,o] a[n,t,i]``, with
``a`` the (unfolded) input and ``s`` the cotangent of the output. A use knows how to bring both
into the axis order of this formula; the kernel in `vivit.layers.affine` does the rest.
Axes: ``n`` sample, ``t`` shared position, ``g`` channel group, ``i`` input, ``o`` output feature.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor


class SampleOrder(Enum):
    """How samples ``n`` and positions ``t`` share the rows of a flattened tensor."""

    SAMPLE_FIRST = "row = n * T + t"
    POSITION_FIRST = "row = t * N + n"

    def split(self, x: Tensor, num_samples: int) -> Tensor:
        """View rows ``[N * T, ...]`` as ``[N, T, ...]``."""
        if self is SampleOrder.SAMPLE_FIRST:
            return x.unflatten(0, (num_samples, -1))
        return x.unflatten(0, (-1, num_samples)).transpose(0, 1)


class AffineUse(ABC):
    """One use of an affine operation's parameters on a batch of rows.

    Attributes:
        input: The input as the operation saw it; None for a bias alone.
        transposed: Whether the weight is laid out as ``[g, i, o]``, not ``[g, o, i]``.
        one_hot: Whether the inputs are one-hot vectors, of which only the index is known.
    """

    input: Tensor | None
    transposed: bool = False
    one_hot: bool = False

    @property
    @abstractmethod
    def features(self) -> tuple[int, int, int]:
        """Channel groups, input and output features per group: ``(g, i, o)``."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """Size of the leading axis of the input and of the output."""

    @property
    def positions(self) -> int:
        """Positions per row over which the weights are shared; else they are rows of their own."""
        return 1

    @property
    def seen(self) -> tuple[Tensor, ...]:
        """What `inputs` is made of, which may not change."""
        return () if self.input is None else (self.input,)

    @property
    def begins_with_rows(self) -> bool:
        """Whether rows are the first axis of the output, or it and some behind it."""
        return True

    def by_rows(self, s: Tensor) -> Tensor:
        """The cotangent of the output as ``[rows, all else]``, in any order of the latter."""
        return s.reshape(self.rows, -1)

    @abstractmethod
    def inputs(self) -> Tensor:
        """The rows' inputs ``a``, shape ``[rows, positions, g, i]``.

        If they are one-hot, their indices, ``[rows, positions, g, 1]``; -1 for a zero input.
        """

    @abstractmethod
    def cotangents(self, s: Tensor) -> Tensor:
        """The cotangent of the output, as ``[rows, positions, g, o]``."""


@dataclass(frozen=True)
class LinearUse(AffineUse):
    """``y = a W^T + b`` on a matrix of rows.

    Attributes:
        input: Shape ``[rows, i]``.
        out_features: ``o``.
        transposed: Whether it is ``y = a W``.
    """

    input: Tensor
    out_features: int
    transposed: bool = False

    @property
    def features(self) -> tuple[int, int, int]:
        """``(1, i, o)``."""
        return 1, self.input.shape[1], self.out_features

    @property
    def rows(self) -> int:
        """Rows of the input matrix."""
        return self.input.shape[0]

    def inputs(self) -> Tensor:
        """Shape ``[rows, 1, 1, i]``."""
        return self.input[:, None, None, :]

    def cotangents(self, s: Tensor) -> Tensor:
        """From ``[rows, o]``, or ``[rows]`` for a single output, to ``[rows, 1, 1, o]``."""
        return s.reshape(len(s), 1, 1, -1)


@dataclass(frozen=True)
class ProductUse(AffineUse):
    """Products of matrices, one for each group: ``y_g = a_g W_g``, or ``y_g = W_g a_g``.

    A single one may do without the axis of groups in its output.

    Attributes:
        input: Shape ``[g, rows, i]``; ``[g, i, rows]`` if the weight is on the left.
        out_features: ``o``.
        transposed: Whether the weight is the right factor.
    """

    input: Tensor
    out_features: int
    transposed: bool

    @property
    def features(self) -> tuple[int, int, int]:
        """``(g, i, o)``."""
        groups, *sizes = self.input.shape
        return groups, sizes[1 if self.transposed else 0], self.out_features

    @property
    def rows(self) -> int:
        """Rows of the inputs, or their columns."""
        return self.input.shape[1 if self.transposed else 2]

    @property
    def begins_with_rows(self) -> bool:
        """Groups are first."""
        return False

    def inputs(self) -> Tensor:
        """Shape ``[rows, 1, g, i]``."""
        return self._rows_first(self.input)

    def cotangents(self, s: Tensor) -> Tensor:
        """From ``[g, rows, o]``, or ``[g, o, rows]``, to ``[rows, 1, g, o]``."""
        return self._rows_first(s)

    def by_rows(self, s: Tensor) -> Tensor:
        """``[rows, g * o]``."""
        return self._rows_first(s).flatten(1)

    def _rows_first(self, x: Tensor) -> Tensor:
        groups = x.reshape(len(self.input), *x.shape[-2:])
        return groups.permute(*((1, 0, 2) if self.transposed else (2, 0, 1))).unsqueeze(1)


@dataclass(frozen=True)
class BilinearUse(AffineUse):
    """``y_o = sum_ij W_oij x_i z_j``: linear in the products of two inputs' entries.

    Attributes:
        input: ``x``, shape ``[rows, i]``.
        second: ``z``, shape ``[rows, j]``.
        out_features: ``o``.
    """

    input: Tensor
    second: Tensor
    out_features: int

    @property
    def seen(self) -> tuple[Tensor, ...]:
        """Both inputs."""
        return self.input, self.second

    @property
    def features(self) -> tuple[int, int, int]:
        """``(1, i * j, o)``."""
        return 1, self.input.shape[1] * self.second.shape[1], self.out_features

    @property
    def rows(self) -> int:
        """Rows of the inputs."""
        return self.input.shape[0]

    def inputs(self) -> Tensor:
        """Shape ``[rows, 1, 1, i * j]``."""
        products = self.input[:, :, None] * self.second[:, None, :]
        return products.flatten(1)[:, None, None, :]

    def cotangents(self, s: Tensor) -> Tensor:
        """From ``[rows, o]`` to ``[rows, 1, 1, o]``."""
        return s[:, None, None, :]


@dataclass(frozen=True)
class EmbeddingUse(AffineUse):
    """A table of vectors, looked up by index: ``y = onehot(index) W``.

    Attributes:
        input: Indices, of any shape; its entries are the rows.
        table_shape: ``(vectors, o)``.
        padding_idx: The vector that is no parameter; -1 if there is none.
    """

    input: Tensor
    table_shape: tuple[int, ...]
    padding_idx: int

    transposed = True
    one_hot = True

    @property
    def features(self) -> tuple[int, int, int]:
        """``(1, vectors, o)``."""
        return 1, self.table_shape[0], self.table_shape[1]

    @property
    def rows(self) -> int:
        """Number of indices."""
        return self.input.numel()

    def inputs(self) -> Tensor:
        """Indices, ``[rows, 1, 1, 1]``; -1 for the padding."""
        index = self.input.reshape(-1, 1, 1, 1)
        return torch.where(index == self.padding_idx, -1, index)

    def cotangents(self, s: Tensor) -> Tensor:
        """From ``[*indices, o]`` to ``[rows, 1, 1, o]``."""
        return s.reshape(self.rows, 1, 1, -1)
