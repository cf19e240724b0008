"""Which learning rate trains best, of many."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np

from benchmarks.experiments.base import Job, Request, Scale
from benchmarks.experiments.trainings import TrainingExperiment, Watched
from benchmarks.records.label import Label

RATES = tuple(float(f"{rate:.6g}") for rate in np.logspace(-5, 2, 36))

TRIED = {Scale.SMOKE: RATES[15:17], Scale.QUICK: RATES, Scale.PAPER: RATES}


class LearningRateGrid(TrainingExperiment):
    """A training for each learning rate of both optimizers."""

    name = "learning-rate-grid"
    label = Label("learning rates")
    description = "which learning rate reaches the best test accuracy, with SGD and with Adam?"
    published = (
        "ResNet-32 on CIFAR-10, batch of 128, 180 epochs, 36 learning rates from 1e-5 to 100"
    )
    scaled = (
        "A CNN on real handwritten digits instead of ResNet-32 on CIFAR-10; batches of 32, 60 "
        "epochs; all 36 learning rates."
    )
    problems = MappingProxyType(
        {
            Scale.SMOKE: ("digits_mlp",),
            Scale.QUICK: ("digits_cnn",),
            Scale.PAPER: ("cifar10_resnet32",),
        }
    )

    def jobs(self, request: Request) -> list[Job]:
        """The trainings."""
        return [
            Watched(self, replace(recipe, learning_rate=rate), request).job
            for recipe in self.recipes(request)
            for rate in TRIED[request.scale]
        ]


EXPERIMENT = LearningRateGrid()
