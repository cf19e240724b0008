"""Baseline: store V with BackPACK's SqrtGGNExact and multiply it with itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from backpack import backpack, extend
from backpack.core.derivatives.convnd import weight_jac_t_save_memory
from backpack.extensions import SqrtGGNExact
from torch import Tensor, nn

from benchmarks.measure.accuracy import Outcome
from benchmarks.methods.base import Method, refuse_nested_inputs, refuse_others
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed, Task


class NaiveGram(Method):
    """The Gram matrix of the stored ``D x NC`` matrix V, one einsum per parameter."""

    name = "naive_gram"
    label = Label("naive Gram (BackPACK, V stored)", "naive Gram")
    description = (
        "the Gram matrix of the columns that BackPACK's SqrtGGNExact gives in its faster setting, "
        "with the whole factor V in memory"
    )
    tolerance = 1e-4

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Extend model and loss by BackPACK."""
        refuse_others(self, task, (Computed.EIGENVALUES, Computed.GRAM))
        refuse_nested_inputs(self, instance)
        model, loss_func = extend(instance.model), extend(instance.loss_func)

        def run() -> Outcome:
            loss = loss_func(model(instance.inputs), instance.targets)
            with backpack(SqrtGGNExact()), weight_jac_t_save_memory(True):  # the faster setting
                loss.backward()
            gram = _gram(model)
            _clear(model)
            details = {"num_columns": len(gram)}
            if task.computed is Computed.GRAM:
                return Outcome(gram, details=details)
            kept = min(instance.num_parameters, len(gram))
            return Outcome(torch.linalg.eigvalsh(gram)[-kept:], details=details)

        return run


def _gram(model: nn.Module) -> Tensor:
    factors = [_factor(p) for p in model.parameters()]  # [c, n, *shape] each, V in pieces
    columns = factors[0].shape[:2].numel()
    gram = factors[0].new_zeros(columns, columns)
    for v in factors:
        v = v.flatten(start_dim=2)
        gram += torch.einsum("cnp,dmp->cndm", v, v).reshape(columns, columns)
    return gram


def _factor(p: nn.Parameter) -> Tensor:
    return p.sqrt_ggn_exact  # type: ignore[attr-defined]  # BackPACK's attribute


def _clear(model: nn.Module) -> None:
    for p in model.parameters():
        del p.sqrt_ggn_exact  # type: ignore[attr-defined]
        p.grad = None
