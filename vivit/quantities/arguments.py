"""Dampings and vectors, as a user gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from vivit.errors import InputError
from vivit.operators import (
    Shapes,
    check_kind,
    check_vector,
    flatten,
    unflatten_columns,
)

Positive = float | Sequence[float] | Tensor
"""One damping, or several: a sequence or a tensor of shape ``[P]``."""

Vectors = Mapping[str, Tensor] | Tensor
"""Tensors by parameter name, a flat vector ``[D]``, or several as columns ``[D, K]``."""


@dataclass(frozen=True)
class Dampings:
    """One damping or several.

    Attributes:
        values: Shape ``[P]``, in double precision, on the CPU.
        is_one: Whether it was a number, so that results have no axis of dampings.
    """

    values: Tensor
    is_one: bool

    @classmethod
    def of(cls, damping: Positive, dtype: torch.dtype, several: bool = True) -> Dampings:
        """Check what a user gives.

        Args:
            damping: A number, or several.
            dtype: That of the parameters, in which they have to be positive and finite as well.
            several: Whether there may be more than one.

        Raises:
            InputError: One is not a positive, finite number, or there are none or too many.
        """
        numbers = _numbers(damping)
        is_one = not isinstance(numbers, list)
        values = torch.tensor([numbers] if is_one else numbers, dtype=torch.float64)
        if not len(values):
            raise InputError("There are no dampings: give at least one.")
        rounded = values.to(dtype)
        bad = values[~((rounded > 0) & rounded.isfinite())]
        if len(bad):
            raise InputError(
                f"The damping must be positive and finite in {dtype}, got {bad[0].item():g}."
            )
        if not several and not is_one:
            raise InputError(f"One damping is expected here, a positive number, got {damping!r}.")
        return cls(values, is_one)

    def shaped(self, x: Tensor) -> Tensor:
        """In the precision and on the device of a tensor ``[P, rows, K]``, shape ``[P, 1, 1]``."""
        return self.values.to(dtype=x.dtype).to(x.device)[:, None, None]

    def result(self, x: Tensor) -> Tensor:
        """A tensor with an axis of dampings in front, without it if there was one number."""
        return x[0] if self.is_one else x


def _numbers(damping: object) -> float | list[float]:
    """As a float or a list of floats."""
    given = damping
    if isinstance(given, (Tensor, np.ndarray)):
        given = given.tolist() if given.ndim < 2 else None
    if isinstance(given, Sequence) and not isinstance(given, (str, bytes)):
        if all(_is_number(x) for x in given):
            return [float(x) for x in given]
    elif _is_number(given):
        assert isinstance(given, Real)
        return float(given)
    raise InputError(
        "The damping must be a positive number, or a sequence or tensor of shape [P] of them, got "
        f"{damping!r}."
    )


def _is_number(x: object) -> bool:
    if isinstance(x, Tensor):
        return x.ndim == 0 and not (x.dtype is torch.bool or x.is_complex())
    return isinstance(x, Real) and not isinstance(x, (bool, np.bool_))


def as_columns(
    v: Vectors, shapes: Shapes, like: Tensor
) -> tuple[Tensor, Callable[[Tensor], dict[str, Tensor] | Tensor]]:
    """Vectors as columns of a matrix, and the way back.

    Args:
        v: The vectors.
        shapes: Of the parameters.
        like: A tensor of the parameters' dtype and device.

    Returns:
        Shape ``[D, K]``; and what maps columns ``[..., D, K]`` to the form of ``v``, with the
        axes in front.

    Raises:
        InputError: They are something else, of another shape, dtype or device, or not finite.
    """
    if isinstance(v, Mapping):
        for name, x in v.items():
            check_kind(x, like, f" for {name!r}")
        check_vector(v, shapes)
        return _finite(flatten(v, shapes)[:, None]), lambda x: _named(x[..., 0], shapes)
    check_kind(v, like, "")
    size = sum(shape.numel() for shape in shapes.values())
    if v.ndim not in (1, 2) or len(v) != size:
        raise InputError(
            f"A flat vector needs shape [{size}], or [{size}, K] for several, got {list(v.shape)}."
        )
    if v.ndim == 2:
        return _finite(v.detach()), lambda x: x
    return _finite(v.detach()[:, None]), lambda x: x[..., 0]


def _named(x: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """Flat vectors ``[D]`` or ``[P, D]`` as tensors by parameter."""
    rows = x if x.ndim == 2 else x[None]
    named = unflatten_columns(rows.T, shapes)
    return named if x.ndim == 2 else {name: part[0] for name, part in named.items()}


def _finite(v: Tensor) -> Tensor:
    if not v.isfinite().all():
        raise InputError("The vector has entries that are NaN or infinite.")
    return v
