"""Uses of parameters by affine operations: what each one multiplies with what.

Every affine operation gives columns of one form, ``V_nc = sum_t s[n,c,t,o] a[n,t,i]``, with
``a`` the (unfolded) input and ``s`` the cotangent of the output. A use knows how to bring both
into the axis order of this formula; the kernel in `vivit.layers.affine` does the rest.
Axes: ``n`` sample, ``t`` shared position, ``g`` channel group, ``i`` input, ``o`` output feature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch.nn.functional as F
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


class AffineUse(Protocol):
    """One use of an affine operation's parameters on a batch of rows."""

    @property
    def input(self) -> Tensor | None:
        """The input as the operation saw it; None for a bias alone."""
        ...

    @property
    def features(self) -> tuple[int, int, int]:
        """Channel groups, input and output features per group: ``(g, i, o)``."""
        ...

    @property
    def transposed(self) -> bool:
        """Whether the weight is laid out as ``[g, i, o]``, not ``[g, o, i]``."""
        ...

    @property
    def rows(self) -> int:
        """Size of the leading axis of the input and of the output."""
        ...

    @property
    def positions(self) -> int:
        """Positions per row over which the weights are shared."""
        ...

    def inputs(self) -> Tensor:
        """The rows' inputs ``a``, shape ``[rows, positions, g, i]``."""
        ...

    def cotangents(self, s: Tensor) -> Tensor:
        """The cotangent of the output, as ``[rows, positions, g, o]``."""
        ...


@dataclass(frozen=True)
class LinearUse:
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

    @property
    def positions(self) -> int:
        """One: shared positions are rows of their own."""
        return 1

    def inputs(self) -> Tensor:
        """Shape ``[rows, 1, 1, i]``."""
        return self.input[:, None, None, :]

    def cotangents(self, s: Tensor) -> Tensor:
        """From ``[rows, o]`` to ``[rows, 1, 1, o]``."""
        return s[:, None, None, :]


@dataclass(frozen=True)
class ConvolutionUse:
    """A convolution in any number of spatial dimensions, as an affine map of its windows.

    Attributes:
        input: Shape ``[rows, channels, *spatial]``.
        weight_shape: ``(out channels, channels / groups, *kernel)``.
        output_size: Spatial size of the output.
        stride: Step of the windows, per spatial dimension, as are the next two.
        padding: Zeros added on both sides.
        dilation: Step inside a window.
        groups: Number of channel groups.
    """

    input: Tensor
    weight_shape: tuple[int, ...]
    output_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def features(self) -> tuple[int, int, int]:
        """``(groups, window entries per group, out channels per group)``."""
        out, *window = self.weight_shape
        return self.groups, math.prod(window), out // self.groups

    @property
    def transposed(self) -> bool:
        """No."""
        return False

    @property
    def rows(self) -> int:
        """Leading axis of the input."""
        return self.input.shape[0]

    @property
    def positions(self) -> int:
        """Number of windows."""
        return math.prod(self.output_size)

    def inputs(self) -> Tensor:
        """The windows, ``[rows, windows, groups, entries]``."""
        kernel = self.weight_shape[2:]
        x = windows(self.input, kernel, self.stride, self.padding, self.dilation)
        return join_windows(x, self.groups)

    def cotangents(self, s: Tensor) -> Tensor:
        """From ``[rows, out channels, *spatial]`` to ``[rows, windows, groups, o]``."""
        groups, _, out = self.features
        return s.reshape(self.rows, groups, out, self.positions).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class TransposedConvolutionUse:
    """A transposed convolution: its weights map each input position to a window of the output.

    So the windows are those of the cotangent, and what is shared are the input's positions.

    Attributes:
        input: Shape ``[rows, channels, *spatial]``.
        weight_shape: ``(channels, out channels / groups, *kernel)``.
        stride: Step of the windows in the output, per spatial dimension, as are the next two.
        padding: Zeros taken off on both sides of the output.
        dilation: Step inside a window.
        groups: Number of channel groups.
    """

    input: Tensor
    weight_shape: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def features(self) -> tuple[int, int, int]:
        """``(groups, channels per group, window entries per group)``."""
        channels, *window = self.weight_shape
        return self.groups, channels // self.groups, math.prod(window)

    @property
    def transposed(self) -> bool:
        """Yes."""
        return True

    @property
    def rows(self) -> int:
        """Leading axis of the input."""
        return self.input.shape[0]

    @property
    def positions(self) -> int:
        """Number of input positions."""
        return math.prod(self.input.shape[2:])

    def inputs(self) -> Tensor:
        """``[rows, positions, groups, channels per group]``."""
        groups, channels, _ = self.features
        return self.input.reshape(self.rows, groups, channels, -1).permute(0, 3, 1, 2)

    def cotangents(self, s: Tensor) -> Tensor:
        """The windows of the output's cotangent, ``[rows, positions, groups, entries]``."""
        kernel, spatial = self.weight_shape[2:], self.input.shape[2:]
        x = windows(s, kernel, self.stride, self.padding, self.dilation)
        for dim, size in enumerate(spatial, start=2):
            x = x.narrow(dim, 0, size)  # output_padding may add windows that no input reaches
        return join_windows(x, self.groups)


