"""Numbers and shapes that a user gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

from torch import Tensor

from vivit.errors import InputError


def positive(value: object, name: str) -> float:
    """A positive number.

    Args:
        value: A number, or a tensor of one.
        name: Of the argument.

    Raises:
        InputError: It is none, or not finite.
    """
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{name} must be a positive number, got {type(value).__name__}.")
    number = float(value)
    if not 0 < number < math.inf:
        raise InputError(f"{name} must be positive and finite, got {number}.")
    return number


def check_count(n: object) -> None:
    """Refuse a number of samples that is none.

    Raises:
        InputError: It is not a whole number above 0.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"The number of samples must be a whole number, at least 1, got {n!r}.")


def check_outputs(shape: Sequence[int], expected: Sequence[int | None]) -> None:
    """Refuse outputs of test inputs that are not like those of the training data.

    Args:
        shape: Of a sample.
        expected: Of those; None along axes that may have any length.

    Raises:
        InputError: It is another.
    """
    pairs = zip(shape, expected, strict=False)
    if len(shape) == len(expected) and all(b in (a, None) for a, b in pairs):
        return
    known = ", ".join("any" if size is None else str(size) for size in expected)
    raise InputError(
        f"The model's outputs at the test inputs have shape {list(shape)} per sample, those of "
        f"the training data [{known}]."
    )
