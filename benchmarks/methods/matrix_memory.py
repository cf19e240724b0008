"""The yardstick of critical batch sizes: what no method through the Gram matrix can do without."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.measure.accuracy import Check, Outcome, Reference
from benchmarks.methods.base import Method, NotApplicableError
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed, Task


class MatrixMemory(Method):
    """Memory for the Gram matrix and for what its eigensolver holds beside it, and no work.

    The batch size at which these alone fill a budget bounds what a method can reach.
    """

    name = "matrix_memory"
    label = Label("memory of the matrices", "matrices")
    description = (
        "yardstick: memory for the Gram matrix and for what its eigensolver holds beside it, and "
        "nothing else"
    )
    tolerance = 0.0

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Find the number of columns."""
        from vivit import GGN  # here, since the name is the original's in its environment
        from vivit.gram.spectrum import EIGENVALUE_COPIES, EIGENVECTOR_COPIES

        copies = {
            Computed.EIGENVALUES: EIGENVALUE_COPIES,
            Computed.NEWTON_STEP: EIGENVECTOR_COPIES,
        }
        if task.computed not in copies or not task.is_plain:
            raise NotApplicableError(
                "The memory of matrices is a yardstick of eigenvalues and steps, not of: "
                f"{task.title}."
            )
        one = instance.first(1)
        per_sample = GGN(one.model, one.loss_func, (one.inputs, one.targets)).num_columns
        size, number = per_sample * instance.num_samples, 1 + copies[task.computed]

        def run() -> Outcome:
            like = instance.like
            held = [torch.ones(size, size, dtype=like.dtype, device=like.device)]
            while len(held) < number:
                held.append(held[0].clone())
            return Outcome(held[-1][0].clone(), details={"num_columns": size, "matrices": number})

        return run

    def check(
        self, outcome: Outcome, instance: Instance, task: Task, reference: Reference
    ) -> Check:
        """The matrices hold ones."""
        error = float((outcome.values - 1).abs().max())
        return Check(error, self.tolerance, "ones")
