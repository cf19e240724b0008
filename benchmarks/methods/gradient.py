"""The yardstick: one plain mini-batch gradient."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.methods.base import Outcome, Task
from benchmarks.problems import Instance


class Gradient:
    """Forward and backward pass of the mini-batch loss; computes no curvature."""

    name = "gradient"
    description = "yardstick: one mini-batch gradient, no curvature"
    tolerance = 1e-2
    """A near-tie of a max pooling or ReLU that single precision decides the other way changes the
    gradient by as much as 1e-3: the recorded error of 3c3d with N = 128."""

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Nothing to prepare."""
        return lambda: Outcome(_gradient(instance))

    def error(self, outcome: Outcome, instance: Instance, reference: Tensor) -> float:
        """Norm of the error relative to the norm of the gradient in float64."""
        exact = _gradient(
            Instance(
                copy.deepcopy(instance.model).double(),
                instance.loss_func,
                instance.inputs.double(),
                instance.targets,
            )
        )
        return float((outcome.values.double() - exact).norm() / exact.norm())


def _gradient(instance: Instance) -> Tensor:
    loss = instance.loss_func(instance.model(instance.inputs), instance.targets)
    grads = torch.autograd.grad(loss, list(instance.model.parameters()))
    return torch.cat([g.reshape(-1) for g in grads])
