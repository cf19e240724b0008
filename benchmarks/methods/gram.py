"""Ours: the exact Gram matrix of `vivit.GGN`."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from benchmarks.methods.base import Outcome, Task, spectral_error
from benchmarks.problems import Instance
from vivit import GGN


class Gram:
    """Eigenvalues or eigenpairs through the Gram matrix, layer by layer, V never stored."""

    name = "gram"
    description = "vivit: exact Gram matrix, contracted layer by layer, V never stored"
    tolerance = 1e-4

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Nothing to prepare: the forward pass belongs to the measured work."""

        def run() -> Outcome:
            ggn = GGN(instance.model, instance.loss_func, (instance.inputs, instance.targets))
            values = ggn.eigvalsh() if task.k is None else ggn.eigh(k=task.k).values
            return Outcome(values, {"num_columns": ggn.num_columns})

        return run

    def error(self, outcome: Outcome, instance: Instance, reference: Tensor) -> float:
        """Error of the eigenvalues."""
        return spectral_error(outcome.values, reference)
