"""Architectures of the problems, with the published parameter counts."""

from __future__ import annotations

from torch import nn


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


def digits_cnn() -> nn.Sequential:
    """A small convolutional network for inputs ``1 x 8 x 8``: 1,898 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def digits_mlp() -> nn.Sequential:
    """A small fully-connected network for inputs ``1 x 8 x 8``: 6,570 parameters."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)
    )
