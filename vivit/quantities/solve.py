"""Solutions of damped systems ``(G + delta I) x = v``, in the form in which vectors were given."""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from vivit.errors import InputError, UnsupportedError
from vivit.operators import scipy_operator
from vivit.quantities.arguments import Dampings, Positive, Vectors, as_columns
from vivit.quantities.block import Block
from vivit.quantities.damped import (
    Solution,
    SolveMethod,
    WoodburyInverse,
    damped_inverse,
    tell,
)
from vivit.quantities.newton import Damping
from vivit.quantities.selection import Selection
from vivit.ranks import Ranks, together
from vivit.shown import Shown, summary


class InverseOperator(Shown):
    """``(G + delta I)^-1`` as a symmetric operator: factored once, applied many times.

    Attributes:
        residual: Norms of the residuals ``v - (G + delta I) x`` of the last application relative
            to ``v``, shape ``[K]``; None before it, or if they are not computed.
    """

    def __init__(
        self, block: Block, damping: Positive, method: SolveMethod | None, check: bool
    ) -> None:
        """Factor it: see `LowRankCurvature.inverse_operator`."""
        self._block, self._check = block, check
        self._dampings = Dampings.of(damping, block.factor.like.dtype, several=False)
        self._inverse = damped_inverse(block, self._dampings, method)
        self._has_warned = False
        self.residual: Tensor | None = None

    @property
    def ranks(self) -> Ranks:
        """The processes that have a share of the samples."""
        return self._block.factor.ranks

    @property
    def shape(self) -> tuple[int, int]:
        """``(D, D)``."""
        size, _ = self._block.factor.shape
        return size, size

    @property
    def _parts(self) -> dict[str, str]:
        found = {"shape": str(self.shape), "damping": f"{float(self._dampings.values):.3g}"}
        return found if self.residual is None else found | {"residual": summary(self.residual)}

    @torch.no_grad()
    def __matmul__(self, v: Vectors) -> dict[str, Tensor] | Tensor:
        """Solve ``(G + delta I) x = v``.

        Args:
            v: Tensors by parameter name, or a flat tensor ``[D]`` or ``[D, K]``.

        Returns:
            The solution, in the same form; a warning, once, if it is not accurate.

        Raises:
            InputError: The vector does not have the parameters' shapes, dtype and device.
            ConvergenceError: Conjugate gradients did not find it.
        """
        columns, restored = as_columns(v, self._block.factor.shapes, self._block.factor.like)
        return restored(self._solve(columns))

    def to_scipy(self) -> LinearOperator:
        """The operator for scipy's solvers, as a preconditioner for example."""
        return scipy_operator(self._on_numpy, self._on_numpy, self.shape, self._block.factor.like)

    @torch.no_grad()
    def _on_numpy(self, v: Tensor) -> Tensor:
        columns, _ = as_columns(v, self._block.factor.shapes, self._block.factor.like)
        return self._solve(columns)

    @together
    def _solve(self, columns: Tensor) -> Tensor:
        self._block.matrices.curvature.check_fresh()
        found = self._inverse.solve(columns, self._check)
        self.residual = None if found.residual is None else found.residual[0]
        if not self._has_warned:
            self._has_warned = tell(self._inverse, found)
        return found.x[0]


@torch.no_grad()
def solve(
    block: Block, v: Vectors, damping: Positive, method: SolveMethod | None
) -> dict[str, Tensor] | Tensor:
    """Solve damped systems: see `LowRankCurvature.solve`."""
    like = block.factor.like
    dampings = Dampings.of(damping, like.dtype)
    columns, restored = as_columns(v, block.factor.shapes, like)
    inverse = damped_inverse(block, dampings, method)
    found = inverse.solve(columns)
    tell(inverse, found)
    return restored(dampings.result(found.x))


@torch.no_grad()
def flat_newton_step(
    block: Block, damping: Damping, selection: Selection, gradient: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """``-(G + delta I)^-1 g``, with the flat directions.

    Eq. (9) of the conference version of Dangel, Tatzel, Hennig, "ViViT". Where gradients are in
    the range of ``V``, ``g = V w``, it is ``-V (K + delta I)^-1 w``, which does not cancel, and
    takes no Jacobian-vector product but for the check, which a model without them does without.

    Args:
        block: The curvature.
        damping: ``delta``, a positive number.
        selection: That of all directions.
        gradient: Gives that of the loss.

    Returns:
        A tensor for each parameter; a warning, if it is not accurate.

    Raises:
        InputError: Directions are selected, or the damping is none for all of them.
    """
    if callable(damping) or selection != Selection(None, None, None, None):
        raise InputError(
            "With flat=True the step has all directions, and one damping, a positive number: "
            "leave out k, criterion, rank_tolerance, method and damping rules, or flat=True."
        )
    shapes, like = block.factor.shapes, block.factor.like
    inverse = damped_inverse(block, Dampings.of(damping, like.dtype, several=False))
    right, restored = as_columns(gradient(), shapes, like)
    w = block.matrices.curvature.gradient_coordinates()
    if isinstance(inverse, WoodburyInverse) and w is not None:
        found = _checked(inverse, right, inverse.spread(w.reshape(-1, 1)))
    else:
        found = inverse.solve(right)
    tell(inverse, found)
    step = restored(-found.x[0])
    assert isinstance(step, dict)
    return step


def _checked(inverse: WoodburyInverse, right: Tensor, x: Tensor) -> Solution:
    """A solution that did not need products with ``G``, checked if the model has them."""
    try:
        return inverse.refined(right, x)
    except UnsupportedError:
        return Solution(x, None)
