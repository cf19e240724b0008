"""The trainings of the experiments: learning rates, batch sizes, epochs, checkpoints."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from types import MappingProxyType

import numpy as np

from benchmarks.experiments.base import Computation, Job, Request, Scale, ok
from benchmarks.problems.datasets import DataError
from benchmarks.problems.own import SEPARATOR
from benchmarks.records.record import Quantity
from benchmarks.run.cells import Cell
from benchmarks.run.journal import Answer
from benchmarks.training.data import Sets
from benchmarks.training.loop import Curve, Training
from benchmarks.training.recipe import Optimizer, Recipe

SGD, ADAM = Optimizer.SGD, Optimizer.ADAM


@dataclass(frozen=True)
class Setting:
    """How a problem is trained.

    Attributes:
        rates: Learning rates.
        batch_size: Of a step.
        epochs: Passes over the training set.
    """

    rates: Mapping[Optimizer, float]
    batch_size: int
    epochs: int


PUBLISHED = {
    "fmnist_2c2d": Setting({SGD: 0.020691, ADAM: 1.27427e-4}, 128, 100),
    "cifar10_3c3d": Setting({SGD: 0.0037927, ADAM: 2.97635e-4}, 128, 100),
    "cifar10_resnet32": Setting({SGD: 0.0630957, ADAM: 2.51189e-3}, 128, 180),
    "cifar100_allcnnc": Setting({SGD: 0.0483293, ADAM: 6.95193e-4}, 256, 350),
}
"""As in the paper."""

OTHERS = Setting({SGD: 0.02, ADAM: 1e-3}, 32, 60)
"""Of the digits, and of problems of the user's own."""

SMOKE_EPOCHS = 2

CHECKPOINTS = {Scale.SMOKE: 2, Scale.QUICK: 20, Scale.PAPER: 100}
"""Denser at the beginning; there may be fewer, for equal ones count once."""


def recipe_of(request: Request, problem: str, optimizer: Optimizer) -> Recipe:
    """How a problem is trained.

    Args:
        request: What the user asks for.
        problem: Its name, or ``path/to/file.py:function``.
        optimizer: What makes the steps.

    Returns:
        The published setting, or that of all other problems.
    """
    setting = PUBLISHED.get(problem, OTHERS)
    return Recipe(
        problem,
        optimizer,
        setting.rates[optimizer],
        setting.batch_size,
        SMOKE_EPOCHS if request.scale is Scale.SMOKE else setting.epochs,
        request.seed,
        request.device,
        request.threads,
        request.samples if SEPARATOR in problem else None,
        request.data_root,
    )


class TrainingExperiment(Computation):
    """What is computed of networks while they are trained.

    Attributes:
        problems: What is trained in each scale.
        optimizers: With which optimizers.
        least_samples: Of a training set.
    """

    problems: Mapping[Scale, tuple[str, ...]]
    optimizers: tuple[Optimizer, ...] = tuple(Optimizer)
    least_samples: int = 1
    is_small = True

    def recipes(self, request: Request) -> list[Recipe]:
        """The trainings.

        Args:
            request: What the user asks for.

        Returns:
            One for each problem and optimizer.
        """
        return [
            recipe_of(request, problem, optimizer)
            for problem in request.problems or self.problems[request.scale]
            for optimizer in self.optimizers
        ]

    def check(self, request: Request) -> None:
        """Read the data of each problem once."""
        for recipe in {recipe.problem: recipe for recipe in self.recipes(request)}.values():
            count = Sets.of(recipe).train.num_samples
            if count < self.least_samples:
                raise DataError(
                    f"{self.name} needs a training set of at least {self.least_samples} samples, "
                    f"that of {recipe.name} has {count}: choose more by --samples, of which a "
                    "sixth are set apart to test."
                )


def moments(epochs: int, count: int) -> list[float]:
    """Epochs at which a training is looked at, from 0 on, denser at the beginning.

    Args:
        epochs: Of the training.
        count: How many.

    Returns:
        Fractions of epochs, rounded so that records can name them; the last epoch is not waited
        for, as in the published experiments.
    """
    found = np.geomspace(1, epochs, count) - 1
    return list(dict.fromkeys(round(float(epoch), 4) for epoch in found))


