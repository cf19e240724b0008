"""The empirical Fisher and the gradient covariance: one column per sample, its loss gradient.

``F = 1/N sum_n g_n g_n^T`` of a mean loss, ``sum_n g_n g_n^T`` of a sum; centred, with
``g_n - g`` of the mean gradient ``g`` in place of ``g_n``. Kunstner, Balles, Hennig, "Limitations
of the empirical Fisher approximation", NeurIPS 2019, say what it is, and what it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vivit.losses import DenseFactor, check_loss, hessian_if_known, loss_gradient
from vivit.losses.known import mean_size, module_of_function
from vivit.losses.reduction import check_reduction


@dataclass(frozen=True)
class GradientColumns:
    """Loss gradients of the samples of a batch.

    Attributes:
        gradient: Of the loss of this batch by the output, shape ``[N, *out]``.
        normalizer: What a mean over the batch was divided by; None for a sum.
        needs_check: Whether it is not known how the loss is made of those of samples.
    """

    gradient: Tensor
    normalizer: float | None
    needs_check: bool

    @property
    def num_columns(self) -> int:
        """One."""
        return 1

    def factor(self) -> DenseFactor:
        """The gradients."""
        return DenseFactor(self.gradient.unsqueeze(1))

    def product(self, u: Tensor) -> Tensor | None:
        """None: that of the factor is as fast."""
        return None

    def coordinates(self, gradient: Tensor) -> Tensor | None:
        """A gradient is its own column."""
        return gradient.new_ones(len(gradient), 1)


class Gradients:
    """Loss gradients, as `Kind`. The loss need not be convex, nor have second derivatives."""

    may_be_sampled = False

    def __init__(self, loss_func: Any, centered: bool) -> None:
        """Check the loss.

        Args:
            loss_func: The loss.
            centered: Whether the mean gradient is subtracted from each.

        Raises:
            InputError: It cannot be called.
            UnsupportedError: It does not give a scalar.
        """
        check_loss(loss_func)
        self.loss_func, self.is_centered = module_of_function(loss_func), centered

    def of_batch(self, output: Tensor, target: Any, index: int) -> GradientColumns:
        """The gradient at this output; zero for a mean over nothing."""
        hessian = hessian_if_known(self.loss_func, output, target)
        normalizer = mean_size(self.loss_func, output) if hessian is None else hessian.normalizer
        if normalizer == 0:
            gradient = torch.zeros_like(output)
        else:
            gradient = loss_gradient(self.loss_func, output, target)
        return GradientColumns(gradient, normalizer, needs_check=hessian is None)

    def scale(self, weight: float, samples: int, boost: float) -> float:
        """Of the gradient ``g_n / N`` of a mean, ``sqrt(N)`` times as much; of a sum, itself."""
        return weight * (samples * boost) ** 0.5

    def check_samples(self, output: Tensor, target: Any, alone: bool) -> None:
        """There are gradients of samples only if the loss is made of those of samples."""
        check_reduction(self.loss_func, output, target, alone=alone, of_samples=True)
