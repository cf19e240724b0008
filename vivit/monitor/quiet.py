"""Looking at a model without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from vivit.backprop.random_state import RandomState


def plain(model: nn.Module) -> nn.Module:
    """A model without what makes it run on several processes, or compiled.

    The forward pass of `DistributedDataParallel` talks to the other processes, which a monitor in
    one of them must not do; a compiled one has an autograd graph that tells nothing of layers.

    Args:
        model: The model.

    Returns:
        The module within, which has the same parameters; the model itself, if it is plain.
    """
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):  # torch.compile's
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model


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
