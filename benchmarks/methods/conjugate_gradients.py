"""Baseline: conjugate gradients on curvlinops' matrix-free GGN, for damped solves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from curvlinops import CGInverseLinearOperator
from curvlinops.examples import IdentityLinearOperator

from benchmarks.measure.accuracy import Outcome
from benchmarks.measure.vectors import fixed_vector
from benchmarks.methods.base import Method, refuse_others
from benchmarks.methods.conventions import matrix_free_ggn
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import SOLVE_DAMPING, Computed, Task


@dataclass(frozen=True)
class Settings:
    """Of conjugate gradients; curvlinops' own tolerance is that of Gaussian processes, 1.

    Attributes:
        tolerance: Norm of the residual relative to that of the right-hand side, as in scipy.
        most_iterations: At most.
    """

    tolerance: float = 1e-5
    most_iterations: int = 1000


class ConjugateGradients(Method):
    """The inverse operator of curvlinops, whose conjugate gradients are those of GPyTorch."""

    name = "conjugate_gradients"
    label = Label("conjugate gradients (curvlinops)", "conjugate gradients")
    description = (
        "curvlinops' inverse operator by conjugate gradients on its matrix-free damped GGN"
    )
    tolerance = 1e-2
    takes_batches = True
    settings = Settings()

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Draw the right-hand side."""
        refuse_others(self, task, (Computed.SOLVE,))
        vector = fixed_vector(instance.num_parameters).to(instance.like)
        shapes = [(*p.shape,) for p in instance.model.parameters()]
        rule = self.settings

        def run() -> Outcome:
            identity = IdentityLinearOperator(shapes, vector.device, vector.dtype)
            inverse = CGInverseLinearOperator(
                matrix_free_ggn(instance) + SOLVE_DAMPING * identity,
                tolerance=rule.tolerance,
                max_iter=rule.most_iterations,
                max_tridiag_iter=0,
            )
            return Outcome(inverse @ vector)

        return run
