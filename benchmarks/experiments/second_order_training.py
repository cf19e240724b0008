"""Trainings by steps that know the curvature of their mini-batch, beside SGD and Adam."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from benchmarks.experiments.base import Job, Request, Scale
from benchmarks.experiments.trainings import ADAM, SGD, TrainingExperiment, Watched, recipe_of
from benchmarks.records.label import Label
from benchmarks.training.curvature import (
    BootstrapNewton,
    Curvature,
    Directions,
    LanczosNewton,
    Newton,
    Start,
)
from benchmarks.training.recipe import Optimizer, Recipe

BATCH = 128

EPOCHS = {Scale.SMOKE: 1, Scale.QUICK: 10, Scale.PAPER: 20}


@dataclass(frozen=True)
class Setting:
    """What is tried.

    Attributes:
        optimizer: What makes the steps.
        rate: Learning rate.
    """

    optimizer: Optimizer | Curvature
    rate: float = 1.0


TRIED: Mapping[str, tuple[Setting, ...]] = MappingProxyType(
    {
        SGD.value: tuple(Setting(SGD, rate) for rate in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)),
        ADAM.value: tuple(Setting(ADAM, rate) for rate in (1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3)),
        Newton.value: tuple(
            Setting(Newton(damping, directions))
            for directions in Directions
            for damping in (1.0, 0.1, 0.01)
        ),
        BootstrapNewton.value: tuple(
            Setting(BootstrapNewton(Directions.LEADING), rate)
            for rate in (0.03, 0.1, 0.2, 0.3, 0.5, 1.0)
        ),
        LanczosNewton.value: tuple(
            Setting(LanczosNewton(damping, 10, start))
            for start, dampings in (
                (Start.RANDOM, (10.0, 1.0, 0.1)),
                (Start.GRADIENT, (1.0, 0.1, 0.01)),
            )
            for damping in dampings
        ),
    }
)
"""Equally many of each optimizer; the published damping of 10 among them."""


class SecondOrderTraining(TrainingExperiment):
    """A training for each setting of each optimizer."""

    name = "second-order-training"
    label = Label("second-order training")
    description = "do steps that know the curvature train better, per step and per second?"
    published = (
        "the step of a damped Lanczos Gauss-Newton optimizer, learning rate 1 and damping 10 "
        "(Deep Curvature Suite, Granziol et al. 2019); of damped Newton steps with constant and "
        "bootstrap damping, steps on a noisy quadratic, but no training (ViViT)"
    )
    scaled = (
        "An MLP and a CNN on real handwritten digits, batches of 128, 10 epochs; six settings of "
        "each optimizer. The profile paper has 3c3d and 2c2d, 20 epochs, and the same settings."
    )
    problems = MappingProxyType(
        {
            Scale.SMOKE: ("digits_mlp",),
            Scale.QUICK: ("digits_mlp", "digits_cnn"),
            Scale.PAPER: ("cifar10_3c3d", "fmnist_2c2d"),
        }
    )

    def recipes(self, request: Request) -> list[Recipe]:
        """The trainings: of each problem and optimizer all settings, or the first."""
        count = 1 if request.scale is Scale.SMOKE else None
        found: list[Recipe] = []
        for problem in request.problems or self.problems[request.scale]:
            common = replace(
                recipe_of(request, problem, SGD), batch_size=BATCH, epochs=EPOCHS[request.scale]
            )
            found += [
                replace(common, optimizer=setting.optimizer, learning_rate=setting.rate)
                for settings in TRIED.values()
                for setting in settings[:count]
            ]
        return found

    def jobs(self, request: Request) -> list[Job]:
        """The trainings."""
        return [Watched(self, recipe, request).job for recipe in self.recipes(request)]


EXPERIMENT = SecondOrderTraining()
