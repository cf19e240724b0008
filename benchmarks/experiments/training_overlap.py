"""How eigenspaces of the GGN, of its approximations and of the Hessian agree during a training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

from benchmarks.experiments.base import Job, Request, Scale, attempt, ok
from benchmarks.experiments.eigenspaces import (
    APPROXIMATIONS,
    Network,
    errors,
    flat,
    leading,
    overlap,
    signal_to_noise,
)
from benchmarks.experiments.trainings import (
    CHECKPOINTS,
    PUBLISHED,
    TrainingExperiment,
    Watched,
    moments,
)
from benchmarks.records.label import Label
from benchmarks.records.record import Quantity
from benchmarks.run.cells import Cell
from benchmarks.run.journal import Answer
from vivit import GGN, Lanczos

SIZES = (2, 8, 32, 128)
"""Of the mini-batches whose eigenspaces are compared with that of all data."""

DRAWS = {Scale.SMOKE: 1, Scale.QUICK: 5, Scale.PAPER: 5}
"""Mini-batches of each size. Published were 5 for overlaps, and 3 (All-CNN-C: 1) for errors."""

LARGEST = SIZES[-1]
"""Size of the mini-batch that approximations are compared with."""


class TrainingOverlap(TrainingExperiment):
    """Overlaps, errors of curvature and signal-to-noise ratios at checkpoints."""

    name = "training-overlap"
    label = Label("eigenspaces during training")
    description = (
        "how close is the curvature of a mini-batch, or of an approximation, to the full?"
    )
    published = (
        "2c2d, 3c3d, ResNet-32 and All-CNN-C, SGD and Adam, 100 to 350 epochs, 100 checkpoints; "
        "leading eigenspaces, as many vectors as classes"
    )
    scaled = (
        "An MLP and a CNN on real handwritten digits (1437 training images) instead of four "
        "networks on Fashion-MNIST and CIFAR; batches of 32, 60 epochs, 20 checkpoints."
    )
    problems = MappingProxyType(
        {
            Scale.SMOKE: ("digits_mlp",),
            Scale.QUICK: ("digits_mlp", "digits_cnn"),
            Scale.PAPER: tuple(PUBLISHED),
        }
    )
    least_samples = LARGEST

    def jobs(self, request: Request) -> list[Job]:
        """A training for each problem and optimizer, then its checkpoints one by one."""
        found: list[Job] = []
        for recipe in self.recipes(request):
            epochs = tuple(moments(recipe.epochs, CHECKPOINTS[request.scale]))
            watched = Watched(self, recipe, request, epochs)
            checkpoints = [Checkpoint(watched, epoch, DRAWS[request.scale]) for epoch in epochs]
            found += [watched.job, *(checkpoint.job() for checkpoint in checkpoints)]
        return found


@dataclass
class Checkpoint:
    """What is compared at one moment of a training.

    Attributes:
        watched: The training.
        epoch: The moment.
        draws: Mini-batches of each size.
    """

    watched: Watched
    epoch: float
    draws: int

    def job(self) -> Job:
        """All of it; the Hessian, which not every network allows, may fail by itself."""
        recipe = self.watched.recipe
        title = f"{self.watched.experiment.name}: {recipe.title}, epoch {self.epoch:.3g}"
        hessian, others = self._cell("hessian", Quantity.OVERLAP), self._cells()

        def run() -> Mapping[Cell, Answer]:
            network = Network(self.watched.at(self.epoch).train)
            full = network.full()
            space = flat(full.eigh(k=network.outputs, method=Lanczos()))
            return {
                **attempt([hessian], lambda: {hessian: _of_hessian(network, space)}),
                **attempt([*others], lambda: self._of_batches(network, full, space, others)),
            }

        return Job(title, (hessian, *others), run)

    def _cells(self) -> dict[Cell, int | str]:
        """What is compared of mini-batches, and what it is called below."""
        names: dict[int | str, Cell] = {
            **{n: self._cell("mini_batch", Quantity.OVERLAP, batch_size=n) for n in SIZES},
            **{name: self._cell(name, Quantity.OVERLAP) for name in APPROXIMATIONS},
            **{
                f"{name} error": self._cell(name, Quantity.CURVATURE_ERROR)
                for name in ("mini_batch", *APPROXIMATIONS)
            },
            **{
                name: self._cell(name, Quantity.SIGNAL_TO_NOISE) for name in ("slope", "curvature")
            },
        }
        return {cell: name for name, cell in names.items()}

    def _cell(self, method: str, quantity: Quantity, **parameters: float) -> Cell:
        given = {"epoch": self.epoch, "draws": self.draws, **parameters}
        return self.watched.cell(method, quantity, **given)

    def _of_batches(
        self, network: Network, full: GGN, space: Tensor, names: Mapping[Cell, int | str]
    ) -> Mapping[Cell, Answer]:
        count, results = network.outputs, dict[int | str, list[float]]()

        def add(name: int | str, values: Iterable[float | None]) -> None:
            known = [value for value in values if value is not None]
            results.setdefault(name, []).extend(known)

        for draw in range(self.draws):
            seed = self.watched.recipe.seed * self.draws + draw
            order = network.drawn(seed)
            for size in SIZES:
                found = leading(network.ggn(order[:size]), count)
                add(size, [overlap(flat(found), space, count)])
            add("mini_batch error", errors(found, full))
            derivatives = network.ggn(order[:LARGEST]).directional_derivatives(k=count)
            add("slope", signal_to_noise(derivatives.gammas))
            add("curvature", signal_to_noise(derivatives.lambdas))
            for name in APPROXIMATIONS:
                options = network.options(name, LARGEST, seed)
                approximate = leading(network.ggn(order[:LARGEST], **options), count)
                add(name, [overlap(flat(approximate), flat(found), count)])
                add(f"{name} error", errors(approximate, full))
        facts = {"vectors": count, "num_samples": network.train.num_samples}
        return {cell: ok(results[name], **facts) for cell, name in names.items()}


def _of_hessian(network: Network, space: Tensor) -> Answer:
    """Overlap of its leading eigenspace with that of the GGN of all data."""
    values, vectors = network.hessian_pairs()
    return ok([overlap(space, vectors, network.outputs)], eigenvalues=sorted(values))


EXPERIMENT = TrainingOverlap()
