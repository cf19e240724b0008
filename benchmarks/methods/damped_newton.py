"""The damped Newton step that K-FAC approximates, exact and along leading eigenvectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.measure.accuracy import Check, Outcome, Reference, relative_error
from benchmarks.methods.base import Method, refuse_others
from benchmarks.methods.kfac import DAMPING, known_parameters
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed, Task

LEADING = 10
"""Directions of the short step."""

RANK_TOLERANCE = 1e-6
"""Of both precisions. By default, directions whose eigenvalue is below the largest times the size
of the Gram matrix times the precision are left out, but a damping as small as this lets them
make up much of the step."""


class DampedNewton(Method):
    """The gradient times the inverse of the damped GGN of the parameters that K-FAC knows.

    Along all eigenvectors, this is exact where the gradient of each sample's loss lies in the
    range of its Hessian, as with cross-entropy and square loss.
    """

    tolerance = 1e-2

    def __init__(self, k: int | None) -> None:
        """Choose the directions.

        Args:
            k: How many leading ones; None for all.
        """
        self._k = k
        if k is None:
            self.name = "damped_newton"
            self.label = Label("damped Newton step (vivit)", "damped Newton")
            self.description = "the gradient times the inverse of the exact damped GGN"
        else:
            self.name = "damped_newton_leading"
            self.label = Label(f"Newton step along {k} (vivit)", f"Newton along {k}")
            self.description = f"the damped Newton step along the {k} leading eigenvectors"

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Import only: the forward pass belongs to the measured work."""
        refuse_others(self, task, (Computed.PRECONDITIONED,))
        import vivit  # here, since the name is the original's in the environment of peers

        return lambda: self._step(vivit, instance)

    def check(
        self, outcome: Outcome, instance: Instance, task: Task, reference: Reference
    ) -> Check:
        """Norm of the error relative to the norm of the same step in float64."""
        exact = self.prepare(instance.double(), task)().values
        error = relative_error(outcome.values, exact)
        return Check(error, self.tolerance, "the same step in float64")

    def _step(self, vivit: Any, instance: Instance) -> Outcome:
        data, names = (instance.inputs, instance.targets), [*known_parameters(instance.model)]
        ggn = vivit.GGN(instance.model, instance.loss_func, data, params=names)
        k = None if self._k is None else min(self._k, ggn.num_columns, ggn.shape[0])
        step = ggn.flatten(ggn.newton_step(DAMPING, k=k, rank_tolerance=RANK_TOLERANCE))
        return Outcome(step, details={"preconditioned_parameters": len(step)})
