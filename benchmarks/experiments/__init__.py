"""The published experiments, one file each: what is asked, the grid in three scales, the work."""

from benchmarks.experiments import (
    critical_batch_eigenpair,
    critical_batch_eigenvalues,
    critical_batch_newton,
    gram_power,
    learning_rate_grid,
    linear_gram,
    noisy_quadratic,
    power_tolerance,
    runtime_eigenpairs,
    second_order_training,
    spectral_density,
    training_derivatives,
    training_overlap,
)
from benchmarks.experiments.base import Experiment
from benchmarks.records.registry import Registry

EXPERIMENTS: Registry[Experiment] = Registry(
    "experiment",
    [
        module.EXPERIMENT
        for module in (
            spectral_density,
            critical_batch_eigenvalues,
            critical_batch_eigenpair,
            critical_batch_newton,
            runtime_eigenpairs,
            power_tolerance,
            gram_power,
            linear_gram,
            training_overlap,
            training_derivatives,
            learning_rate_grid,
            noisy_quadratic,
            second_order_training,
        )
    ],
)

__all__ = ["EXPERIMENTS", "Experiment"]
