"""Baseline: scipy's Lanczos solver on curvlinops' matrix-free GGN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from benchmarks.measure.accuracy import Outcome
from benchmarks.methods.base import Method, refuse_others
from benchmarks.methods.conventions import matrix_free_ggn
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed, Task


@dataclass(frozen=True)
class Settings:
    """Of ARPACK.

    Attributes:
        tolerance: Relative accuracy of each eigenvalue.
    """

    tolerance: float = 1e-3


class Lanczos(Method):
    """Leading eigenpairs by ARPACK's implicitly restarted Lanczos iteration.

    The largest in the algebraic sense are asked for, which is the same as in magnitude for a
    positive semi-definite matrix. Vectors are single precision, as the model's.
    """

    name = "lanczos"
    label = Label("Lanczos (scipy, curvlinops)", "Lanczos")
    description = "scipy's eigsh, which is ARPACK, on curvlinops' matrix-free GGN"
    tolerance = 1e-2
    takes_batches = True
    settings = Settings()

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Draw the first vector."""
        refuse_others(self, task, (Computed.PAIRS,))
        tolerance = self.settings.tolerance
        start = np.random.default_rng(0).standard_normal(instance.num_parameters, np.float32)

        def run() -> Outcome:
            products = Counted(matrix_free_ggn(instance).to_scipy(dtype=np.float32))
            values, vectors = eigsh(products, k=task.k, which="LA", tol=tolerance, v0=start)
            order = np.argsort(values)
            return Outcome(
                torch.from_numpy(values[order]),
                (torch.from_numpy(vectors[:, order].T.copy()),),
                details={"products": products.count},
            )

        return run


class Counted(LinearOperator):
    """An operator that counts its products with vectors.

    Attributes:
        count: How many there were.
    """

    def __init__(self, operator: LinearOperator) -> None:
        """Wrap an operator."""
        super().__init__(operator.dtype, operator.shape)
        self.count, self._operator = 0, operator

    def _matvec(self, v: np.ndarray) -> np.ndarray:
        self.count += 1
        return self._operator.matvec(v)

    def _matmat(self, block: np.ndarray) -> np.ndarray:
        self.count += block.shape[1]
        return self._operator.matmat(block)
