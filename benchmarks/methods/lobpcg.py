"""Baseline: LOBPCG on curvlinops' matrix-free GGN."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse.linalg import lobpcg

from benchmarks.measure.accuracy import Outcome
from benchmarks.methods.base import Method, refuse_others
from benchmarks.methods.conventions import matrix_free_ggn
from benchmarks.methods.lanczos import TOLERANCE, Counted
from benchmarks.problems.problem import Instance
from benchmarks.records.tasks import Computed, Task

MAX_ITERATIONS = 100


class Lobpcg(Method):
    """Leading eigenpairs by a locally optimal block iteration, without a preconditioner.

    Knyazev, "Toward the optimal preconditioned eigensolver" (2001). It starts with one step of
    block power iteration from random vectors, and ends when every residual is below the tolerance
    times the largest Ritz value of that start: as ARPACK's, relative to an eigenvalue.
    """

    name = "lobpcg"
    description = "scipy's LOBPCG (tol 1e-3, at most 100 iterations) on curvlinops' GGN"
    tolerance = 1e-2

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Draw the first block."""
        refuse_others(self, task, (Computed.PAIRS,))
        shape = (instance.num_parameters, task.k or 0)
        start = np.random.default_rng(0).standard_normal(shape, np.float32)

        def run() -> Outcome:
            products = Counted(matrix_free_ggn(instance).to_scipy(dtype=np.float32))
            block, _ = np.linalg.qr(products.matmat(start))
            largest = float(np.linalg.eigvalsh(block.T @ products.matmat(block)).max())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it did not converge: checked afterwards
                values, vectors = lobpcg(
                    products, block, tol=TOLERANCE * largest, maxiter=MAX_ITERATIONS
                )
            order = np.argsort(values)
            return Outcome(
                torch.from_numpy(values[order].astype(np.float32)),
                (torch.from_numpy(vectors[:, order].T.astype(np.float32).copy()),),
                details={"products": products.count},
            )

        return run
