"""Looking at a model without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from vivit.backprop.random_state import RandomState


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Let a model predict: in evaluation mode, with the random numbers of its own.

    The flags are set without `nn.Module.train`, which a model may have made do more. Those of each
    module and the states of torch's generators are as before when the context ends, however
    it ends.

    Args:
        model: The model.
    """
    modes = [(module, module.training) for module in model.modules()]
    with RandomState.current(model).restored(), torch.enable_grad():
        try:
            for module, _ in modes:
                module.training = False
            yield
        finally:
            for module, mode in modes:
                module.training = mode
