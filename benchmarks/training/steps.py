"""What makes the steps of a training, whatever they need; those of torch's optimizers."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn

from benchmarks.problems.problem import Instance


class DivergedError(ArithmeticError):
    """There is no step, for the loss or its derivatives are not finite."""


class Steps(Protocol):
    """Changes the parameters of a network, batch by batch."""

    def step(self, batch: Instance) -> None:
        """Make a step.

        Args:
            batch: The network, in training mode, with the samples of the step.

        Raises:
            DivergedError: There is none.
        """

    def state_dict(self) -> dict[str, Any]:
        """All that decides the steps to come, but for the network and torch's generators."""

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from a state.

        Args:
            state: What `state_dict` gave.
        """


class GradientSteps:
    """Steps of one of torch's optimizers, which need the gradient alone."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Begin without gradients.

        Args:
            model: The network.
            optimizer: Of its parameters.
        """
        self._model, self._optimizer = model, optimizer
        optimizer.zero_grad()

    def step(self, batch: Instance) -> None:
        """Make a step; gradients are not kept."""
        batch.loss_func(self._model(batch.inputs), batch.targets).backward()
        self._optimizer.step()
        self._optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Momentum, moments, number of steps."""
        return self._optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from a state."""
        self._optimizer.load_state_dict(state)
