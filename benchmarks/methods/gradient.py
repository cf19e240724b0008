"""The yardstick: one plain mini-batch gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.measure.accuracy import Check, Outcome, Reference, relative_error
from benchmarks.methods.base import Method
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import Task


class Gradient(Method):
    """Forward and backward pass of the mini-batch loss; computes no curvature."""

    name = "gradient"
    label = Label("gradient")
    description = "yardstick: one plain mini-batch gradient, which computes no curvature"
    tolerance = 1e-2
    """A near-tie of a max pooling or ReLU that single precision decides the other way changes the
    gradient by as much as 1e-3: the recorded error of 3c3d with N = 128."""

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Nothing to prepare."""
        return lambda: Outcome(_gradient(instance))

    def check(
        self, outcome: Outcome, instance: Instance, task: Task, reference: Reference
    ) -> Check:
        """Norm of the error relative to the norm of the gradient in float64."""
        exact = _gradient(instance.double())
        error = relative_error(outcome.values, exact)
        return Check(error, self.tolerance, "gradient in float64")


def _gradient(instance: Instance) -> Tensor:
    loss = instance.loss_func(instance.model(instance.inputs), instance.targets)
    grads = torch.autograd.grad(loss, list(instance.model.parameters()))
    return torch.cat([g.reshape(-1) for g in grads])
