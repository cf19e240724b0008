"""Parameters that scale or shift a tensor entry by entry, broadcast along all other axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from vivit.layers.uses import AffineUse


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
class EntrywiseUse(AffineUse):
    """A parameter that acts on a tensor entry by entry.

    Attributes:
        span: Where the parameter lies.
    """

    span: Span

    @property
    def rows(self) -> int:
        """Size of the axes before the parameter's."""
        return self.span.sizes[0]

    @property
    def positions(self) -> int:
        """Size of the axes after the parameter's."""
        return self.span.sizes[2]


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
        return self.span.sizes[1], 1, 1

    def inputs(self) -> Tensor:
        """``[rows, positions, entries, 1]``."""
        return self.span.split(self.factor()).unsqueeze(-1)

    def cotangents(self, s: Tensor) -> Tensor:
        """``[rows, positions, entries, 1]``."""
        return self.span.split(s).unsqueeze(-1)


@dataclass(frozen=True)
class BiasUse(EntrywiseUse):
    """A parameter that is added to a tensor, ``y = x + b``.

    Attributes:
        like: A tensor of its device and dtype.
    """

    like: Tensor

    input = None

    @property
    def features(self) -> tuple[int, int, int]:
        """``(1, 0, entries)``: no input, the kernel supplies the bias's constant one."""
        return 1, 0, self.span.sizes[1]

    def inputs(self) -> Tensor:
        """Empty, shape ``[rows, positions, 1, 0]``."""
        return self.like.new_empty(self.rows, self.positions, 1, 0)

    def cotangents(self, s: Tensor) -> Tensor:
        """``[rows, positions, 1, entries]``."""
        return self.span.split(s).unsqueeze(2)
