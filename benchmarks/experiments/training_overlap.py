"""How eigenspaces of the GGN, of its approximations and of the Hessian agree during a training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from benchmarks.experiments.base import Computation, Job, Request, Scale, ok
from benchmarks.experiments.eigenspaces import (
    APPROXIMATIONS,
    Network,
    errors,
    flat,
    overlap,
    signal_to_noise,
)
from benchmarks.experiments.trainings import CHECKPOINTS, PUBLISHED, Watched, moments, recipe_of
from benchmarks.records.label import Label
from benchmarks.records.record import Quantity
from benchmarks.run.cells import Cell
from benchmarks.run.journal import Answer
from benchmarks.training.recipe import Optimizer
from vivit import Lanczos

QUICK_PROBLEMS = ("digits_mlp", "digits_cnn")
SMOKE_PROBLEMS = ("digits_mlp",)

SIZES = (2, 8, 32, 128)
"""Of the mini-batches whose eigenspaces are compared with that of all data."""

DRAWS = {Scale.SMOKE: 1, Scale.QUICK: 5, Scale.PAPER: 5}
"""Mini-batches of each size; how many were published is not known."""

LARGEST = SIZES[-1]
"""Size of the mini-batch that approximations are compared with."""


class TrainingOverlap(Computation):
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
    is_small = True

    def jobs(self, request: Request) -> list[Job]:
        """A training for each problem and optimizer, then its checkpoints one by one."""
        of_scale = {
            Scale.SMOKE: SMOKE_PROBLEMS,
            Scale.QUICK: QUICK_PROBLEMS,
            Scale.PAPER: tuple(PUBLISHED),
        }[request.scale]
        found: list[Job] = []
        for problem in request.problems or of_scale:
            for optimizer in Optimizer:
                recipe = recipe_of(request, problem, optimizer)
                epochs = tuple(moments(recipe.epochs, CHECKPOINTS[request.scale]))
                watched = Watched(self, recipe, request, epochs)
                found.append(watched.job)
                for epoch in epochs:
                    found += Checkpoint(watched, epoch, DRAWS[request.scale]).jobs()
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
    _space: Tensor | None = field(default=None, init=False)

    def jobs(self) -> Iterator[Job]:
        """The Hessian, which not every network allows, apart from all else.

        Yields:
            Two jobs, which share the eigenspace of the GGN of all data.
        """
        recipe = self.watched.recipe
        title = f"{self.watched.experiment.name}: {recipe.title}, epoch {self.epoch:.3g}"
        hessian = self._cell("hessian", Quantity.OVERLAP)
        yield Job(f"{title}, Hessian", (hessian,), lambda: {hessian: self._of_hessian()})
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

        def run() -> Mapping[Cell, Answer]:
            answers = self._of_mini_batches()
            self._space = None  # all that is left of the checkpoint
            return {cell: answers[name] for name, cell in names.items()}

        yield Job(f"{title}, mini-batches", (*names.values(),), run)

    def _cell(self, method: str, quantity: Quantity, **parameters: float) -> Cell:
        given = {"epoch": self.epoch, "draws": self.draws, **parameters}
        return self.watched.cell(method, quantity, **given)

    def _network(self) -> Network:
        """The network of this moment; another one must not be asked for meanwhile."""
        return Network(self.watched.at(self.epoch).train)

    def _full_space(self, network: Network) -> Tensor:
        if self._space is None:
            pairs = network.full().eigh(k=network.outputs, method=Lanczos())
            self._space = flat(pairs)
        return self._space

    def _of_hessian(self) -> Answer:
        network = self._network()
        values, vectors = network.hessian_pairs()
        found = overlap(self._full_space(network), vectors, network.outputs)
        return ok([found], eigenvalues=sorted(values))

    def _of_mini_batches(self) -> dict[int | str, Answer]:
        network = self._network()
        full, space, count = network.full(), self._full_space(network), network.outputs
        results: dict[int | str, list[float]] = {}

        def add(name: int | str, values: Sequence[float]) -> None:
            results.setdefault(name, []).extend(values)

        for draw in range(self.draws):
            order = network.drawn(self.watched.recipe.seed * self.draws + draw)
            for size in SIZES:
                found = network.ggn(order[:size]).eigh(k=count)
                add(size, [overlap(flat(found), space, count)])
            add("mini_batch error", errors(found, full))
            derivatives = network.ggn(order[:LARGEST]).directional_derivatives(k=count)
            add("slope", signal_to_noise(derivatives.gammas))
            add("curvature", signal_to_noise(derivatives.lambdas))
            for name in APPROXIMATIONS:
                options = network.options(name, len(order[:LARGEST]), draw)
                approximate = network.ggn(order[:LARGEST], **options).eigh(k=count)
                add(name, [overlap(flat(approximate), flat(found), count)])
                add(f"{name} error", errors(approximate, full))
        facts = {"vectors": count, "num_samples": network.train.num_samples}
        return {name: ok(values, **facts) for name, values in results.items()}


EXPERIMENT = TrainingOverlap()
