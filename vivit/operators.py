"""Vectors in parameter space as dictionaries and as flat tensors, and operators on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from vivit.errors import InputError

Shapes = Mapping[str, torch.Size]


def flatten(v: Mapping[str, Tensor], shapes: Shapes) -> Tensor:
    """Concatenate a dictionary of tensors to one of shape ``[D]``, in the order of ``shapes``."""
    return torch.cat([v[name].reshape(-1) for name in shapes])


def unflatten(v: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """Cut a tensor of shape ``[D]`` into a dictionary of parameter-shaped ones.

    Args:
        v: Shape ``[D]``.
        shapes: Names and shapes of the parameters.

    Returns:
        The pieces, as views.

    Raises:
        InputError: The size is wrong.
    """
    sizes = [math.prod(shape) for shape in shapes.values()]
    if v.shape != (sum(sizes),):
        raise InputError(
            f"A flat vector needs shape [{sum(sizes)}], one entry per parameter, got "
            f"{list(v.shape)}."
        )
    pieces = v.split(sizes)
    return {
        name: piece.reshape(shape)
        for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
    }


def check_vector(v: Mapping[str, Tensor], shapes: Shapes) -> None:
    """Refuse a dictionary whose names or shapes are not the parameters'.

    Args:
        v: Tensors by parameter name.
        shapes: Expected names and shapes.

    Raises:
        InputError: Names are missing or unknown, or a shape is wrong.
    """
    if set(v) != set(shapes):
        missing, unknown = sorted(set(shapes) - set(v)), sorted(set(v) - set(shapes))
        raise InputError(
            f"The vector needs one tensor per parameter: missing {missing}, unknown {unknown}."
        )
    for name, shape in shapes.items():
        if v[name].shape != shape:
            raise InputError(
                f"The vector's tensor for {name!r} needs shape {list(shape)}, got "
                f"{list(v[name].shape)}."
            )


def symmetric_scipy_operator(matvec: Callable[[Tensor], Tensor], like: Tensor) -> LinearOperator:
    """Wrap a symmetric map of flat tensors for scipy's solvers.

    Args:
        matvec: Maps a tensor of shape ``[D]`` to one of the same shape.
        like: A flat tensor of the size, dtype and device that ``matvec`` takes.

    Returns:
        Operator of shape ``[D, D]`` on numpy arrays of the same precision.
    """
    dtype = like.new_empty(0).cpu().numpy().dtype

    def apply(x: np.ndarray) -> np.ndarray:
        vector = torch.as_tensor(x.reshape(-1), dtype=like.dtype, device=like.device)
        return matvec(vector).cpu().numpy()

    size = like.numel()
    return LinearOperator((size, size), matvec=apply, rmatvec=apply, dtype=dtype)
