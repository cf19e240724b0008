"""The loss along leading eigenvectors, beside what slopes and curvatures predict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.experiments.base import ok
from benchmarks.experiments.eigenspaces import Network, flat
from benchmarks.experiments.trainings import MomentsOfTrainings, Watched
from benchmarks.records.label import Label
from benchmarks.records.record import Quantity
from benchmarks.run.cells import Cell
from benchmarks.run.journal import Answer
from benchmarks.training.data import Sets
from benchmarks.training.loop import evaluate
from vivit import Lanczos

DISTANCE, POINTS = 1.0, 21
"""As in the Deep Curvature Suite, to both sides."""

DIRECTIONS = 3
"""Leading eigenvectors; the plane is that of the first two."""

LINE, PLANE = "direction", "plane"


class LossLandscape(MomentsOfTrainings):
    """Loss and accuracy of training and test set along lines and in a plane."""

    name = "loss-landscape"
    label = Label("loss landscape")
    description = "does the loss along eigenvectors follow the quadratic that the GGN predicts?"
    published = (
        "Deep Curvature Suite: loss and accuracy along eigenvectors of VGG-16 on CIFAR-100, "
        "training and test, up to a distance of 1 in 21 points"
    )
    scaled = (
        "An MLP and a CNN on real handwritten digits, before and during a training, where the "
        "profile paper has 3c3d on CIFAR-10."
    )
    least_samples = 2
    moments = (0, 68)

    def cells(self, watched: Watched, epoch: float) -> list[Cell]:
        """Each line, and the plane."""
        settings = {"epoch": epoch, "distance": DISTANCE, "points": POINTS}
        return [
            *(
                watched.cell(LINE, Quantity.LOSS, index=k, **settings)
                for k in range(1, DIRECTIONS + 1)
            ),
            watched.cell(PLANE, Quantity.LOSS, **settings),
        ]

    def answers(
        self, watched: Watched, epoch: float, cells: Sequence[Cell]
    ) -> Mapping[Cell, Answer]:
        """Along the leading eigenvectors of the GGN of all training data."""
        sets = watched.at(epoch)
        network = Network(sets.train)
        full = network.full()
        pairs = full.eigh(k=DIRECTIONS, method=Lanczos())
        vectors = flat(pairs).flip(1)  # the first has the largest eigenvalue
        slopes = (full.flatten(full.gradient()) @ vectors).tolist()
        curvatures = pairs.values.flip(0).tolist()
        del full  # it refuses parameters that are not those of its forward pass
        steps = torch.linspace(-DISTANCE, DISTANCE, POINTS, dtype=vectors.dtype).tolist()
        *lines, plane = cells
        found = {
            cell: _answer(
                sets, vectors[:, k : k + 1], slopes[k : k + 1], curvatures[k : k + 1], steps
            )
            for k, cell in enumerate(lines)
        }
        return found | {plane: _answer(sets, vectors[:, :2], slopes[:2], curvatures[:2], steps)}


def _answer(
    sets: Sets,
    directions: Tensor,
    slopes: Sequence[float],
    curvatures: Sequence[float],
    steps: Sequence[float],
) -> Answer:
    """Loss and accuracy on a grid, the last direction fastest."""
    model, device = sets.train.model, directions.device
    grid = np.stack(np.meshgrid(*[steps] * directions.shape[1], indexing="ij"), axis=-1)
    seen: list[list[float | None]] = []
    for coefficients in grid.reshape(-1, directions.shape[1]):
        shift = directions @ torch.as_tensor(coefficients).to(device, directions.dtype)
        with moved(model, shift):
            seen.append([x for part in (sets.train, sets.test) for x in evaluate(part)])
    train_loss, train_accuracy, test_loss, test_accuracy = (
        list(x) for x in zip(*seen, strict=True)
    )
    return ok(
        [float(x) for x in train_loss if x is not None],
        steps=[*steps],
        slopes=[*slopes],
        curvatures=[*curvatures],
        train_accuracy=train_accuracy,
        test_loss=test_loss,
        test_accuracy=test_accuracy,
    )


@contextmanager
def moved(model: nn.Module, shift: Tensor) -> Iterator[None]:
    """Within, the trained parameters of a model are elsewhere.

    Args:
        model: The model.
        shift: What is added, shape ``[D]``, in the order of its parameters.

    Yields:
        Nothing.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in parameters]
    parts = shift.split([p.numel() for p in parameters])
    with torch.no_grad():
        for p, part in zip(parameters, parts, strict=True):
            p.add_(part.reshape(p.shape))
    try:
        yield
    finally:
        with torch.no_grad():
            for p, x in zip(parameters, before, strict=True):
                p.copy_(x)


EXPERIMENT = LossLandscape()
