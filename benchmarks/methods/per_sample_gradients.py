"""Baseline: the empirical Fisher from the gradients of all samples, stored."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, vmap

from benchmarks.measure.accuracy import Outcome
from benchmarks.methods.base import Method, NotApplicableError, refuse_others
from benchmarks.methods.conventions import Parameters, function_of_a_sample
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed, Task


class PerSampleGradients(Method):
    """As in PyTorch's tutorial "Per-sample-gradients", and the Gram matrix of what it gives."""

    name = "per_sample_gradients"
    label = Label("per-sample gradients (torch.func)", "per-sample gradients")
    description = (
        "the Gram matrix of the gradients of all samples, which torch.func gives (vmap of grad), "
        "with all of them in memory"
    )
    tolerance = 1e-4

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Make a function of parameters, one sample and its target."""
        refuse_others(self, task, (Computed.FISHER,))
        if not isinstance(instance.inputs, Tensor):
            raise NotApplicableError(
                f"{self.name} maps over the samples of a single tensor, not of a "
                f"{type(instance.inputs).__name__}."
            )
        function, parameters = function_of_a_sample(instance.model)
        inputs, targets = instance.inputs, instance.targets

        def loss(parameters: Parameters, x: Tensor, y: Tensor) -> Tensor:
            return instance.loss_func(function(parameters, x)[None], y[None])

        def run() -> Outcome:
            gradients = vmap(grad(loss), (None, 0, 0))(parameters, inputs, targets)
            rows = torch.cat([g.flatten(1) for g in gradients.values()], dim=1)
            gram = rows @ rows.T / len(rows)
            kept = min(rows.shape)
            return Outcome(torch.linalg.eigvalsh(gram)[-kept:], details={"num_columns": len(rows)})

        return run
