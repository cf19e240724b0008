"""Baseline: store V with BackPACK's SqrtGGNExact and multiply it with itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from backpack import backpack, extend
from backpack.core.derivatives.convnd import weight_jac_t_save_memory
from backpack.extensions import SqrtGGNExact
from torch import Tensor, nn

from benchmarks.methods.base import NotApplicableError, Outcome, Task, spectral_error
from benchmarks.problems import Instance


class NaiveGram:
    """The Gram matrix of the stored ``D x NC`` matrix V, one einsum per parameter."""

    name = "naive_gram"
    description = (
        "naive Gram matrix: V stored (BackPACK SqrtGGNExact, in its faster setting), then einsum"
    )
    tolerance = 1e-4

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Extend model and loss by BackPACK."""
        if task.k is not None:
            raise NotApplicableError("The naive Gram matrix is measured for all eigenvalues.")
        model, loss_func = extend(instance.model), extend(instance.loss_func)

        def run() -> Outcome:
            loss = loss_func(model(instance.inputs), instance.targets)
            with backpack(SqrtGGNExact()), weight_jac_t_save_memory(True):  # the faster setting
                loss.backward()
            outcome = _spectrum(model)
            _clear(model)
            return outcome

        return run

    def error(self, outcome: Outcome, instance: Instance, reference: Tensor) -> float:
        """Error of the eigenvalues."""
        return spectral_error(outcome.values, reference)


def _spectrum(model: nn.Module) -> Outcome:
    factors = [_factor(p) for p in model.parameters()]  # [c, n, *shape] each, V in pieces
    columns, size = factors[0].shape[:2].numel(), sum(p.numel() for p in model.parameters())
    gram = factors[0].new_zeros(columns, columns)
    for v in factors:
        v = v.flatten(start_dim=2)
        gram += torch.einsum("cnp,dmp->cndm", v, v).reshape(columns, columns)
    values = torch.linalg.eigvalsh(gram)[-min(size, columns) :]
    return Outcome(values, details={"num_columns": columns})


def _factor(p: nn.Parameter) -> Tensor:
    return p.sqrt_ggn_exact  # type: ignore[attr-defined]  # BackPACK's attribute


def _clear(model: nn.Module) -> None:
    for p in model.parameters():
        del p.sqrt_ggn_exact  # type: ignore[attr-defined]
        p.grad = None
