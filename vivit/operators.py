"""Vectors in parameter space as dictionaries and as flat tensors, and operators on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from vivit.errors import InputError
from vivit.factor import Factor
from vivit.shown import Shown

Shapes = Mapping[str, torch.Size]


def flatten(v: Mapping[str, Tensor], shapes: Shapes) -> Tensor:
    """Concatenate a dictionary of tensors to one of shape ``[D]``, in the order of ``shapes``."""
    return flatten_columns({name: v[name][None] for name in shapes}, shapes)[:, 0]


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
    size = sum(math.prod(shape) for shape in shapes.values())
    if v.shape != (size,):
        raise InputError(
            f"A flat vector needs shape [{size}], one entry per parameter, got {list(v.shape)}."
        )
    return {name: x[0] for name, x in unflatten_columns(v[:, None], shapes).items()}


def flatten_columns(v: Mapping[str, Tensor], shapes: Shapes) -> Tensor:
    """Tensors ``[K, *shape]`` by name as flat vectors, the columns of a matrix ``[D, K]``."""
    rows = [v[name].reshape(len(v[name]), math.prod(shape)) for name, shape in shapes.items()]
    return torch.cat(rows, dim=1).T


def unflatten_columns(v: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """Columns of a matrix ``[D, K]`` as tensors ``[K, *shape]`` by name."""
    pieces = v.T.split([math.prod(shape) for shape in shapes.values()], dim=1)
    return {
        name: piece.reshape(v.shape[1], *shape)
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


def check_kind(v: object, like: Tensor, of: str = "") -> None:
    """Refuse what is no tensor of the parameters' dtype and device.

    Args:
        v: A vector, or a part of one.
        like: A tensor of that dtype and device.
        of: Which part, in words.

    Raises:
        InputError: It is something else.
    """
    if not isinstance(v, Tensor):
        raise InputError(
            "A vector is a tensor or a mapping from parameter names to tensors, got "
            f"{type(v).__name__}{of}."
        )
    if v.dtype != like.dtype or v.device != like.device:
        raise InputError(
            f"The vector{of} must be {like.dtype} on {like.device}, as the parameters are, got "
            f"{v.dtype} on {v.device}."
        )


def map_vectors(matmat: Callable[[Tensor], Tensor], v: Tensor, size: int, like: Tensor) -> Tensor:
    """Apply a linear map to a flat vector, or to all columns of a matrix at once.

    Args:
        matmat: Maps a tensor of shape ``[size, K]`` to a matrix with as many columns.
        v: Shape ``[size]`` or ``[size, K]``.
        size: What the map takes.
        like: A tensor of the dtype and device that it takes.

    Returns:
        The image, in the same form.

    Raises:
        InputError: The shape, dtype or device does not fit.
    """
    check_kind(v, like)
    if v.ndim not in (1, 2) or len(v) != size:
        raise InputError(
            f"A flat vector needs shape [{size}], or [{size}, K] for several, got {list(v.shape)}."
        )
    return matmat(v[:, None])[:, 0] if v.ndim == 1 else matmat(v)


def scipy_operator(
    matmat: Callable[[Tensor], Tensor],
    rmatmat: Callable[[Tensor], Tensor],
    shape: tuple[int, int],
    like: Tensor,
) -> LinearOperator:
    """Wrap maps of matrices, whose columns are flat vectors, for scipy's solvers.

    Args:
        matmat: Maps a tensor of shape ``[shape[1], K]`` to one of shape ``[shape[0], K]``.
        rmatmat: Its transpose.
        shape: Of the operator.
        like: A tensor of the dtype and device that the maps take.

    Returns:
        Operator on numpy arrays of the same precision.
    """

    def on_numpy(function: Callable[[Tensor], Tensor]) -> Callable[[np.ndarray], np.ndarray]:
        def apply(x: np.ndarray) -> np.ndarray:
            columns = torch.as_tensor(x, dtype=like.dtype, device=like.device)
            return function(columns.reshape(len(x), -1)).reshape(-1, *x.shape[1:]).cpu().numpy()

        return apply

    dtype = like.new_empty(0).cpu().numpy().dtype
    maps = {"matvec": on_numpy(matmat), "rmatvec": on_numpy(rmatmat)}
    maps |= {"matmat": maps["matvec"], "rmatmat": maps["rmatvec"]}
    return LinearOperator(shape, dtype=dtype, **maps)


class FactorOperator(Shown):
    """The factor ``V`` of ``G = V V^T`` as a matrix-free operator, and its transpose.

    ``V @ u`` costs one vector-Jacobian product, ``V.T @ v`` one Jacobian-vector product.
    Columns are ordered ``(n, c)``, rows as the entries of flat vectors.
    """

    def __init__(self, factor: Factor, transposed: bool = False) -> None:
        """Wrap the columns of a block.

        Args:
            factor: The columns.
            transposed: Whether this is ``V^T``.
        """
        self._factor, self._transposed = factor, transposed

    @property
    def shape(self) -> tuple[int, int]:
        """``(D, M)``, or ``(M, D)`` for the transpose."""
        rows, columns = self._factor.shape
        return (columns, rows) if self._transposed else (rows, columns)

    @property
    def _parts(self) -> dict[str, str]:
        return {"shape": str(self.shape)}

    @property
    def T(self) -> FactorOperator:  # noqa: N802 - as in torch and numpy
        """The transpose."""
        return FactorOperator(self._factor, not self._transposed)

    def __matmul__(self, x: Tensor) -> Tensor:
        """Multiply with a flat vector, or with each column of a matrix.

        Args:
            x: Shape ``[shape[1]]`` or ``[shape[1], K]``.

        Returns:
            Shape ``[shape[0]]`` or ``[shape[0], K]``.

        Raises:
            InputError: The shape does not fit.
        """
        matmat = self._contract if self._transposed else self._spread
        return map_vectors(matmat, x, self.shape[1], self._factor.like)

    def to_scipy(self) -> LinearOperator:
        """The operator for scipy's solvers."""
        maps = [self._spread, self._contract]
        if self._transposed:
            maps.reverse()
        return scipy_operator(maps[0], maps[1], self.shape, self._factor.like)

    def _spread(self, u: Tensor) -> Tensor:
        return flatten_columns(self._factor.spread(u), self._factor.shapes)

    def _contract(self, v: Tensor) -> Tensor:
        return self._factor.contract(unflatten_columns(v, self._factor.shapes))


class GramOperator(Shown):
    """The Gram matrix ``V^T V`` as a matrix-free, symmetric operator.

    A product costs one vector-Jacobian and one Jacobian-vector product.
    """

    def __init__(self, factor: Factor) -> None:
        """Wrap the columns of a block.

        Args:
            factor: The columns.
        """
        self._factor = factor

    @property
    def shape(self) -> tuple[int, int]:
        """``(M, M)``."""
        _, columns = self._factor.shape
        return columns, columns

    @property
    def _parts(self) -> dict[str, str]:
        return {"shape": str(self.shape)}

    def __matmul__(self, x: Tensor) -> Tensor:
        """Multiply with a vector ``[M]`` or with each column of ``[M, K]``."""
        return map_vectors(self._factor.multiply_gram, x, self.shape[0], self._factor.like)

    def to_scipy(self) -> LinearOperator:
        """The operator for scipy's solvers."""
        multiply = self._factor.multiply_gram
        return scipy_operator(multiply, multiply, self.shape, self._factor.like)
