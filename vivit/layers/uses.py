"""Uses of parameters by affine operations: what each one multiplies with what.

Every affine operation gives columns of one form, ``V_nc = sum_t s[n,c,t,o] a[n,t,i]``, with
``a`` the (unfolded) input and ``s`` the cotangent of the output. A use knows how to bring both
into the axis order of this formula; the kernel in `vivit.layers.affine` does the rest.
Axes: ``n`` sample, ``t`` shared position, ``g`` channel group, ``i`` input, ``o`` output feature.
"""

from __future__ import annotations

import math
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
    """

    input: Tensor
    out_features: int

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
    def rows(self) -> int:
        """Leading axis of the input."""
        return self.input.shape[0]

    @property
    def positions(self) -> int:
        """Number of windows."""
        return math.prod(self.output_size)

    def inputs(self) -> Tensor:
        """The windows, ``[rows, windows, groups, entries]`` (positions are the inner axis)."""
        x = F.pad(self.input, [p for p in reversed(self.padding) for _ in range(2)])
        kernel = self.weight_shape[2:]
        for dim, (k, step, gap) in enumerate(
            zip(kernel, self.stride, self.dilation, strict=True), start=2
        ):
            x = x.unfold(dim, gap * (k - 1) + 1, step)[..., ::gap]
        spatial = len(kernel)
        x = x.permute(0, 1, *range(2 + spatial, 2 + 2 * spatial), *range(2, 2 + spatial))
        groups, entries, _ = self.features
        return x.reshape(self.rows, groups, entries, self.positions).permute(0, 3, 1, 2)

    def cotangents(self, s: Tensor) -> Tensor:
        """From ``[rows, out channels, *spatial]`` to ``[rows, windows, groups, o]``."""
        groups, _, out = self.features
        return s.reshape(self.rows, groups, out, self.positions).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class BiasUse:
    """A vector added along one axis of a tensor, ``y = x + b``.

    Attributes:
        bias: The vector, shape ``[o]``.
        output_shape: Shape of ``y``.
        axis: The vector's axis: 1 (channels; later axes are positions) or -1 (all earlier axes
            are rows).
    """

    bias: Tensor
    output_shape: tuple[int, ...]
    axis: int

    @property
    def input(self) -> None:
        """None."""
        return None

    @property
    def features(self) -> tuple[int, int, int]:
        """``(1, 0, o)``: no input, the kernel supplies the bias's constant one."""
        return 1, 0, len(self.bias)

    @property
    def rows(self) -> int:
        """Size of the axes before the vector's."""
        return math.prod(self.output_shape[: self.axis])

    @property
    def positions(self) -> int:
        """Size of the axes after the vector's."""
        return 1 if self.axis == -1 else math.prod(self.output_shape[self.axis + 1 :])

    def inputs(self) -> Tensor:
        """Empty, shape ``[rows, positions, 1, 0]``."""
        return self.bias.new_empty(self.rows, self.positions, 1, 0)

    def cotangents(self, s: Tensor) -> Tensor:
        """From the output's shape to ``[rows, positions, 1, o]``."""
        return s.reshape(self.rows, 1, len(self.bias), self.positions).permute(0, 3, 1, 2)
