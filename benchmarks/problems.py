"""Problems: a network, a loss and a batch, reproducible from a seed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import networks
from benchmarks.digits import digits_batch, trained_on_digits
from benchmarks.registry import Registry


@dataclass(frozen=True)
class Instance:
    """A problem at one batch size, ready to be measured.

    Attributes:
        model: In evaluation mode, on the device and of the dtype asked for.
        loss_func: Mean cross-entropy.
        inputs: Shape ``[N, *in]``.
        targets: Class indices, shape ``[N]``.
    """

    model: nn.Module
    loss_func: nn.Module
    inputs: Tensor
    targets: Tensor

    @property
    def num_parameters(self) -> int:
        """``D``, the number of parameters."""
        return sum(p.numel() for p in self.model.parameters())

    def first(self, count: int) -> Instance:
        """The same problem on its first samples only.

        Args:
            count: How many.

        Returns:
            An instance that shares the model.
        """
        return replace(self, inputs=self.inputs[:count], targets=self.targets[:count])

    def double(self) -> Instance:
        """A copy in double precision."""
        model = copy.deepcopy(self.model).double()
        targets = self.targets.double() if self.targets.is_floating_point() else self.targets
        return replace(self, model=model, inputs=self.inputs.double(), targets=targets)


Maker = Callable[[int, int], tuple[nn.Module, Tensor, Tensor]]
"""Maps batch size and seed to model, inputs and targets, on the CPU in single precision."""


@dataclass(frozen=True)
class Problem:
    """How to make the instances of a problem.

    Attributes:
        name: Short name.
        description: One line for people.
        data: ``"real"`` or ``"synthetic"``.
        num_parameters: ``D``, asserted on every instance.
        maker: Makes model, inputs and targets.
    """

    name: str
    description: str
    data: str
    num_parameters: int
    maker: Maker

    def make(self, batch_size: int, device: str, dtype: torch.dtype, seed: int) -> Instance:
        """Make an instance; the same arguments give the same one.

        Args:
            batch_size: ``N``.
            device: As torch names it.
            dtype: Of parameters and inputs.
            seed: For initial weights and synthetic data.

        Returns:
            The instance.

        Raises:
            ValueError: The model does not have the stated number of parameters.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, inputs, targets = self.maker(batch_size, seed)
        to: dict[str, Any] = {"device": device, "dtype": dtype}
        instance = Instance(
            model.eval().to(**to), nn.CrossEntropyLoss(), inputs.to(**to), targets.to(device)
        )
        if instance.num_parameters != self.num_parameters:
            raise ValueError(
                f"Problem {self.name!r} has {instance.num_parameters} parameters, expected "
                f"{self.num_parameters}."
            )
        return instance


def _synthetic(network: Callable[[], nn.Module], shape: tuple[int, ...], classes: int) -> Maker:
    """Untrained network on uniform noise in [0, 1), as large as the data set's images."""

    def make(batch_size: int, seed: int) -> tuple[nn.Module, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.rand(batch_size, *shape, generator=generator)
        targets = torch.randint(classes, (batch_size,), generator=generator)
        return network(), inputs, targets

    return make


def _digits(network: Callable[[], nn.Module], accuracy: float) -> Maker:
    """Network trained on the handwritten digits that ship with scikit-learn."""

    def make(batch_size: int, seed: int) -> tuple[nn.Module, Tensor, Tensor]:
        return trained_on_digits(network(), accuracy, seed), *digits_batch(batch_size)

    return make


PROBLEMS = Registry(
    "problem",
    [
        Problem(
            "digits_mlp",
            "MLP 64-64-32-10 trained on handwritten digits (scikit-learn) to 90% test accuracy",
            "real",
            6_570,
            _digits(networks.digits_mlp, accuracy=0.90),
        ),
        Problem(
            "digits_cnn",
            "small CNN trained on handwritten digits (scikit-learn) to 90% test accuracy",
            "real",
            1_898,
            _digits(networks.digits_cnn, accuracy=0.90),
        ),
        Problem(
            "cifar10_3c3d",
            "3C3D, untrained, on synthetic noise of CIFAR-10's shape",
            "synthetic",
            895_210,
            _synthetic(networks.cifar10_3c3d, (3, 32, 32), 10),
        ),
        Problem(
            "fmnist_2c2d",
            "2C2D, untrained, on synthetic noise of Fashion-MNIST's shape",
            "synthetic",
            3_274_634,
            _synthetic(networks.fmnist_2c2d, (1, 28, 28), 10),
        ),
    ],
)
