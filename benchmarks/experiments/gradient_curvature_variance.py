"""How slope and curvature vary between mini-batches, and whether one batch can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from benchmarks.experiments.base import Scale, ok
from benchmarks.experiments.eigenspaces import Network, flat
from benchmarks.experiments.trainings import MomentsOfTrainings, Watched
from benchmarks.records.label import Label
from benchmarks.records.record import Quantity
from benchmarks.run.cells import Cell
from benchmarks.run.journal import Answer
from vivit import GGN

SIZE = 128
"""Of all mini-batches."""

BATCHES = MappingProxyType({Scale.SMOKE: 3, Scale.QUICK: 50, Scale.PAPER: 50})
"""Each drawn without repetition from the samples that the one that predicts has not."""


class GradientCurvatureVariance(MomentsOfTrainings):
    """Means and variances between mini-batches, measured and predicted by a single one."""

    name = "gradient-curvature-variance"
    label = Label("slope and curvature between mini-batches")
    description = "does one mini-batch tell how slope and curvature vary between mini-batches?"
    published = (
        "Deep Curvature Suite: mean and variance of gradient and curvature between mini-batches, "
        "measured on many of them"
    )
    scaled = (
        "An MLP and a CNN on real handwritten digits, where the profile paper has 3c3d on "
        "CIFAR-10; 50 mini-batches of 128 samples each."
    )
    least_samples = 3 * SIZE

    def cells(self, watched: Watched, epoch: float) -> list[Cell]:
        """What one mini-batch predicts, and what several show."""
        count = BATCHES[watched.request.scale]
        settings = {"epoch": epoch, "batch_size": SIZE}
        return [
            watched.cell("gram", Quantity.CURVATURE, **settings),
            watched.cell("mini_batch", Quantity.CURVATURE, **settings, batches=count),
        ]

    def answers(
        self, watched: Watched, epoch: float, cells: Sequence[Cell]
    ) -> Mapping[Cell, Answer]:
        """Along the leading eigenvectors of the one that predicts, as many as classes."""
        network, seed = Network(watched.at(epoch).train), watched.recipe.seed
        count = BATCHES[watched.request.scale]
        order = network.drawn(seed)
        one, others = network.ggn(order[:SIZE]), order[SIZE:]
        vectors = flat(one.eigh(k=network.outputs))
        derivatives = one.directional_derivatives(k=network.outputs)
        slopes, curvatures = along(one, vectors)
        share = SIZE / len(others)
        generator = torch.Generator().manual_seed(seed)
        seen = []
        for _ in range(count):
            chosen = torch.randperm(len(others), generator=generator)[:SIZE]
            seen.append(along(network.ggn(others[chosen.to(others.device)]), vectors))
        predicted, measured = cells
        return {
            predicted: ok(
                curvatures.tolist(),
                slopes=slopes.tolist(),
                slope_variances=variance_of_means(derivatives.gammas, share).tolist(),
                curvature_variances=variance_of_means(derivatives.lambdas, share).tolist(),
            ),
            measured: _measured(seen),
        }


def along(ggn: GGN, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and curvature of a mini-batch.

    Args:
        ggn: Of the mini-batch.
        vectors: Unit vectors as columns, shape ``[D, K]``.

    Returns:
        ``g^T e_k`` and ``e_k^T G e_k``, shape ``[K]`` each, in double precision.
    """
    product = ggn @ vectors
    assert isinstance(product, Tensor)
    gradient = ggn.flatten(ggn.gradient())
    return (gradient @ vectors).double(), (vectors * product).sum(dim=0).double()


def variance_of_means(samples: Tensor, share: float) -> Tensor:
    """The variance of the mean over a mini-batch, as the samples of one predict it.

    A mini-batch is drawn without repetition, so the variance shrinks by the share of the samples
    that it has; of all of them, there is none.

    Args:
        samples: Of one mini-batch, for each sample and direction, shape ``[N, K]``.
        share: Of the samples that mini-batches are drawn from, that one has.

    Returns:
        Shape ``[K]``.
    """
    return samples.double().var(dim=0, correction=1) / len(samples) * (1 - share)


def _measured(seen: Sequence[tuple[Tensor, Tensor]]) -> Answer:
    slopes, curvatures = (torch.stack(x) for x in zip(*seen, strict=True))
    return ok(
        curvatures.mean(0).tolist(),
        slopes=slopes.mean(0).tolist(),
        slope_variances=slopes.var(dim=0, correction=1).tolist(),
        curvature_variances=curvatures.var(dim=0, correction=1).tolist(),
    )


EXPERIMENT = GradientCurvatureVariance()
