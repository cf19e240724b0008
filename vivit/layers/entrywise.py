"""Parameters that scale or shift a tensor entry by entry, broadcast along all other axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from vivit.layers.uses import AffineUse


@dataclass(frozen=True)
class Span:
    """The axes of a tensor along which a parameter lies; it is broadcast along all others.

    Of the others, those before its last one are rows, or the first one if there are none before;
    those that are left are positions.

    Attributes:
        shape: Of the tensor.
        own: The axes of the parameter, in order.
    """

    shape: tuple[int, ...]
    own: tuple[int, ...]

    @cached_property
    def axes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Axes of rows, and of positions."""
        others = tuple(axis for axis in range(len(self.shape)) if axis not in self.own)
        before = sum(axis < max(self.own, default=0) for axis in others) or 1
        return others[:before], others[before:]

    @cached_property
    def sizes(self) -> tuple[int, int, int]:
        """Rows, positions, entries of the parameter."""
        rows, positions, entries = (
            math.prod(self.shape[axis] for axis in axes) for axes in (*self.axes, self.own)
        )
        return rows, positions, entries

    def split(self, x: Tensor) -> Tensor:
        """A tensor of this shape as ``[rows, positions, entries]``."""
        rows, positions = self.axes
        return x.reshape(self.shape).permute(*rows, *positions, *self.own).reshape(self.sizes)

    def by_rows(self, x: Tensor) -> Tensor:
        """A tensor of this shape as ``[rows, all else]``, as it lies in memory if it can be."""
        rows, _ = self.axes
        others = [axis for axis in range(len(self.shape)) if axis not in rows]
        return x.reshape(self.shape).permute(*rows, *others).reshape(self.sizes[0], -1)


@dataclass(frozen=True)
class EntrywiseUse(AffineUse):
    """A parameter that acts on a tensor entry by entry.

    Attributes:
        span: Where the parameter lies.
    """

    span: Span

    @property
    def rows(self) -> int:
        """Size of the axes of rows."""
        return self.span.sizes[0]

    @property
    def positions(self) -> int:
        """Size of the axes of positions."""
        return self.span.sizes[1]

    @property
    def begins_with_rows(self) -> bool:
        """If the parameter does not lie along the first axis."""
        rows, _ = self.span.axes
        return rows[0] == 0

    def by_rows(self, s: Tensor) -> Tensor:
        """``[rows, all else]``."""
        return self.span.by_rows(s)


@dataclass(frozen=True)
class ScaleUse(EntrywiseUse):
    """A parameter times a tensor, ``y = w * a``: an affine map for each entry.

    Attributes:
        factor: Gives ``a``, of the span's shape: for a normalization, the normalized input.
        input: What ``a`` is made of.
    """

    factor: Callable[[], Tensor]
    input: Tensor

    @property
    def features(self) -> tuple[int, int, int]:
        """``(entries, 1, 1)``."""
        return self.span.sizes[2], 1, 1

    def inputs(self) -> Tensor:
        """``[rows, positions, entries, 1]``."""
        return self.span.split(self.factor()).unsqueeze(-1)

    def cotangents(self, s: Tensor) -> Tensor:
        """``[rows, positions, entries, 1]``."""
        return self.span.split(s).unsqueeze(-1)


@dataclass(frozen=True)
class BiasUse(EntrywiseUse):
    """A multiple of a parameter that is added to a tensor, ``y = x + multiple * b``.

    Attributes:
        like: A tensor of its device and dtype.
        multiple: The factor before it.
    """

    like: Tensor
    multiple: float = 1.0

    input = None

    @property
    def features(self) -> tuple[int, int, int]:
        """``(1, 0, entries)``: no input, the kernel supplies the bias's constant one."""
        return 1, 0, self.span.sizes[2]

    def inputs(self) -> Tensor:
        """Empty, shape ``[rows, positions, 1, 0]``."""
        return self.like.new_empty(self.rows, self.positions, 1, 0)

    def cotangents(self, s: Tensor) -> Tensor:
        """``[rows, positions, 1, entries]``."""
        s = self.span.split(s).unsqueeze(2)
        return s if self.multiple == 1 else self.multiple * s
