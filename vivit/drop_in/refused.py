"""Modules that BackPACK passes as if they were others."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from vivit.errors import UnsupportedError

INSTEAD = "Use vivit.GGN(model, loss_func, (X, y)), which supports it."
OR_INSTEAD = f"Or {INSTEAD[0].lower()}{INSTEAD[1:]}"


def check_rules_fit(module: Any) -> None:
    """Refuse modules that BackPACK passes, but as if they were others.

    Raises:
        UnsupportedError: It is such a module.
    """
    if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
        statistics = module.running_mean is None
        what = "Use track_running_stats=True." if statistics else "Call model.eval()."
        raise UnsupportedError(
            f"{module} uses the statistics of the batch, so samples have no curvature of their "
            f"own. {what}"
        )
    if isinstance(module, _ConvNd) and module.padding_mode != "zeros":
        raise UnsupportedError(
            f"{module} pads with {module.padding_mode!r}, BackPACK knows zeros only. {INSTEAD}"
        )
    passes_on = getattr(module, "input0", None) is not None and module.input0.requires_grad
    if isinstance(module, _ConvNd) and isinstance(module.padding, str) and passes_on:
        raise UnsupportedError(
            f"{module} has padding={module.padding!r}, BackPACK knows numbers only: give the "
            f"number of zeros on each side. {OR_INSTEAD}"
        )
    if getattr(module, "divisor_override", None) is not None:
        raise UnsupportedError(
            f"{module} has a divisor_override, which BackPACK does not know. {INSTEAD}"
        )
    averages = isinstance(module, (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d))
    if averages and module.output.dtype != torch.get_default_dtype():
        raise UnsupportedError(
            f"BackPACK passes {module} in the default dtype only, {torch.get_default_dtype()}, "
            f"but it has {module.output.dtype}. Call torch.set_default_dtype. {OR_INSTEAD}"
        )


def shown(module: nn.Module) -> str:
    """A layer in a line."""
    text = repr(module)
    return type(module).__name__ if "\n" in text else text
