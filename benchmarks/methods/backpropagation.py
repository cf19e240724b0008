"""The yardstick of linear layers: backpropagation of the loss Hessian's factor alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.measure.accuracy import Check, Outcome, Reference, relative_error
from benchmarks.methods.base import Method, NotApplicableError
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed, Task


class Backpropagation(Method):
    """Forward pass, then all columns of ``S`` from the output to the first layer's output.

    What every method that goes through the factor must do at least: no parameter derivatives, no
    Gram matrix. All columns go in one batched pass.
    """

    name = "backpropagation"
    label = Label("backpropagation of S", "backpropagation")
    description = (
        "yardstick: the columns of the loss Hessian's factor S sent back, and nothing else"
    )
    tolerance = 1e-2
    """As for the gradient."""

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Split the model after its first layer."""
        model, square_loss = instance.model, isinstance(instance.loss_func, nn.MSELoss)
        if task.computed is not Computed.GRAM or not task.is_plain or not square_loss:
            raise NotApplicableError(
                "Backpropagation is the yardstick of Gram matrices of square losses, not of: "
                f"{task.title}, {type(instance.loss_func).__name__}."
            )
        assert isinstance(model, nn.Sequential)
        return lambda: Outcome(_backpropagated(instance, model[0], model[1:]))

    def check(
        self, outcome: Outcome, instance: Instance, task: Task, reference: Reference
    ) -> Check:
        """Norm of the error relative to the norm in float64."""
        double = instance.double()
        assert isinstance(double.model, nn.Sequential)
        exact = _backpropagated(double, double.model[0], double.model[1:])
        error = relative_error(outcome.values, exact)
        return Check(error, self.tolerance, "the same in float64")


def _backpropagated(instance: Instance, first: nn.Module, rest: nn.Module) -> Tensor:
    """``s_nc`` at the first layer's output, shape ``[C, N, *hidden]``.

    The Hessian of the mean square of ``N C`` entries is ``2 / (N C)`` times the identity.
    """
    hidden = first(instance.inputs)
    output = rest(hidden)
    batch_size, classes = output.shape
    factor = torch.eye(classes, dtype=output.dtype, device=output.device)
    factor = factor * (2 / output.numel()) ** 0.5
    columns = factor[:, None, :].expand(classes, batch_size, classes)
    (s,) = torch.autograd.grad(output, hidden, columns, is_grads_batched=True)
    return s
