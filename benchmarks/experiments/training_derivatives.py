"""Slopes and curvatures along the eigenvectors of the GGN, early and late in a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.experiments.base import ok
from benchmarks.experiments.eigenspaces import Network, signal_to_noise
from benchmarks.experiments.trainings import MomentsOfTrainings, Watched
from benchmarks.records.label import Label
from benchmarks.records.record import Quantity
from benchmarks.run.cells import Cell
from benchmarks.run.journal import Answer

SIZE = 128
"""Of the mini-batch."""


class TrainingDerivatives(MomentsOfTrainings):
    """First and second derivatives of each sample along all eigenvectors of a mini-batch."""

    name = "training-derivatives"
    label = Label("directional derivatives during training")
    description = "where does the gradient lie, and how noisy are slope and curvature?"
    published = "3c3d on CIFAR-10, SGD, batch of 128, after 0, 5 and 68 of 100 epochs"
    scaled = (
        "An MLP and a CNN on real handwritten digits instead of 3c3d on CIFAR-10, after 0, 3 and "
        "41 of 60 epochs."
    )
    least_samples = SIZE

    def cells(self, watched: Watched, epoch: float) -> list[Cell]:
        """All of it together."""
        return [watched.cell("gram", Quantity.DERIVATIVES, epoch=epoch, batch_size=SIZE)]

    def answers(
        self, watched: Watched, epoch: float, cells: Sequence[Cell]
    ) -> Mapping[Cell, Answer]:
        """Along the eigenvectors of a single mini-batch."""
        network = Network(watched.at(epoch).train)
        ggn = network.ggn(network.drawn(watched.recipe.seed)[:SIZE])
        pairs = ggn.eigh()
        found = ggn.directional_derivatives()
        gradient = sum(float(g.double().square().sum()) for g in ggn.gradient().values())
        answer = ok(
            pairs.values.tolist(),
            outputs=network.outputs,
            num_samples=len(found.gammas),
            slopes=found.gammas.mean(dim=0).tolist(),
            squared_gradient=gradient,
            slope_signal_to_noise=signal_to_noise(found.gammas),
            curvature_signal_to_noise=signal_to_noise(found.lambdas),
        )
        return dict.fromkeys(cells, answer)


EXPERIMENT = TrainingDerivatives()
