"""Ours: the exact Gram matrix of `vivit.GGN`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.methods.base import Outcome, Task, spectral_error
from benchmarks.problems import Instance
from vivit import GGN


class Gram:
    """Eigenvalues or eigenpairs through the Gram matrix, layer by layer, V never stored."""

    name = "gram"
    description = "vivit: exact Gram matrix, contracted layer by layer, V not stored as a whole"
    tolerance = 1e-4

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Nothing to prepare: the forward pass belongs to the measured work."""

        def run() -> Outcome:
            ggn = GGN(instance.model, instance.loss_func, (instance.inputs, instance.targets))
            details = {"num_columns": ggn.num_columns}
            if task.k is None:
                return Outcome(ggn.eigvalsh(), details=details)
            pairs = ggn.eigh(k=task.k)
            vectors = torch.cat([v.flatten(start_dim=1) for v in pairs.vectors.values()], dim=1)
            return Outcome(pairs.values, vectors, details)

        return run

    def error(self, outcome: Outcome, instance: Instance, reference: Tensor) -> float:
        """Error of the eigenvalues."""
        return spectral_error(outcome.values, reference)
