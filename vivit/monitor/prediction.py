"""Loss and accuracy on held-out data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vivit.backprop.called import output_of
from vivit.backprop.checks import check_output
from vivit.backprop.diagnosis import explained
from vivit.backprop.forward import untouched
from vivit.losses import hessian_if_known, known_loss, scalar_loss
from vivit.losses.known import mean_size
from vivit.monitor.numbers import number
from vivit.ranks import ALONE, Ranks


@torch.no_grad()
def held_out(
    model: nn.Module,
    loss_func: Any,
    x: Any,
    y: Any,
    parameters: Mapping[str, Tensor],
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Loss and, where targets are classes, accuracy, in the mode in which the model is.

    Args:
        model: The model; its buffers stay as they are.
        loss_func: Maps outputs and targets to a scalar.
        x: Inputs.
        y: Targets.
        parameters: Those that count.
        ranks: Who has other samples, if anyone: figures are those of all.

    Returns:
        ``loss``, and ``accuracy`` if there is one.

    Raises:
        InputError: The model cannot be run so, or gives no tensor; or the targets do not fit it.
    """
    with untouched(model.modules()), explained(model, x, parameters):
        output = output_of(model, x)
    if not isinstance(output, Tensor) or output.is_nested or output.ndim == 0:
        check_output(output, parameters)
    hessian = hessian_if_known(loss_func, output, y)  # refuses targets that do not fit
    normalizer = mean_size(loss_func, output) if hessian is None else hessian.normalizer
    loss, right = scalar_loss(loss_func, output, y), right_classes(loss_func, output, y)
    counts = None if right is None else [int(right.sum()), right.numel()]
    facts = ranks.facts([float(loss), normalizer, counts], "the held-out loss")
    losses, normalizers, of_ranks = zip(*facts, strict=True)
    found = {"loss": number(_joined(losses, normalizers))}
    if all(x is not None for x in of_ranks):
        count = sum(total for _, total in of_ranks)
        found["accuracy"] = number(sum(x for x, _ in of_ranks) / count if count else math.nan)
    return found


def _joined(losses: Sequence[float], normalizers: Sequence[float | None]) -> float:
    """The loss of all samples from those of each rank, and what means were divided by."""
    if len(losses) == 1:
        return losses[0]
    if any(x is None for x in normalizers):
        return sum(losses)
    weights = [x or 0.0 for x in normalizers]
    parts = (x * weight for x, weight in zip(losses, weights, strict=True) if weight)
    return sum(parts) / sum(weights) if sum(weights) else math.nan


def right_classes(loss_func: Any, output: Any, y: Any) -> Tensor | None:
    """Which predictions are right, of those targets that the loss does not ignore.

    Args:
        loss_func: The loss.
        output: Of the model, shape ``[N, C, *positions]`` with at least two classes.
        y: Targets.

    Returns:
        A flat mask; None if targets are no classes.
    """
    if not (isinstance(output, Tensor) and isinstance(y, Tensor)) or output.ndim < 2:
        return None
    is_index = not (y.is_floating_point() or y.is_complex() or y.dtype is torch.bool)
    if not is_index or output.shape[1] < 2 or y.shape != output.shape[:1] + output.shape[2:]:
        return None
    right = output.argmax(dim=1) == y
    ignored = getattr(known_loss(loss_func), "ignore_index", None)
    return right.flatten() if ignored is None else right[y != ignored]
