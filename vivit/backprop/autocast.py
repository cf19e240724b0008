"""Mixed precision: forward passes are run under the autocast in which the curvature was built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Call = Callable[[nn.Module, Any], Tensor]
"""Calls a model with a batch."""

DEVICES = ("cpu", "cuda")
"""Types of devices that have an autocast of their own."""


def is_mixed() -> bool:
    """Whether an autocast is on."""
    return any(torch.is_autocast_enabled(device) for device in DEVICES)


def in_this_autocast(forward: Call) -> Call:
    """How a model is called, wherever that may be, as if it were here.

    Args:
        forward: Calls it.

    Returns:
        The same, if no autocast is on.
    """
    settings = {
        device: torch.get_autocast_dtype(device)
        for device in DEVICES
        if torch.is_autocast_enabled(device)
    }
    if not settings:
        return forward

    def mixed(model: nn.Module, x: Any) -> Tensor:
        torch.clear_autocast_cache()  # of weights as they were, if this is within another autocast
        with ExitStack() as stack:
            for device, dtype in settings.items():
                stack.enter_context(torch.autocast(device, dtype))
            return forward(model, x)

    return mixed


@contextmanager
def without_autocast() -> Iterator[None]:
    """Everything but forward passes is computed as it is."""
    with ExitStack() as stack:
        for device in DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield
