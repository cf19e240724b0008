"""The generalized Gauss-Newton matrix: columns of factors of loss Hessians."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vivit.losses import HessianFactor, LossHessian, check_loss, known_loss, loss_hessian
from vivit.losses.convex import ConvexHessian
from vivit.losses.reduction import check_reduction
from vivit.options import Approximation


@dataclass(frozen=True)
class HessianColumns:
    """Factors ``S_n`` of the loss Hessians of a batch, ``H_n = S_n S_n^T``.

    Attributes:
        hessian: By the model output.
        approximation: How it is factored.
        index: Number of the batch.
    """

    hessian: LossHessian
    approximation: Approximation
    index: int

    @property
    def num_columns(self) -> int:
        """Of the approximation."""
        return self.approximation.num_columns(self.hessian)

    @property
    def normalizer(self) -> float | None:
        """That of the loss."""
        return self.hessian.normalizer

    @property
    def needs_check(self) -> bool:
        """Whether it is not known how the loss is made of those of samples."""
        return isinstance(self.hessian, ConvexHessian)

    def factor(self) -> HessianFactor:
        """Exact or random factors."""
        return self.approximation.factor(self.hessian, self.index)

    def product(self, u: Tensor) -> Tensor | None:
        """``H_n u_n``, if the factors are exact."""
        return self.hessian.product(u) if self.approximation.spans_gradients else None

    def coordinates(self, gradient: Tensor) -> Tensor | None:
        """As the Hessian gives them, if the factors are exact."""
        return self.hessian.coordinates(gradient) if self.approximation.spans_gradients else None


class GaussNewton:
    """The GGN of a loss, as `Kind`."""

    is_centered = False
    may_be_sampled = True

    def __init__(self, loss_func: Any, approximation: Approximation) -> None:
        """Check the loss.

        Args:
            loss_func: The loss.
            approximation: How its Hessians are factored.

        Raises:
            InputError: It cannot be called.
            UnsupportedError: It does not give a scalar.
        """
        check_loss(loss_func)
        self.loss_func, self._approximation = known_loss(loss_func), approximation

    def of_batch(self, output: Tensor, target: Any, index: int) -> HessianColumns:
        """The loss Hessian at this output."""
        hessian = loss_hessian(self.loss_func, output, target)
        return HessianColumns(hessian, self._approximation, index)

    def scale(self, weight: float, samples: int, boost: float) -> float:
        """Hessians have the factor of the loss."""
        return (weight * boost) ** 0.5

    def check_samples(self, output: Tensor, target: Any, alone: bool) -> None:
        """A loss that is neither mean nor sum has a Hessian all the same, if it is alone."""
        check_reduction(self.loss_func, output, target, alone=alone)
