"""Losses under their other names: functions, partial functions, and log-likelihoods."""

from __future__ import annotations

import functools
from typing import Any

import torch.nn.functional as F
from torch import Tensor, finfo, nn

from vivit.errors import InputError
from vivit.losses.cross_entropy import CrossEntropyHessian, cross_entropy


class LogLikelihood(nn.CrossEntropyLoss):
    """``NLLLoss`` of normalised log-probabilities.

    It is linear in them, so that its own Hessian says nothing. But the log-softmax can be counted
    to the loss instead of the model: of log-probabilities it gives the same ones again, and since
    ``(diag(p) - p p^T) 1 = 0`` and the softmax shifts by multiples of ``1``, the GGN and the
    gradients by the parameters are those of cross-entropy on the logits, exactly.
    """


FUNCTIONS: dict[Any, type[nn.Module]] = {
    F.cross_entropy: nn.CrossEntropyLoss,
    F.mse_loss: nn.MSELoss,
    F.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
    F.nll_loss: nn.NLLLoss,
}
"""Functions, and the modules that take the same options."""


OVER_OUTPUTS = (
    nn.L1Loss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.PoissonNLLLoss,
    nn.SoftMarginLoss,
    nn.BCELoss,
    nn.KLDivLoss,
    F.l1_loss,
    F.smooth_l1_loss,
    F.huber_loss,
    F.poisson_nll_loss,
    F.soft_margin_loss,
    F.binary_cross_entropy,
    F.kl_div,
)
"""Losses without a closed form here that are means over all outputs, not over samples."""


def known_loss(loss_func: Any) -> Any:
    """The module that a loss is another name of.

    Args:
        loss_func: A loss as the user gave it: a module, a function of ``torch.nn.functional``, a
            ``functools.partial`` of one, or anything else.

    Returns:
        A module with the same options; what was given, if it is none of these.
    """
    module = module_of_function(loss_func)
    if type(module) is nn.NLLLoss:
        options = {name: getattr(module, name) for name in ("weight", "ignore_index", "reduction")}
        return LogLikelihood(**options)
    return module


def module_of_function(loss_func: Any) -> Any:
    """The module with the options of a function, or of a partial one; what was given, if none."""
    options: dict[str, Any] = {}
    function = loss_func
    while isinstance(function, functools.partial) and not function.args:
        options = {**function.keywords, **options}
        function = function.func
    if isinstance(function, nn.Module) and not options:
        return function
    try:
        kind = FUNCTIONS.get(function)
        return loss_func if kind is None else kind(**options)
    except TypeError:  # not hashable, or an option that the module does not have
        return loss_func


def reduction_of(loss_func: Any) -> str:
    """How a loss puts samples together: ``"mean"`` unless it says otherwise.

    Args:
        loss_func: Any callable.

    Returns:
        Its attribute, or what a ``functools.partial`` sets.
    """
    while isinstance(loss_func, functools.partial):
        if "reduction" in loss_func.keywords:
            return loss_func.keywords["reduction"]
        loss_func = loss_func.func
    return getattr(loss_func, "reduction", "mean")


def mean_size(loss_func: Any, output: Tensor) -> float | None:
    """What the mean of a loss without a closed form was divided by.

    Args:
        loss_func: Any callable.
        output: Of a batch, shape ``[N, *out]``.

    Returns:
        The number of outputs for losses of torch that are means over these; else ``N``, as which
        a mean counts of which nothing is known; None for a sum.
    """
    reduction = reduction_of(loss_func)
    if reduction == "sum":
        return None
    while isinstance(loss_func, functools.partial):
        loss_func = loss_func.func
    kind = type(loss_func) if isinstance(loss_func, nn.Module) else loss_func
    is_over_outputs = reduction == "mean" and any(kind is known for known in OVER_OUTPUTS)
    return float(output.numel() if is_over_outputs else len(output))


def log_likelihood(
    loss_func: LogLikelihood, output: Tensor, target: Tensor
) -> CrossEntropyHessian:
    """``NLLLoss``: what cross-entropy gives, if the outputs are normalised log-probabilities.

    Args:
        loss_func: With the options of the ``NLLLoss``.
        output: Log-probabilities, shape ``[N, K, *positions]``.
        target: Classes, shape ``[N, *positions]``.

    Returns:
        The Hessian.

    Raises:
        InputError: They are not normalised; or as `cross_entropy`.
    """
    if target.is_floating_point():
        raise InputError(
            f"NLLLoss needs class indices as targets, got dtype {target.dtype}. For "
            "probabilities, use CrossEntropyLoss on logits."
        )
    if output.ndim >= 2:
        off = float(output.logsumexp(dim=1).expm1().abs().max())
        if not off <= finfo(output.dtype).eps ** 0.5:
            raise InputError(
                "NLLLoss is linear in the model output, so that the GGN is that of cross-entropy "
                "for normalised log-probabilities, and zero for anything else. Here the sums of "
                f"exp(output) over the classes differ from 1 by up to {off:.1e}. Let the model "
                "end in log_softmax(dim=1), or use CrossEntropyLoss on its logits."
            )
    return cross_entropy(loss_func, output, target)
