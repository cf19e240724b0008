"""Baseline: the trace as the sum of BackPACK's exact diagonal of the GGN."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from backpack import backpack, extend
from backpack.extensions import DiagGGNExact

from benchmarks.measure.accuracy import Outcome
from benchmarks.methods.backpack_form import backpack_form
from benchmarks.methods.base import Method, refuse_nested_inputs, refuse_others
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed, Task


class DiagonalTrace(Method):
    """One backward pass with all columns of the loss Hessian's factor; exact."""

    name = "diagonal_trace"
    label = Label("sum of the diagonal (BackPACK)", "BackPACK's diagonal")
    description = "the sum of the exact diagonal of the GGN that BackPACK's DiagGGNExact gives"
    tolerance = 1e-4

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Extend model and loss by BackPACK; its hooks stay, so they are of a copy."""
        refuse_others(self, task, (Computed.TRACE,))
        refuse_nested_inputs(self, instance)
        form, notes = backpack_form(copy.deepcopy(instance.model))
        model, loss_func = extend(form), extend(copy.deepcopy(instance.loss_func))

        def run() -> Outcome:
            loss = loss_func(model(instance.inputs), instance.targets)
            with backpack(DiagGGNExact()):
                loss.backward()
            trace = sum(p.diag_ggn_exact.sum() for p in model.parameters())
            for p in model.parameters():
                del p.diag_ggn_exact
            model.zero_grad()
            return Outcome(torch.as_tensor(trace)[None], details={"notes": [*notes]})

        return run
