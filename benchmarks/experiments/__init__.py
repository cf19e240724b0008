"""The published experiments, one file each: what is asked, the grid in three scales, the work."""

from benchmarks.experiments import (
    critical_batch_eigenpair,
    critical_batch_eigenvalues,
    critical_batch_newton,
    gradient_curvature_variance,
    gram_power,
    kfac_step,
    lanczos_spectrum,
    learning_rate_grid,
    linear_gram,
    loss_landscape,
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
            lanczos_spectrum,
            loss_landscape,
            gradient_curvature_variance,
            kfac_step,
            second_order_training,
        )
    ],
)

__all__ = ["EXPERIMENTS", "Experiment"]
