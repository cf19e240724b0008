"""How a network is trained: what decides the parameters that come out, and nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.problems.own import find_problem
from benchmarks.records.names import Choice
from benchmarks.records.sources import fingerprint
from benchmarks.training.curvature import Curvature
from benchmarks.training.steps import GradientSteps

ROOT = Path(__file__).resolve().parents[2]

CODE = ("benchmarks/problems", "benchmarks/training")
"""Folders whose code decides what a training gives."""

LIBRARY, WITHOUT_STEPS = "vivit", ("vivit/monitor", "vivit/plots")
"""That of steps with curvature, besides; and what of it makes none."""

MOMENTUM = 0.9


class Optimizer(Choice):
    """Of torch; without weight decay."""

    SGD = "sgd"
    """With momentum."""
    ADAM = "adam"

    @property
    def label(self) -> str:
        """Its name in reports."""
        return {Optimizer.SGD: "SGD (momentum 0.9)", Optimizer.ADAM: "Adam"}[self]

    @property
    def settings(self) -> dict[str, Any]:
        """What decides a step besides the learning rate: nothing that varies."""
        return {}

    def of(self, model: nn.Module, learning_rate: float) -> GradientSteps:
        """What makes the steps.

        Args:
            model: The network.
            learning_rate: Constant throughout.

        Returns:
            The steps, before the first.
        """
        if self is Optimizer.ADAM:
            return GradientSteps(model, torch.optim.Adam(model.parameters(), lr=learning_rate))
        sgd = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=MOMENTUM)
        return GradientSteps(model, sgd)


@dataclass(frozen=True)
class Recipe:
    """A training.

    Attributes:
        problem: Name of the problem, or ``path/to/file.py:function``.
        optimizer: What makes the steps: one of torch's optimizers, or a step with curvature.
        learning_rate: Of the optimizer.
        batch_size: Of a step; the last one of an epoch may be smaller.
        epochs: Passes over the training set.
        seed: For weights and for the order of the data, which is the same for all optimizers.
        device: As torch names it.
        threads: For torch's operations; rounding errors depend on them.
        samples: Of a problem of the user's own, training and test set together.
        data_root: Where data sets are, if the problem needs one.
    """

    problem: str
    optimizer: Optimizer | Curvature
    learning_rate: float
    batch_size: int
    epochs: int
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    samples: int | None = None
    data_root: Path | None = None

    @property
    def name(self) -> str:
        """Of the problem, for records."""
        return find_problem(self.problem).name

    @property
    def parameters(self) -> dict[str, Any]:
        """What a record of it depends on, as plain JSON types."""
        problem = find_problem(self.problem)
        own = getattr(problem, "digest", None)
        return {
            "optimizer": self.optimizer.value,
            "learning_rate": self.learning_rate,
            **self.optimizer.settings,
            "training_batch": self.batch_size,
            "epochs": self.epochs,
            "seed": self.seed,
            "device": self.device,
            "dtype": "float32",
            "threads": self.threads,
            "data": problem.kind_of_data(self.data_root),
            **({} if own is None else {"source": own, "samples": self.samples}),
        }

    @property
    def title(self) -> str:
        """In a few words, for the progress bar."""
        settings = [f"{name}={value}" for name, value in self.optimizer.settings.items()]
        rate = f"{self.learning_rate:.3g}"
        return " ".join([self.name, self.optimizer.value, rate, *settings])

    @property
    def digest(self) -> str:
        """Equal for trainings that give the same parameters; with other code, it is another."""
        parts = (*CODE, LIBRARY) if isinstance(self.optimizer, Curvature) else CODE
        others = {file for part in WITHOUT_STEPS for file in (ROOT / part).rglob("*.py")}
        files = [f for part in parts for f in (ROOT / part).rglob("*.py") if f not in others]
        code = fingerprint(files, ROOT)
        identity = json.dumps([self.name, self.parameters, code, torch.__version__])
        return hashlib.sha256(identity.encode()).hexdigest()[:16]
