"""Networks in the form that BackPACK's second-order extensions know."""

from __future__ import annotations

import copy

from backpack.custom_module.branching import Parallel
from backpack.custom_module.pad import Pad
from torch import nn

from benchmarks.problems.layers import PadChannels, Residual

NOTE = (
    "residual blocks and padded shortcuts are written as BackPACK's Parallel and Pad, for its "
    "converter knows no padding of channels"
)


def backpack_form(model: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Replace modules of our own by BackPACK's.

    Args:
        model: Built from modules of torch and of `benchmarks.networks`.

    Returns:
        A copy with the same parameters in the same order, and what was changed.
    """
    if not any(isinstance(module, (Residual, PadChannels)) for module in model.modules()):
        return model, ()
    return _replace(copy.deepcopy(model)), (NOTE,)


def _replace(module: nn.Module) -> nn.Module:
    if isinstance(module, Residual):
        return Parallel(_replace(module.main), _replace(module.shortcut))
    if isinstance(module, PadChannels):
        return Pad((0, 0, 0, 0, module.before, module.after))
    for name, child in module.named_children():
        setattr(module, name, _replace(child))
    return module
