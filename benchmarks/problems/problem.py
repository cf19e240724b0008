"""Problems: a network, a loss and a batch, reproducible from a seed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from benchmarks.problems import networks
from benchmarks.problems.datasets import Batch, first_images
from benchmarks.problems.digits import digits_batch, trained_on_digits
from benchmarks.records.label import Label
from benchmarks.records.registry import Registry


@dataclass(frozen=True)
class Instance:
    """A problem at one batch size, ready to be measured.

    Attributes:
        model: In evaluation mode, on the device and of the dtype asked for.
        loss_func: A mean over the samples.
        inputs: Shape ``[N, *in]``; or dictionaries, lists and tuples of such tensors, nested.
        targets: Class indices, shape ``[N]``; for a square loss, values of shape ``[N, C]``.
        memory: Bytes that a method which plans ahead may count on; None for what there is.
    """

    model: nn.Module
    loss_func: nn.Module
    inputs: Any
    targets: Tensor
    memory: int | None = None

    @property
    def num_parameters(self) -> int:
        """``D``, the number of parameters."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def num_samples(self) -> int:
        """``N``."""
        return len(self.targets)

    @property
    def like(self) -> Tensor:
        """A tensor of the dtype and device that all is computed in; inputs may be tokens."""
        return next(self.model.parameters())

    def first(self, count: int) -> Instance:
        """The same problem on its first samples only.

        Args:
            count: How many.

        Returns:
            An instance that shares the model.
        """
        return self.samples(slice(count))

    def samples(self, chosen: slice) -> Instance:
        """The same problem on some of its samples only.

        Args:
            chosen: Which.

        Returns:
            An instance that shares the model.
        """
        inputs = tree_map_only(Tensor, lambda x: x[chosen] if x.ndim else x, self.inputs)
        return replace(self, inputs=inputs, targets=self.targets[chosen])

    def double(self) -> Instance:
        """A copy in double precision."""
        model = copy.deepcopy(self.model).double()
        inputs, targets = tree_map_only(
            Tensor, lambda x: _in_precision(x, torch.float64), (self.inputs, self.targets)
        )
        return replace(self, model=model, inputs=inputs, targets=targets)