@dataclass(frozen=True)
class Watched:
    """A training, and the moments at which it is looked at.

    Attributes:
        experiment: Whose records it makes.
        recipe: What decides the result.
        request: What the user asks for.
        epochs: When it is looked at; fractions stand for steps.
    """

    experiment: Computation
    recipe: Recipe
    request: Request
    epochs: tuple[float, ...] = ()

    @property
    def training(self) -> Training:
        """Its network and data are kept until those of another one are asked for."""
        return _training(self)

    def steps(self, steps_per_epoch: int) -> list[int]:
        """When it is looked at.

        Args:
            steps_per_epoch: Of the training.

        Returns:
            Steps, counted from 0, which is before the first.
        """
        return [int(epoch * steps_per_epoch) for epoch in self.epochs]

    def at(self, epoch: float) -> Sets:
        """The network as it was.

        Args:
            epoch: One of those at which it is looked at.

        Returns:
            Its sets.

        Raises:
            FileNotFoundError: The training diverged before.
        """
        step = int(epoch * self.training.steps_per_epoch)
        if not self.training.has(step):
            self.training.run()
        return self.training.at(step)

    def cell(self, method: str, quantity: Quantity, **parameters: float) -> Cell:
        """What is computed of it.

        Args:
            method: What gives it.
            quantity: What it is.
            **parameters: Besides those of the training.

        Returns:
            The cell.
        """
        given = {**self.recipe.parameters, **parameters}
        return self.experiment.cell(self.recipe.name, method, quantity, given)

    @property
    def job(self) -> Job:
        """The training itself, which records its curves."""
        cell = self.cell(self.recipe.optimizer.value, Quantity.TEST_ACCURACY)
        title = f"{self.experiment.name}: training {self.recipe.title}"
        return Job(title, (cell,), partial(self._train, cell))

    def _train(self, cell: Cell) -> Mapping[Cell, Answer]:
        return {cell: answer_of(self.training.run(), self.training.steps_per_epoch)}


@lru_cache(maxsize=1)
def _training(watched: Watched) -> Training:
    """Of one at a time, for each holds a whole data set, and a grid has dozens of them."""
    request = watched.request
    return Training(watched.recipe, request.checkpoints, watched.steps, request.tell)


PUBLISHED_EPOCHS = (0, 5, 68)
"""Of 100: before the training, early and late, as published for derivatives of 3c3d."""


class MomentsOfTrainings(TrainingExperiment):
    """What is computed at some moments of a training, of the digits in `quick`.

    Attributes:
        moments: In epochs of 100.
    """

    problems = MappingProxyType(
        {
            Scale.SMOKE: ("digits_mlp",),
            Scale.QUICK: ("digits_mlp", "digits_cnn"),
            Scale.PAPER: ("cifar10_3c3d",),
        }
    )
    optimizers = (Optimizer.SGD,)
    moments: tuple[int, ...] = PUBLISHED_EPOCHS

    def jobs(self, request: Request) -> list[Job]:
        """A training for each problem, then its moments."""
        found: list[Job] = []
        for recipe in self.recipes(request):
            epochs = tuple(dict.fromkeys(_as_far(e, recipe.epochs) for e in self.moments))
            watched = Watched(self, recipe, request, epochs)
            found += [watched.job, *(self._job(watched, epoch) for epoch in epochs)]
        return found

    def _job(self, watched: Watched, epoch: float) -> Job:
        cells = tuple(self.cells(watched, epoch))
        title = f"{self.name}: {watched.recipe.title}, epoch {epoch:g}"
        return Job(title, cells, partial(self.answers, watched, epoch, cells))

    @abstractmethod
    def cells(self, watched: Watched, epoch: float) -> Sequence[Cell]:
        """What is computed at a moment.

        Args:
            watched: The training.
            epoch: The moment.

        Returns:
            The cells of its records.
        """

    @abstractmethod
    def answers(
        self, watched: Watched, epoch: float, cells: Sequence[Cell]
    ) -> Mapping[Cell, Answer]:
        """Compute it.

        Args:
            watched: The training.
            epoch: The moment.
            cells: As above.

        Returns:
            An answer for each.
        """


def _as_far(epoch: int, epochs: int) -> float:
    """The moment of a training that is as far as an epoch of 100."""
    return float(round(epoch * epochs / 100))


def answer_of(curve: Curve, steps_per_epoch: int) -> Answer:
    """A curve as a record has it.

    Args:
        curve: Of a training.
        steps_per_epoch: Of the same.

    Returns:
        Test accuracies, or losses where targets are no classes; the other curves as details.
    """
    return ok(
        curve.test_accuracy or curve.test_loss,
        is_accuracy=bool(curve.test_accuracy),
        train_loss=curve.train_loss,
        test_loss=curve.test_loss,
        train_accuracy=curve.train_accuracy,
        seconds=curve.seconds,
        steps_per_epoch=steps_per_epoch,
        diverged=curve.diverged,
    )
