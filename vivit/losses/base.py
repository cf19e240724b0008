"""What the library needs to know of a loss."""

from __future__ import annotations

import functools
from typing import Any, Protocol

import torch
from torch import Tensor

from vivit.errors import InputError, UnsupportedError
from vivit.losses.factor import HessianFactor


class LossHessian(Protocol):
    """The Hessian of a loss with respect to the model output, sample by sample."""

    @property
    def num_columns(self) -> int:
        """Number ``C`` of columns of the factor of one sample."""
        ...

    @property
    def normalizer(self) -> float | None:
        """What a mean over the batch was divided by, 0 for a mean over nothing; None for a sum."""
        ...

    def factor(self) -> HessianFactor:
        """Symmetric factors ``S_n`` with ``H_n = S_n S_n^T``."""
        ...

    def sample(self, columns: int, generator: torch.Generator) -> Tensor:
        """Random factor with ``E[sum_c s_nc s_nc^T] = H_n``, shape ``[N, columns, *out]``."""
        ...

    def product(self, u: Tensor) -> Tensor:
        """``H_n u_n`` for every sample; ``u`` and the result have shape ``[N, *out]``."""
        ...

    def coordinates(self, gradient: Tensor) -> Tensor | None:
        """Coordinates of the loss gradient in the columns of the factor, if they are accurate.

        Args:
            gradient: Of the mini-batch loss by the output, shape ``[N, *out]``.

        Returns:
            ``w`` with ``gradient_n = sum_c w_nc s_nc``, shape ``[N, C]``; None if rounding errors
            would spoil it, or a gradient does not lie in the span of its sample's columns.
        """
        ...


def name_of(loss_func: Any) -> str:
    """What a loss is called in messages."""
    while isinstance(loss_func, functools.partial):
        loss_func = loss_func.func
    return getattr(loss_func, "__name__", type(loss_func).__name__)


def scalar_loss(loss_func: Any, output: Tensor, target: Any) -> Tensor:
    """The loss of a batch.

    Raises:
        InputError: It is no scalar.
    """
    loss = loss_func(output, target)
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise InputError(
            f"The loss {name_of(loss_func)!r} must return a scalar, got "
            f"{list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__}. Let it be "
            "the mean over samples, or their sum."
        )
    return loss


def loss_gradient(loss_func: Any, output: Tensor, target: Any) -> Tensor:
    """The gradient of a batch loss by the model output, shape ``[N, *out]``.

    Raises:
        InputError: The loss is no scalar.
        UnsupportedError: It does not depend on the output.
    """
    with torch.enable_grad():
        f = output.detach().requires_grad_()
        loss = scalar_loss(loss_func, f, target)
        if not loss.requires_grad:
            raise UnsupportedError(
                f"The loss {name_of(loss_func)!r} cannot be differentiated: autograd does not see "
                "that it depends on the model output. Look for detach, argmax, rounding or numpy "
                "in it."
            )
        return torch.autograd.grad(loss, f)[0]


def smallest_divisor(like: Tensor) -> float:
    """The number down to which coordinates may be divided by entries of a factor.

    A rounding error ``eps`` of an eigenvector's entry grows to ``eps / divisor``; with
    ``eps^(1/4)`` as the bound, three quarters of the digits remain.
    """
    return torch.finfo(like.dtype).eps ** 0.25


def random_normal(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Standard normal numbers, the same on every device."""
    return torch.randn(shape, generator=generator, dtype=like.dtype).to(like.device)
