"""K-FAC: a preconditioned gradient, or solve, expand and reduce."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from curvlinops import FisherType, KFACInverseLinearOperator, KFACLinearOperator, KFACType
from torch import Tensor, nn

from benchmarks.measure.accuracy import Check, Outcome, Reference, check, relative_error
from benchmarks.measure.vectors import fixed_vector
from benchmarks.methods.base import Method, NotApplicableError, refuse_others
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import SOLVE_DAMPING, Computed, Task

DAMPING = 1e-3
"""Split between the two factors of a layer by the heuristic of Martens and Grosse (2015)."""


DESCRIPTIONS = {
    KFACType.EXPAND: "Kronecker factors of linear layers and convolutions, their damped inverses, "
    "and the gradient times these",
    KFACType.REDUCE: "the same with shared positions summed up before the factors are formed",
}


class Kfac(Method):
    """Kronecker factors of the GGN, their damped inverses, and the gradient times these.

    Eschenhagen et al., "Kronecker-factored approximate curvature for modern neural network
    architectures" (2023), by curvlinops. The factors are those of the exact GGN, not of sampled
    labels, so that the step can be checked. Of linear layers and convolutions only, which is what
    curvlinops knows. As a solve, the damping is that of the product of both factors, and it is an
    approximation: its error is shown, whatever it is.
    """

    tolerance = 1e-2

    def __init__(self, kind: str) -> None:
        """Choose how shared weights are treated.

        Args:
            kind: Of `KFACType`.
        """
        self._kind = kind
        self.name, title = f"kfac_{kind.lower()}", f"K-FAC {kind.lower()}"
        self.label, self.description = Label(f"{title} (curvlinops)", title), DESCRIPTIONS[kind]

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Find the parameters that it knows."""
        refuse_others(self, task, (Computed.PRECONDITIONED, Computed.SOLVE))
        if task.computed is Computed.PRECONDITIONED:
            return lambda: self._step(instance)
        known = sum(p.numel() for p in known_parameters(instance.model).values())
        if known < instance.num_parameters:
            raise NotApplicableError(
                f"{self.name} knows {known} of {instance.num_parameters} parameters: those of "
                "linear layers and convolutions, in which others have no part of a solve."
            )
        vector = fixed_vector(known).to(instance.like)

        def solve() -> Outcome:
            damping = {"damping": SOLVE_DAMPING, "use_exact_damping": True}
            return Outcome(kfac_inverse(instance, self._kind, **damping) @ vector)

        return solve

    def check(
        self, outcome: Outcome, instance: Instance, task: Task, reference: Reference
    ) -> Check:
        """Norm of the error relative to that of the same step in float64, or of an exact solve."""
        if task.computed is Computed.SOLVE:
            return check(outcome, task, reference, math.inf)
        exact = self._step(instance.double()).values
        error = relative_error(outcome.values, exact)
        return Check(error, self.tolerance, "the same step in float64")

    def _step(self, instance: Instance) -> Outcome:
        step = kfac_step(instance, self._kind)
        return Outcome(step, details={"preconditioned_parameters": len(step)})


def kfac_step(instance: Instance, kind: str) -> Tensor:
    """Minus the gradient times the damped inverse of its Kronecker-factored curvature.

    Args:
        instance: The problem.
        kind: Of `KFACType`.

    Returns:
        Of the parameters that it knows, in their order, shape ``[D']``.
    """
    parameters = [*known_parameters(instance.model).values()]
    inverse = kfac_inverse(instance, kind, damping=DAMPING, use_heuristic_damping=True)
    loss = instance.loss_func(instance.model(instance.inputs), instance.targets)
    gradient = torch.autograd.grad(loss, parameters)
    return -torch.cat([s.flatten() for s in inverse @ [*gradient]])


def kfac_inverse(instance: Instance, kind: str, **damping: Any) -> KFACInverseLinearOperator:
    """The damped inverse of the Kronecker-factored curvature of the parameters that it knows.

    Args:
        instance: The problem.
        kind: Of `KFACType`.
        **damping: Of curvlinops' inverse: how much, and how it enters.

    Returns:
        An operator on these parameters.
    """
    operator = KFACLinearOperator(
        instance.model,
        instance.loss_func,
        [*known_parameters(instance.model).values()],
        [(instance.inputs, instance.targets)],
        check_deterministic=False,
        batch_size_fn=lambda _: instance.num_samples,  # inputs may be no tensor
        fisher_type=FisherType.TYPE2,
        kfac_approx=kind,
    )
    return KFACInverseLinearOperator(operator, **damping)


def kfac_methods() -> list[Kfac]:
    """Both approximations."""
    return [Kfac(KFACType.EXPAND), Kfac(KFACType.REDUCE)]


def known_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of linear layers and convolutions, by name.

    Args:
        model: The network.

    Returns:
        Those that are trained, in the order of the network's modules.
    """
    return {
        f"{name}.{own}" if name else own: p
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
        for own, p in module.named_parameters(recurse=False)
        if p.requires_grad
    }
