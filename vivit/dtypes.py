"""Numbers: in which precision results are, how much half of it loses, and what is none."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)
"""Precisions of models that are half of single precision, in which no results are."""

ROUNDINGS = 4
"""Errors of what is computed in half precision, in units of that precision, up to which they are
taken for rounding errors."""


def working(dtype: torch.dtype) -> torch.dtype:
    """The precision of results for parameters of a dtype: single precision for half of it."""
    return torch.float32 if dtype in HALF else dtype


def in_working(x: Tensor) -> Tensor:
    """A tensor in the precision of results."""
    return x.to(working(x.dtype))


def like_of(parameters: Mapping[str, Tensor]) -> Tensor:
    """An empty tensor on the device of parameters, in the precision of results."""
    p = next(iter(parameters.values()))
    return torch.empty(0, dtype=working(p.dtype), device=p.device)


def loosened(tolerance: float, dtype: torch.dtype | None) -> float:
    """A relative tolerance, not below the rounding errors of a model in half precision.

    Args:
        tolerance: In the precision of results.
        dtype: The lowest precision in which the model computes; None if it is that of results.
    """
    return max(tolerance, ROUNDINGS * torch.finfo(dtype).eps) if dtype in HALF else tolerance


def is_finite(matrix: Tensor) -> bool:
    """Whether no entry of a matrix or vector is NaN or infinite; without a copy of it."""
    if not matrix.numel():
        return True
    smallest, largest = matrix.aminmax()  # either is NaN if one entry is
    return bool(smallest.isfinite() and largest.isfinite())