@dataclass(frozen=True)
class EmbeddingUse:
    """A table of vectors, looked up by index: ``y = onehot(index) W``.

    Attributes:
        indices: Of any shape; its entries are the rows.
        table_shape: ``(vectors, o)``.
        padding_idx: The vector that is no parameter; -1 if there is none.
    """

    indices: Tensor
    table_shape: tuple[int, ...]
    padding_idx: int

    @property
    def input(self) -> Tensor:
        """The indices."""
        return self.indices

    @property
    def features(self) -> tuple[int, int, int]:
        """``(1, vectors, o)``."""
        return 1, self.table_shape[0], self.table_shape[1]

    @property
    def transposed(self) -> bool:
        """Yes."""
        return True

    @property
    def rows(self) -> int:
        """Number of indices."""
        return self.indices.numel()

    @property
    def positions(self) -> int:
        """One: shared positions are rows of their own."""
        return 1

    def inputs(self) -> Tensor:
        """One-hot vectors, ``[rows, 1, 1, vectors]``; zero for the padding."""
        onehot = F.one_hot(self.indices.flatten(), self.table_shape[0])
        if self.padding_idx >= 0:
            onehot[:, self.padding_idx] = 0
        return onehot[:, None, None, :]

    def cotangents(self, s: Tensor) -> Tensor:
        """From ``[*indices, o]`` to ``[rows, 1, 1, o]``."""
        return s.reshape(self.rows, 1, 1, -1)


@dataclass(frozen=True)
class Span:
    """The axes of a tensor along which a parameter lies; it is broadcast along all others.

    Attributes:
        shape: Of the tensor.
        start: First axis of the parameter; those before are rows.
        stop: Axis behind its last one; those from there on are positions.
    """

    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Rows, entries of the parameter, positions."""
        axes = (
            self.shape[: self.start],
            self.shape[self.start : self.stop],
            self.shape[self.stop :],
        )
        rows, entries, positions = map(math.prod, axes)
        return rows, entries, positions

    def split(self, x: Tensor) -> Tensor:
        """A tensor of this shape as ``[rows, positions, entries]``."""
        return x.reshape(self.sizes).transpose(1, 2)


@dataclass(frozen=True)
class ScaleUse:
    """A parameter times a tensor, entry by entry: ``y = w * a``, an affine map for each entry.

    Attributes:
        span: Where the parameter lies.
        factor: Gives ``a``, of the span's shape: for a normalization, the normalized input.
        input: What ``a`` is made of.
    """

    span: Span
    factor: Callable[[], Tensor]
    input: Tensor

    @property
    def features(self) -> tuple[int, int, int]:
        """``(entries, 1, 1)``."""
        return self.span.sizes[1], 1, 1

    @property
    def transposed(self) -> bool:
        """No."""
        return False

    @property
    def rows(self) -> int:
        """Size of the axes before the parameter's."""
        return self.span.sizes[0]

    @property
    def positions(self) -> int:
        """Size of the axes after the parameter's."""
        return self.span.sizes[2]

    def inputs(self) -> Tensor:
        """``[rows, positions, entries, 1]``."""
        return self.span.split(self.factor()).unsqueeze(-1)

    def cotangents(self, s: Tensor) -> Tensor:
        """``[rows, positions, entries, 1]``."""
        return self.span.split(s).unsqueeze(-1)


@dataclass(frozen=True)
class BiasUse:
    """A parameter that is added to a tensor, ``y = x + b``.

    Attributes:
        span: Where the parameter lies.
        like: A tensor of its device and dtype.
    """

    span: Span
    like: Tensor

    @property
    def input(self) -> None:
        """None."""
        return None

    @property
    def features(self) -> tuple[int, int, int]:
        """``(1, 0, entries)``: no input, the kernel supplies the bias's constant one."""
        return 1, 0, self.span.sizes[1]

    @property
    def transposed(self) -> bool:
        """No."""
        return False

    @property
    def rows(self) -> int:
        """Size of the axes before the parameter's."""
        return self.span.sizes[0]

    @property
    def positions(self) -> int:
        """Size of the axes after the parameter's."""
        return self.span.sizes[2]

    def inputs(self) -> Tensor:
        """Empty, shape ``[rows, positions, 1, 0]``."""
        return self.like.new_empty(self.rows, self.positions, 1, 0)

    def cotangents(self, s: Tensor) -> Tensor:
        """``[rows, positions, 1, entries]``."""
        return self.span.split(s).unsqueeze(2)


def windows(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """The windows of a convolution, as a view of the padded input.

    Args:
        x: Shape ``[rows, channels, *spatial]``.
        kernel: Entries of a window, per spatial dimension, as all others.
        stride: Step of the windows.
        padding: Zeros added on both sides.
        dilation: Step inside a window.

    Returns:
        Shape ``[rows, channels, *windows, *kernel]``.
    """
    x = F.pad(x, [p for p in reversed(padding) for _ in range(2)])
    for dim, (k, step, gap) in enumerate(zip(kernel, stride, dilation, strict=True), start=2):
        x = x.unfold(dim, gap * (k - 1) + 1, step)[..., ::gap]
    return x


def join_windows(x: Tensor, groups: int) -> Tensor:
    """Windows ``[rows, channels, *windows, *kernel]`` as ``[rows, windows, groups, entries]``.

    In memory, the windows are the inner axis: a transposed view of what BLAS likes to read.
    """
    spatial = (x.ndim - 2) // 2
    positions = math.prod(x.shape[2 : 2 + spatial])
    x = x.permute(0, 1, *range(2 + spatial, 2 + 2 * spatial), *range(2, 2 + spatial))
    return x.reshape(x.shape[0], groups, -1, positions).permute(0, 3, 1, 2)
