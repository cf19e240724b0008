"""Networks of DeepOBS: 3C3D, 2C2D and All-CNN-C."""

from __future__ import annotations

from torch import nn

from benchmarks.problems.layers import conv_relu
from benchmarks.problems.makers import on_noise
from benchmarks.problems.problem import Problem
from benchmarks.records.label import Label


def cifar10_3c3d() -> nn.Sequential:
    """3C3D for inputs ``3 x 32 x 32``: 895,210 parameters."""
    return nn.Sequential(
        *_block_3c3d(3, 64, kernel=5, padding=0),
        *_block_3c3d(64, 96, kernel=3, padding=0),
        *_block_3c3d(96, 128, kernel=3, padding=1),
        nn.Flatten(),
        nn.Linear(1152, 512),
        nn.ReLU(),
        nn.Linear(512, 256),
        nn.ReLU(),
        nn.Linear(256, 10),
    )


def _block_3c3d(channels_in: int, channels_out: int, kernel: int, padding: int) -> list[nn.Module]:
    # Padding an even side on the right only, as "same" does here, is what ceil_mode computes.
    return [
        nn.Conv2d(channels_in, channels_out, kernel, padding=padding),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
    ]


def fmnist_2c2d() -> nn.Sequential:
    """2C2D for inputs ``1 x 28 x 28``: 3,274,634 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 1024),
        nn.ReLU(),
        nn.Linear(1024, 10),
    )


def cifar100_allcnnc() -> nn.Sequential:
    """All-CNN-C for inputs ``3 x 32 x 32`` and 100 classes: 1,387,108 parameters.

    Springenberg et al., "Striving for simplicity: the all convolutional net" (2015), with the
    "same" padding of TensorFlow.
    """
    return nn.Sequential(
        nn.Dropout(0.2),
        *conv_relu(3, 96, 3, padding=1),
        *conv_relu(96, 96, 3, padding=1),
        *_halving(96, 96),
        nn.Dropout(0.5),
        *conv_relu(96, 192, 3, padding=1),
        *conv_relu(192, 192, 3, padding=1),
        *_halving(192, 192),
        nn.Dropout(0.5),
        *conv_relu(192, 192, 3),
        *conv_relu(192, 192, 1),
        *conv_relu(192, 100, 1),
        nn.AvgPool2d(6),
        nn.Flatten(),
    )


def _halving(channels_in: int, channels_out: int) -> list[nn.Module]:
    # An even side is padded at its end only.
    return [nn.ZeroPad2d((0, 1, 0, 1)), *conv_relu(channels_in, channels_out, 3, stride=2)]


PROBLEMS = [
    Problem(
        "cifar10_3c3d",
        Label("CIFAR-10 3c3d"),
        "3C3D, untrained, on synthetic noise of CIFAR-10's shape",
        "synthetic",
        895_210,
        on_noise(cifar10_3c3d, (3, 32, 32), 10),
        dataset="CIFAR10",
    ),
    Problem(
        "several_batches",
        Label("CIFAR-10 3c3d in 4 batches"),
        "3C3D, untrained, on synthetic noise of CIFAR-10's shape, which comes in four batches",
        "synthetic",
        895_210,
        on_noise(cifar10_3c3d, (3, 32, 32), 10),
        sizes={"pieces": 4},
        dataset="CIFAR10",
        pieces=4,
    ),
    Problem(
        "fmnist_2c2d",
        Label("Fashion-MNIST 2c2d"),
        "2C2D, untrained, on synthetic noise of Fashion-MNIST's shape",
        "synthetic",
        3_274_634,
        on_noise(fmnist_2c2d, (1, 28, 28), 10),
        dataset="FashionMNIST",
    ),
    Problem(
        "cifar100_allcnnc",
        Label("CIFAR-100 All-CNN-C"),
        "All-CNN-C (eval mode), untrained, on synthetic noise of CIFAR-100's shape",
        "synthetic",
        1_387_108,
        on_noise(cifar100_allcnnc, (3, 32, 32), 100),
        dataset="CIFAR100",
    ),
]
