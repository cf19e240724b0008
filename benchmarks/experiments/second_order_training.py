"""Trainings by steps that know the curvature of their mini-batch, beside SGD and Adam."""

from __future__ import annotations

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

PRODUCTS = 10
"""With the GGN, of a Lanczos step."""

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


LEADING, ALL = Directions.LEADING, Directions.ALL

TRIED: tuple[tuple[Setting, ...], ...] = (
    tuple(Setting(SGD, rate) for rate in (0.01, 0.03, 0.1, 0.3, 1.0)),
    tuple(Setting(ADAM, rate) for rate in (0.001, 0.003, 0.01, 0.03, 0.1)),
    (
        Setting(Newton(1.0, LEADING)),
        Setting(Newton(0.1, LEADING)),
        Setting(Newton(1.0, ALL)),
        Setting(Newton(0.3, ALL)),
        Setting(Newton(0.1, ALL), 0.5),
    ),
    (
        Setting(BootstrapNewton(LEADING)),
        Setting(BootstrapNewton(LEADING), 0.3),
        Setting(BootstrapNewton(ALL)),
        Setting(BootstrapNewton(ALL), 0.3),
        Setting(BootstrapNewton(ALL), 0.1),
    ),
    (
        Setting(LanczosNewton(10.0, PRODUCTS, Start.RANDOM)),
        Setting(LanczosNewton(1.0, PRODUCTS, Start.RANDOM)),
        Setting(LanczosNewton(1.0, PRODUCTS, Start.GRADIENT)),
        Setting(LanczosNewton(0.3, PRODUCTS, Start.GRADIENT)),
        Setting(LanczosNewton(0.1, PRODUCTS, Start.GRADIENT), 0.5),
    ),
)
"""Of each optimizer equally many; the first of the last one is the published setting."""


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
        "An MLP and a CNN on real handwritten digits, batches of 128, 10 epochs; five settings of "
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
                for settings in TRIED
                for setting in settings[:count]
            ]
        return found

    def jobs(self, request: Request) -> list[Job]:
        """The trainings."""
        return [Watched(self, recipe, request).job for recipe in self.recipes(request)]


EXPERIMENT = SecondOrderTraining()
