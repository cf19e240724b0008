"""Convolutions and transposed convolutions as affine maps of windows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vivit.devices import traits
from vivit.layers.uses import AffineUse

THINNEST_PRODUCT = 8
"""Channels from which a matrix product per entry of the kernel is faster than copying windows."""


@dataclass(frozen=True)
class ConvolutionUse(AffineUse):
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

    def of_rows(self, rows: slice) -> ConvolutionUse:
        """The same on some rows."""
        return replace(self, input=self.input[rows])

    def of_channels(self, channels: slice) -> ConvolutionUse:
        """The same with some of the input channels of each group."""
        x = self.input.unflatten(1, (self.groups, -1))[:, :, channels]
        out, _, *kernel = self.weight_shape
        return replace(self, input=x.flatten(1, 2), weight_shape=(out, x.shape[2], *kernel))

    def inputs(self) -> Tensor:
        """The windows, ``[rows, windows, groups, entries]``."""
        kernel = self.weight_shape[2:]
        x = windows(self.input, kernel, self.stride, self.padding, self.dilation)
        return join_windows(x, self.groups)

    @property
    def can_shift(self) -> bool:
        """Whether `shifted_columns` is the better way: no gaps, and not too thin products."""
        no_gaps = all(step == 1 for step in self.stride)
        is_thin = self.weight_shape[1] < THINNEST_PRODUCT
        return no_gaps and not is_thin and traits(self.input.device).shifts

    def shifted_columns(self, s: Tensor) -> Tensor:
        """Contract the windows away without making them.

        In the flattened padded input, the entries that one entry of the kernel meets are those of
        another, shifted: a slice of it. The cotangents are padded to rows of the same length.

        Args:
            s: Cotangents of ``K`` columns, each as `cotangents` gives them, shape
                ``[K, rows, windows, groups, o]``.

        Returns:
            ``V[n,k,g,o,i] = sum_t s[k,n,t,g,o] a[n,t,g,i]``.
        """
        x = F.pad(self.input.to(s.dtype), [p for p in reversed(self.padding) for _ in range(2)])
        size = x.shape[2:]
        x = x.reshape(self.rows, self.groups, -1, math.prod(size))
        s = s.permute(1, 3, 0, 4, 2).unflatten(4, self.output_size)  # [rows, g, K, o, *spatial]
        outputs = s.shape[2:4]
        gaps = [0] + [n - m for n, m in zip(size[1:], self.output_size[1:], strict=True)]
        s = F.pad(s, [end for gap in reversed(gaps) for end in (0, gap)])  # rows have to match
        s = s.flatten(2, 3)
        steps = [math.prod(size[dim + 1 :]) for dim in range(len(size))]
        last = [step * (n - 1) for step, n in zip(steps, self.output_size, strict=True)]
        s = s.flatten(3)[..., : sum(last) + 1]
        kernel = self.weight_shape[2:]
        columns = s.new_empty(math.prod(kernel), *s.shape[:3], x.shape[2])
        x, s = x.flatten(0, 1), s.flatten(0, 1)
        for k, entry in enumerate(itertools.product(*map(range, kernel))):
            start = sum(i * d * n for i, d, n in zip(entry, self.dilation, steps, strict=True))
            shifted = x[..., start : start + s.shape[2]]
            torch.bmm(s, shifted.mT, out=columns[k].flatten(0, 1))
        by_entry = columns.movedim(0, -1).unflatten(2, outputs)  # [rows, g, K, o, i, kernel]
        return by_entry.transpose(1, 2).flatten(4)

    def cotangents(self, s: Tensor) -> Tensor:
        """From ``[rows, out channels, *spatial]`` to ``[rows, windows, groups, o]``."""
        groups, _, out = self.features
        return s.reshape(self.rows, groups, out, self.positions).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class TransposedConvolutionUse(AffineUse):
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

    transposed = True

    @property
    def features(self) -> tuple[int, int, int]:
        """``(groups, channels per group, window entries per group)``."""
        channels, *window = self.weight_shape
        return self.groups, channels // self.groups, math.prod(window)

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
