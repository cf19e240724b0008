"""Baseline: LOBPCG on curvlinops' matrix-free GGN."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import lobpcg

from benchmarks.measure.accuracy import Outcome
from benchmarks.methods.base import Method, NotApplicableError, refuse_others
from benchmarks.methods.conventions import matrix_free_ggn
from benchmarks.methods.lanczos import Counted
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed, Task


@dataclass(frozen=True)
class Settings:
    """When the iteration ends.

    Attributes:
        tolerance: Largest residual, relative to the largest Ritz value of the start.
        most_iterations: Of the block.
    """

    tolerance: float = 1e-3
    most_iterations: int = 100


BLOCKS = 5
"""Times the number of pairs: what scipy asks of the size of a matrix for this iteration."""


class Lobpcg(Method):
    """Leading eigenpairs by a locally optimal block iteration, without a preconditioner.

    Knyazev, "Toward the optimal preconditioned eigensolver" (2001). It starts with one step of
    block power iteration from random vectors, and ends when every residual is below the tolerance
    times the largest Ritz value of that start: as ARPACK's, relative to an eigenvalue.
    """

    name = "lobpcg"
    label = Label("LOBPCG (scipy, curvlinops)", "LOBPCG")
    description = "scipy's lobpcg on curvlinops' matrix-free GGN"
    tolerance = 1e-2
    settings = Settings()

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Draw the first block."""
        refuse_others(self, task, (Computed.PAIRS,))
        rule = self.settings
        shape = size, k = instance.num_parameters, task.k or 0
        if size < BLOCKS * k:
            raise NotApplicableError(
                f"{self.name} needs at least {BLOCKS} parameters for each of {k} pairs, got "
                f"{size}: scipy decomposes smaller matrices as a whole"
            )
        start = np.random.default_rng(0).standard_normal(shape, np.float32)

        def run() -> Outcome:
            products = Counted(matrix_free_ggn(instance).to_scipy(dtype=np.float32))
            block, _ = np.linalg.qr(products.matmat(start))
            largest = float(np.linalg.eigvalsh(block.T @ products.matmat(block)).max())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it did not converge: checked afterwards
                values, vectors = lobpcg(
                    products, block, tol=rule.tolerance * largest, maxiter=rule.most_iterations
                )
            order = np.argsort(values)
            return Outcome(
                torch.from_numpy(values[order].astype(np.float32)),
                (torch.from_numpy(vectors[:, order].T.astype(np.float32).copy()),),
                details={"products": products.count},
            )

        return run
