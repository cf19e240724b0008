"""What BackPACK's backward pass leaves at the parameters, and what is known of where it began."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from vivit.losses import LossHessian


@dataclass(frozen=True)
class LossPass:
    """What is known when the backward pass has left the loss.

    Attributes:
        hessian: Of the loss by the model output.
        output: Model output, shape ``[N, *out]``.
        factor: Of the samples with curvature, shape ``[N_ggn, C, *out]``.
        samples: Their indices; None for all.
        gradient: Of the mini-batch loss by the output, shape ``[N, *out]``; None if the loss
            module is not all that the backward pass began with.
        has_reduced_columns: Whether there are as few columns as the loss Hessian's rank.
    """

    hessian: LossHessian
    output: Tensor
    factor: Tensor
    samples: Tensor | None
    gradient: Tensor | None
    has_reduced_columns: bool

    @property
    def is_exact(self) -> bool:
        """Whether the factor is that of the whole loss Hessian, so that it spans gradients."""
        return self.samples is None and self.has_reduced_columns

    @cached_property
    def coordinates(self) -> Tensor | None:
        """``w`` with ``g_n = V_n w_n``, shape ``[N, C]``, where gradients lie in the span."""
        if self.gradient is None or not self.is_exact:
            return None
        return self.hessian.coordinates(self.gradient)

    @property
    def num_columns(self) -> int:
        """``M``, columns of all samples with curvature."""
        return self.factor.shape[:2].numel()


@dataclass(frozen=True)
class Captured:
    """What a module leaves for its parameters.

    Attributes:
        loss: Where the backward pass came from.
        s: Cotangents of the module's output, shape ``[C, N_ggn, *]``.
        gradient: Derivative of the mini-batch loss by the module's output, shape ``[N, *]``.
    """

    loss: LossPass
    s: Tensor
    gradient: Tensor
