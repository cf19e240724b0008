"""A wide ResNet on images of CIFAR-10."""

from __future__ import annotations

from torch import nn

from benchmarks.problems.layers import Residual
from benchmarks.problems.makers import on_noise, with_statistics
from benchmarks.problems.problem import Problem
from benchmarks.records.label import Label


def cifar10_wrn16_4() -> nn.Sequential:
    """Wide ResNet 16-4 for inputs ``3 x 32 x 32``: 2,748,890 parameters.

    Zagoruyko and Komodakis, "Wide residual networks" (2016): BatchNorm and ReLU before each
    convolution, two blocks in each of three stages, four times as wide as a ResNet; no dropout.
    """
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False)]
    channels = 16
    for width, stride in ((64, 1), (128, 2), (256, 2)):
        layers += _wide_block(channels, width, stride)
        layers += _wide_block(width, width, 1)
        channels = width
    layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.AvgPool2d(8), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(channels, 10))


def _wide_block(channels_in: int, channels_out: int, stride: int) -> list[nn.Module]:
    first = [nn.BatchNorm2d(channels_in), nn.ReLU()]
    main = [
        nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
        nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
    ]
    if channels_in == channels_out:
        return [Residual(nn.Sequential(*first, *main), nn.Identity())]
    # Where the number of channels changes, the shortcut starts behind the activation.
    shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
    return [*first, Residual(nn.Sequential(*main), shortcut)]


PROBLEM = Problem(
    "cifar10_wrn16_4",
    Label("CIFAR-10 Wide ResNet 16-4"),
    "Wide ResNet 16-4 (eval mode), untrained, on synthetic noise of CIFAR-10's shape",
    "synthetic",
    2_748_890,
    with_statistics(on_noise(cifar10_wrn16_4, (3, 32, 32), 10)),
    dataset="CIFAR10",
)
