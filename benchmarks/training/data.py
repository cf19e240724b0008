"""What is trained on what: an untrained network with its training and test set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from benchmarks.problems.datasets import DataError, images
from benchmarks.problems.deepobs import cifar10_3c3d, cifar100_allcnnc, fmnist_2c2d
from benchmarks.problems.digits import TRAIN_SAMPLES, digits
from benchmarks.problems.digits_networks import digits_cnn, digits_mlp
from benchmarks.problems.own import OwnProblem, find_problem
from benchmarks.problems.problem import Instance
from benchmarks.problems.resnets import cifar10_resnet
from benchmarks.records.names import unknown
from benchmarks.training.recipe import Recipe

NETWORKS: dict[str, tuple[Callable[[], nn.Module], str | None]] = {
    "digits_mlp": (digits_mlp, None),
    "digits_cnn": (digits_cnn, None),
    "fmnist_2c2d": (fmnist_2c2d, "FashionMNIST"),
    "cifar10_3c3d": (cifar10_3c3d, "CIFAR10"),
    "cifar10_resnet32": (partial(cifar10_resnet, 5), "CIFAR10"),
    "cifar100_allcnnc": (cifar100_allcnnc, "CIFAR100"),
}
"""Problems that can be trained: the untrained network, and the data set of torchvision; without
one, the digits that scikit-learn ships."""

TRAINED_ON = 5 / 6
"""Share of the samples of a user's own problem; the others are the test set."""

EVALUATED = 512
"""Samples that are evaluated at once, at most."""


@dataclass(frozen=True)
class Sets:
    """A network with training and test set, which share it.

    Attributes:
        train: Training set.
        test: Test set.
    """

    train: Instance
    test: Instance

    @property
    def digest(self) -> str:
        """Of all inputs and targets."""
        found = hashlib.sha256()
        for part in (self.train, self.test):
            for leaf in tree_leaves((part.inputs, part.targets)):
                if isinstance(leaf, Tensor):
                    found.update(leaf.detach().cpu().contiguous().numpy().data)
        return found.hexdigest()[:8]

    @classmethod
    def of(cls, recipe: Recipe) -> Sets:
        """Make the untrained network, and read the data.

        Args:
            recipe: Names the problem, and what decides its start.

        Returns:
            The sets, on the device of the recipe.

        Raises:
            DataError: The problem is none that can be trained, its data set is not there, or
                there are too few samples.
            ProblemError: The function of a user's own problem fails.
        """
        problem = find_problem(recipe.problem)
        if isinstance(problem, OwnProblem):
            return cls._of_own(problem, recipe)
        if problem.name not in NETWORKS:
            raise DataError(unknown("problem to be trained", problem.name, NETWORKS))
        network, dataset = NETWORKS[problem.name]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            model = network().eval().to(recipe.device)
        train, test = _data(problem.name, dataset, recipe.data_root)
        return cls(
            *(
                Instance(model, problem.loss(), X.to(recipe.device), y.to(recipe.device))
                for X, y in (train, test)
            )
        )

    @classmethod
    def _of_own(cls, problem: OwnProblem, recipe: Recipe) -> Sets:
        count = recipe.samples or 0
        if count < 2:
            raise DataError(
                f"Training {problem.name} needs at least 2 samples, one of them to test, got "
                f"{count}: choose more by --samples."
            )
        both = problem.make(count, recipe.device, torch.float32, recipe.seed)
        size = min(round(TRAINED_ON * count), count - 1)
        return cls(both.first(size), both.samples(slice(size, None)))


def _data(
    name: str, dataset: str | None, root: Path | None
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Inputs and targets to train, and to test."""
    if dataset is None:
        inputs, targets = digits()
        train, test = slice(TRAIN_SAMPLES), slice(TRAIN_SAMPLES, None)
        return (inputs[train], targets[train]), (inputs[test], targets[test])
    if root is None:
        raise DataError(
            f"Training {name} needs the data set {dataset}: name its folder by --data-root, as "
            f"torchvision.datasets.{dataset}(DIR, download=True) fills it."
        )
    return images(dataset, root, train=True), images(dataset, root, train=False)


def in_batches(instance: Instance) -> list[tuple[Any, Tensor]]:
    """Inputs and targets in their order, few enough at once to be evaluated.

    Args:
        instance: A network with samples.

    Returns:
        Batches of equal sizes, but for the last.
    """
    return replace(instance, pieces=-(-instance.num_samples // EVALUATED)).batches
