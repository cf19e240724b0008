"""Baseline: stochastic Lanczos quadrature, for the spectral density."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from curvlinops.papyan2020traces.spectrum import fast_lanczos

from benchmarks.measure.accuracy import Outcome
from benchmarks.methods.base import Method, refuse_others
from benchmarks.methods.conventions import matrix_free_ggn
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed, Task


@dataclass(frozen=True)
class Settings:
    """Of the quadrature, as in the Deep Curvature Suite.

    Attributes:
        steps: Lanczos steps from one random vector.
    """

    steps: int = 100


class Quadrature(Method):
    """Ritz values and weights of one Lanczos run on the matrix-free GGN.

    Without reorthogonalization, by curvlinops, which follows Papyan, "Traces of class/cross-class
    structure pervade deep learning spectra" (2020), algorithm 2.
    """

    name = "quadrature"
    label = Label("stochastic Lanczos quadrature (curvlinops)", "Lanczos quadrature")
    description = "Lanczos steps from one random vector: Ritz values and weights for the density"
    tolerance = 0.9
    """Distance of distributions, in means of the eigenvalues: that of nothing but zeros is one."""
    settings = Settings()

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Nothing to prepare."""
        refuse_others(self, task, (Computed.DENSITY,))
        steps = min(self.settings.steps, instance.num_parameters)

        def run() -> Outcome:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                values, vectors = fast_lanczos(matrix_free_ggn(instance), steps)
            return Outcome(values, weights=vectors[0] ** 2, details={"products": steps})

        return run
