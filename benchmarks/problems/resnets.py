"""ResNets on images of CIFAR-10."""

from __future__ import annotations

from functools import partial

from torch import nn

from benchmarks.problems.layers import PadChannels, Residual
from benchmarks.problems.makers import on_noise, with_statistics
from benchmarks.problems.problem import Problem
from benchmarks.records.label import Label


def cifar10_resnet(blocks: int) -> nn.Sequential:
    """ResNet-(6n+2) for inputs ``3 x 32 x 32``: 464,154 parameters for n = 5, 853,018 for n = 9.

    He et al., "Deep residual learning for image recognition" (2016), section 4.2. Its number of
    parameters decides for shortcuts of kind A: every other pixel, padded by zero channels.

    Args:
        blocks: ``n``, residual blocks in each of the three stages.

    Returns:
        The network.
    """
    layers = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    channels = 16
    for width in (16, 32, 64):
        for _ in range(blocks):
            layers += _residual_block(channels, width)
            channels = width
    return nn.Sequential(*layers, nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 10))


def _residual_block(channels_in: int, channels_out: int) -> list[nn.Module]:
    stride = channels_out // channels_in
    main = nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
        nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
    )
    shortcut: nn.Module = nn.Identity()
    if stride > 1:
        added = (channels_out - channels_in) // 2
        shortcut = nn.Sequential(nn.AvgPool2d(1, stride), PadChannels(added, added))
    return [Residual(main, shortcut), nn.ReLU()]


def _resnet(blocks: int, size: int) -> Problem:
    depth = 6 * blocks + 2
    return Problem(
        f"cifar10_resnet{depth}",
        Label(f"CIFAR-10 ResNet-{depth}"),
        f"ResNet-{depth} (eval mode), untrained, on noise of CIFAR-10's shape",
        "synthetic",
        size,
        with_statistics(on_noise(partial(cifar10_resnet, blocks), (3, 32, 32), 10)),
        dataset="CIFAR10",
    )


PROBLEMS = [_resnet(5, 464_154), _resnet(9, 853_018)]
