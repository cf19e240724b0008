"""Which class knows the Hessian of which loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from vivit.errors import InputError, UnsupportedError
from vivit.losses.base import LossHessian
from vivit.losses.convex import convex_loss
from vivit.losses.cross_entropy import cross_entropy
from vivit.losses.diagonal import binary_cross_entropy, square_loss
from vivit.losses.known import LogLikelihood, known_loss, log_likelihood, reduction_of

SUPPORTED: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], LossHessian]] = {
    nn.CrossEntropyLoss: cross_entropy,
    nn.MSELoss: square_loss,
    nn.BCEWithLogitsLoss: binary_cross_entropy,
    LogLikelihood: log_likelihood,
}
"""Losses with a Hessian in closed form, as `known_loss` names them; any other goes through
`convex_loss`."""


def loss_hessian(loss_func: Any, output: Tensor, target: Any) -> LossHessian:
    """The Hessian of a loss by the model output.

    Args:
        loss_func: A loss of `SUPPORTED` (not a subclass, which may compute something else) or
            another name of one, or any callable that maps output and target to a scalar.
        output: Model output, shape ``[N, *out]``.
        target: Targets, as the loss takes them.

    Returns:
        The Hessian at this output.

    Raises:
        UnsupportedError: The loss has no Hessian that could be used.
        InputError: The targets do not fit the output.
    """
    output, known = output.detach(), known_loss(loss_func)
    _check_target(known, output, target)
    found = SUPPORTED.get(type(known))
    if found is None:
        return convex_loss(known, output, target)
    return found(known, output, target)


def hessian_if_known(loss_func: Any, output: Tensor, target: Any) -> LossHessian | None:
    """The Hessian of a loss in closed form, which takes little beside a forward pass.

    Args:
        loss_func: As for `loss_hessian`, as are the others. ``NLLLoss`` may have any outputs here:
            it is the one of normalised ones, for what does not depend on that.
        output: Model output.
        target: Targets.

    Returns:
        None if there is no closed form.

    Raises:
        InputError: The targets do not fit the output.
    """
    output, known = output.detach(), known_loss(loss_func)
    _check_target(known, output, target)
    found = SUPPORTED.get(type(known))
    if found is log_likelihood:
        found = cross_entropy
    return None if found is None else found(known, output, target)


def _check_target(known: Any, output: Tensor, target: Any) -> None:
    """Refuse targets elsewhere, and what a known loss does not take."""
    if isinstance(target, Tensor) and target.device != output.device:
        raise InputError(
            f"The targets are on {target.device}, the output on {output.device}. Move them to the "
            "same device."
        )
    if type(known) in SUPPORTED and not isinstance(target, Tensor):
        name = "NLLLoss" if isinstance(known, LogLikelihood) else type(known).__name__
        raise InputError(
            f"{name} takes a tensor of targets, got {type(target).__name__}. "
            "Say which of it, target=lambda batch: ..., or make it a tensor, torch.as_tensor(y)."
        )


def check_loss(loss_func: Any) -> None:
    """Refuse what cannot be a loss, before any work is done.

    Args:
        loss_func: What the user gave as the loss.

    Raises:
        InputError: It cannot be called.
        UnsupportedError: It does not give a scalar.
    """
    if not callable(loss_func):
        raise InputError(
            f"loss_func must map output and target to a scalar, got {type(loss_func).__name__}."
        )
    if isinstance(loss_func, type):
        raise InputError(
            f"loss_func is the class {loss_func.__name__}, expected an object of it: "
            f"{loss_func.__name__}()."
        )
    reduction = reduction_of(loss_func)
    if reduction not in ("mean", "sum", "batchmean"):
        raise UnsupportedError(
            f"The loss has reduction={reduction!r}, but the GGN needs a scalar loss. "
            "Use reduction='mean' or reduction='sum'."
        )
