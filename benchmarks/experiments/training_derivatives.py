"""Slopes and curvatures along the eigenvectors of the GGN, early and late in a training."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from benchmarks.experiments.base import Job, Request, Scale, ok
from benchmarks.experiments.eigenspaces import Network, signal_to_noise
from benchmarks.experiments.trainings import TrainingExperiment, Watched
from benchmarks.records.label import Label
from benchmarks.records.record import Quantity
from benchmarks.run.cells import Cell
from benchmarks.run.journal import Answer
from benchmarks.training.recipe import Optimizer

PUBLISHED_EPOCHS = (0, 5, 68)
"""Of 100."""

SIZE = 128
"""Of the mini-batch."""


class TrainingDerivatives(TrainingExperiment):
    """First and second derivatives of each sample along all eigenvectors of a mini-batch."""

    name = "training-derivatives"
    label = Label("directional derivatives during training")
    description = "where does the gradient lie, and how noisy are slope and curvature?"
    published = "3c3d on CIFAR-10, SGD, batch of 128, after 0, 5 and 68 of 100 epochs"
    scaled = (
        "An MLP and a CNN on real handwritten digits instead of 3c3d on CIFAR-10, after 0, 3 and "
        "41 of 60 epochs."
    )
    problems = MappingProxyType(
        {
            Scale.SMOKE: ("digits_mlp",),
            Scale.QUICK: ("digits_mlp", "digits_cnn"),
            Scale.PAPER: ("cifar10_3c3d",),
        }
    )
    optimizers = (Optimizer.SGD,)
    least_samples = SIZE

    def jobs(self, request: Request) -> list[Job]:
        """A training for each problem, then its three moments."""
        found: list[Job] = []
        for recipe in self.recipes(request):
            epochs = tuple(
                dict.fromkeys(_of_published(e, recipe.epochs) for e in PUBLISHED_EPOCHS)
            )
            watched = Watched(self, recipe, request, epochs)
            found += [watched.job, *(self._job(watched, epoch) for epoch in epochs)]
        return found

    def _job(self, watched: Watched, epoch: float) -> Job:
        cell = watched.cell("gram", Quantity.DERIVATIVES, epoch=epoch, batch_size=SIZE)
        title = f"{self.name}: {watched.recipe.title}, epoch {epoch:g}"
        return Job(title, (cell,), partial(_answers, watched, epoch, cell))


def _of_published(epoch: int, epochs: int) -> float:
    """The moment of a training that is as far as a published one."""
    return float(round(epoch * epochs / 100))


def _answers(watched: Watched, epoch: float, cell: Cell) -> Mapping[Cell, Answer]:
    network = Network(watched.at(epoch).train)
    ggn = network.ggn(network.drawn(watched.recipe.seed)[:SIZE])
    pairs = ggn.eigh()
    found = ggn.directional_derivatives()
    gradient = sum(float(g.double().square().sum()) for g in ggn.gradient().values())
    return {
        cell: ok(
            pairs.values.tolist(),
            outputs=network.outputs,
            num_samples=len(found.gammas),
            slopes=found.gammas.mean(dim=0).tolist(),
            squared_gradient=gradient,
            slope_signal_to_noise=signal_to_noise(found.gammas),
            curvature_signal_to_noise=signal_to_noise(found.lambdas),
        )
    }


EXPERIMENT = TrainingDerivatives()
