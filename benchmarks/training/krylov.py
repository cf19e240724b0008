"""Damped linear systems of a symmetric matrix, solved in the space of a Lanczos iteration."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Multiply = Callable[[Tensor], Tensor]
"""Maps a vector, shape ``[D]``, to its product with the matrix."""

ROUNDING = 10
"""Units of the precision of the largest product, below which what is left of one is noise."""


def damped_solution(
    multiply: Multiply, right: Tensor, first: Tensor, iterations: int, damping: float
) -> Tensor:
    """Solve where the iteration knows the matrix ``A``; take it for zero everywhere else.

    With orthonormal columns ``Q`` of the space, ``Q (Q^T A Q + damping I)^-1 Q^T b`` within, and
    ``(b - Q Q^T b) / damping`` outside. If the first vector is ``b``, nothing of it is outside.

    Args:
        multiply: The matrix, positive semi-definite.
        right: The right-hand side ``b``, shape ``[D]``.
        first: First vector of the iteration, shape ``[D]``.
        iterations: Products at most.
        damping: Positive.

    Returns:
        Shape ``[D]``.
    """
    if not first.any():
        return right / damping
    basis, projected = lanczos(multiply, first, iterations)
    inside = basis.T @ right
    damped = projected.double() + damping * torch.eye(len(projected)).to(projected.double())
    solution = torch.linalg.solve(damped, inside.double()).to(right)
    return basis @ solution + (right - basis @ inside) / damping


def lanczos(multiply: Multiply, first: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Orthonormal vectors that span ``first, A first, A^2 first, ...``.

    Each is orthogonalized twice against all before it, so that rounding errors make no copies.

    Args:
        multiply: The matrix ``A``.
        first: Not zero, shape ``[D]``.
        iterations: Products at most; there are fewer if the space is exhausted.

    Returns:
        The vectors ``Q`` as columns, shape ``[D, m]``, and ``Q^T A Q``, which is tridiagonal but
        for rounding errors.
    """
    basis, products = (first / first.norm())[:, None], list[Tensor]()
    largest = 0.0
    while True:
        products.append(multiply(basis[:, -1]))
        largest = max(largest, float(products[-1].norm()))
        rest = products[-1]
        for _ in range(2):
            rest = rest - basis @ (basis.T @ rest)
        noise = ROUNDING * torch.finfo(first.dtype).eps * largest
        if len(products) == min(iterations, len(first)) or float(rest.norm()) <= noise:
            break
        basis = torch.cat([basis, (rest / rest.norm())[:, None]], dim=1)
    projected = basis.T @ torch.stack(products, dim=1)
    return basis, (projected + projected.T) / 2