def _in_precision(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers in another precision; indices as they are."""
    return x.to(dtype) if x.is_floating_point() else x


Maker = Callable[..., tuple[nn.Module, Tensor, Tensor]]
"""Maps batch size and seed to model, inputs and targets, on the CPU in single precision. Where a
problem has a data set, ``batch`` may give inputs and targets in place of synthetic ones."""


@dataclass(frozen=True)
class Problem:
    """How to make the instances of a problem.

    Attributes:
        name: Short name, which records have.
        label: Its name in reports.
        description: One line for people.
        data: ``"real"`` or ``"synthetic"``, where no other is asked for.
        num_parameters: ``D``, asserted on every instance.
        maker: Makes model, inputs and targets.
        loss: Makes the loss.
        sizes: Other numbers that a family of problems varies, for records.
        dataset: Of torchvision, whose images may take the place of synthetic ones; None for none.
    """

    name: str
    label: Label
    description: str
    data: str
    num_parameters: int
    maker: Maker
    loss: Callable[[], nn.Module] = nn.CrossEntropyLoss
    sizes: Mapping[str, int] = field(default_factory=dict)
    dataset: str | None = None

    def kind_of_data(self, root: Path | None) -> str:
        """``"real"`` or ``"synthetic"``.

        Args:
            root: Where data sets are, if they are to be used.

        Returns:
            What `make` gives with this root.
        """
        return "real" if root is not None and self.dataset is not None else self.data

    def make(
        self,
        batch_size: int,
        device: str,
        dtype: torch.dtype,
        seed: int,
        root: Path | None = None,
    ) -> Instance:
        """Make an instance; the same arguments give the same one.

        Args:
            batch_size: ``N``.
            device: As torch names it.
            dtype: Of parameters and inputs.
            seed: For initial weights and synthetic data.
            root: Where data sets are, to be used instead of synthetic data.

        Returns:
            The instance.

        Raises:
            ValueError: The model does not have the stated number of parameters.
            DataError: A data set cannot be read.
        """
        maker = self.maker
        if root is not None and self.dataset is not None:
            maker = partial(maker, batch=first_images(self.dataset, root, batch_size))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, inputs, targets = maker(batch_size, seed)
        model = model.eval().to(device=device, dtype=dtype)
        inputs, targets = (_in_precision(x, dtype).to(device) for x in (inputs, targets))
        instance = Instance(model, self.loss(), inputs, targets)
        if instance.num_parameters != self.num_parameters:
            raise ValueError(
                f"Problem {self.name!r} has {instance.num_parameters} parameters, expected "
                f"{self.num_parameters}."
            )
        return instance


def _synthetic(network: Callable[[], nn.Module], shape: tuple[int, ...], classes: int) -> Maker:
    """Untrained network on uniform noise in [0, 1), as large as the data set's images."""

    def make(
        batch_size: int, seed: int, batch: Batch | None = None
    ) -> tuple[nn.Module, Tensor, Tensor]:
        if batch is not None:
            return network(), *batch
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.rand(batch_size, *shape, generator=generator)
        targets = torch.randint(classes, (batch_size,), generator=generator)
        return network(), inputs, targets

    return make


STATISTICS_PASSES = 5
"""Forward passes that fill the running statistics of BatchNorm, as in the published runs."""


def _with_statistics(maker: Maker) -> Maker:
    """Fill running statistics from the batch itself."""

    def make(batch_size: int, seed: int, **options: Any) -> tuple[nn.Module, Tensor, Tensor]:
        model, inputs, targets = maker(batch_size, seed, **options)
        with torch.no_grad():
            for _ in range(STATISTICS_PASSES):
                model.train()(inputs)
        return model, inputs, targets

    return make


def _regression(network: Callable[[], nn.Module], features: int, outputs: int) -> Maker:
    """Untrained network on normal inputs and targets."""

    def make(batch_size: int, seed: int) -> tuple[nn.Module, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(batch_size, features, generator=generator)
        return network(), inputs, torch.randn(batch_size, outputs, generator=generator)

    return make


def _tokens(network: Callable[[], nn.Module], vocabulary: int, length: int, classes: int) -> Maker:
    """Untrained network on random tokens."""

    def make(batch_size: int, seed: int) -> tuple[nn.Module, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randint(vocabulary, (batch_size, length), generator=generator)
        return network(), inputs, torch.randint(classes, (batch_size,), generator=generator)

    return make


def _family(classes: int, width: int) -> Problem:
    """A small CNN of a family that varies in its number of classes and its width."""
    network = partial(networks.scaled_cnn, classes, width)
    return Problem(
        f"cnn_c{classes}_w{width}",
        Label(f"cnn c{classes} w{width}"),
        f"small CNN, untrained, synthetic noise: {classes} classes, width {width}",
        "synthetic",
        networks.scaled_cnn_parameters(classes, width),
        _synthetic(network, (3, 16, 16), classes),
        sizes={"classes": classes, "width": width},
    )


def _digits(network: Callable[[], nn.Module], accuracy: float) -> Maker:
    """Network trained on the handwritten digits that ship with scikit-learn."""

    def make(batch_size: int, seed: int) -> tuple[nn.Module, Tensor, Tensor]:
        return trained_on_digits(network(), accuracy, seed), *digits_batch(batch_size)

    return make


CLASSES, WIDTHS = (5, 10, 20, 40), (8, 16, 32, 64)
BASE_CLASSES, BASE_WIDTH = 10, 16

FAMILY = sorted(
    {(classes, BASE_WIDTH) for classes in CLASSES} | {(BASE_CLASSES, width) for width in WIDTHS}
)
"""Number of classes and width of each network of the family: one varies, the other stays."""

PROBLEMS = Registry(
    "problem",
    [
        Problem(
            "digits_mlp",
            Label("digits MLP"),
            "MLP 64-64-32-10 trained on handwritten digits (scikit-learn) to 90% test accuracy",
            "real",
            6_570,
            _digits(networks.digits_mlp, accuracy=0.90),
        ),
        Problem(
            "digits_cnn",
            Label("digits CNN"),
            "small CNN trained on handwritten digits (scikit-learn) to 90% test accuracy",
            "real",
            1_898,
            _digits(networks.digits_cnn, accuracy=0.90),
        ),
        Problem(
            "cifar10_3c3d",
            Label("CIFAR-10 3c3d"),
            "3C3D, untrained, on synthetic noise of CIFAR-10's shape",
            "synthetic",
            895_210,
            _synthetic(networks.cifar10_3c3d, (3, 32, 32), 10),
            dataset="CIFAR10",
        ),
        Problem(
            "fmnist_2c2d",
            Label("Fashion-MNIST 2c2d"),
            "2C2D, untrained, on synthetic noise of Fashion-MNIST's shape",
            "synthetic",
            3_274_634,
            _synthetic(networks.fmnist_2c2d, (1, 28, 28), 10),
            dataset="FashionMNIST",
        ),
        *(
            Problem(
                f"cifar10_resnet{6 * blocks + 2}",
                Label(f"CIFAR-10 ResNet-{6 * blocks + 2}"),
                f"ResNet-{6 * blocks + 2} (eval mode), untrained, on noise of CIFAR-10's shape",
                "synthetic",
                size,
                _with_statistics(
                    _synthetic(partial(networks.cifar10_resnet, blocks), (3, 32, 32), 10)
                ),
                dataset="CIFAR10",
            )
            for blocks, size in ((5, 464_154), (9, 853_018))
        ),
        Problem(
            "cifar100_allcnnc",
            Label("CIFAR-100 All-CNN-C"),
            "All-CNN-C (eval mode), untrained, on synthetic noise of CIFAR-100's shape",
            "synthetic",
            1_387_108,
            _synthetic(networks.cifar100_allcnnc, (3, 32, 32), 100),
            dataset="CIFAR100",
        ),
        Problem(
            "cifar100_vgg16",
            Label("CIFAR-100 VGG-16"),
            "VGG-16, untrained, on synthetic noise of CIFAR-100's shape",
            "synthetic",
            15_291_300,
            _synthetic(networks.cifar100_vgg16, (3, 32, 32), 100),
            dataset="CIFAR100",
        ),
        Problem(
            "cifar10_wrn16_4",
            Label("CIFAR-10 Wide ResNet 16-4"),
            "Wide ResNet 16-4 (eval mode), untrained, on synthetic noise of CIFAR-10's shape",
            "synthetic",
            2_748_890,
            _with_statistics(_synthetic(networks.cifar10_wrn16_4, (3, 32, 32), 10)),
            dataset="CIFAR10",
        ),
        Problem(
            "tiny_transformer",
            Label("small transformer"),
            "transformer encoder, two layers of width 64, untrained, on random tokens",
            "synthetic",
            119_050,
            _tokens(networks.tiny_transformer, 256, 32, 10),
        ),
        Problem(
            "mlp_linear",
            Label("MLP of linear layers"),
            "MLP 1024-512-256-128-64-32-10, square loss, untrained, on normal data",
            "synthetic",
            699_690,
            _regression(networks.mlp_linear, 1024, 10),
            loss=nn.MSELoss,
        ),
        *(_family(classes, width) for classes, width in FAMILY),
    ],
)
