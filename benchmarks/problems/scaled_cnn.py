"""A family of small CNNs that varies in its number of classes and its width."""

from __future__ import annotations

from functools import partial

from torch import nn

from benchmarks.problems.layers import conv_relu
from benchmarks.problems.makers import on_noise
from benchmarks.problems.problem import Problem
from benchmarks.records.label import Label

CLASSES, WIDTHS = (5, 10, 20, 40), (8, 16, 32, 64)
BASE_CLASSES, BASE_WIDTH = 10, 16

FAMILY = sorted(
    {(classes, BASE_WIDTH) for classes in CLASSES} | {(BASE_CLASSES, width) for width in WIDTHS}
)
"""Number of classes and width of each network of the family: one varies, the other stays."""


def scaled_cnn(classes: int, width: int) -> nn.Sequential:
    """A CNN for inputs ``3 x 16 x 16`` whose output and width can be chosen.

    Args:
        classes: Outputs.
        width: Channels of the first convolution; the second has twice as many.

    Returns:
        Two convolutions with pooling, two linear layers.
    """
    return nn.Sequential(
        *conv_relu(3, width, 3, padding=1),
        nn.MaxPool2d(2),
        *conv_relu(width, 2 * width, 3, padding=1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * width, 8 * width),
        nn.ReLU(),
        nn.Linear(8 * width, classes),
    )


def scaled_cnn_parameters(classes: int, width: int) -> int:
    """Number of parameters of `scaled_cnn`."""
    convolutions = 28 * width + (9 * width + 1) * 2 * width
    return convolutions + (32 * width + 1) * 8 * width + (8 * width + 1) * classes


def _family(classes: int, width: int) -> Problem:
    """A small CNN of a family that varies in its number of classes and its width."""
    network = partial(scaled_cnn, classes, width)
    return Problem(
        f"cnn_c{classes}_w{width}",
        Label(f"cnn c{classes} w{width}"),
        f"small CNN, untrained, synthetic noise: {classes} classes, width {width}",
        "synthetic",
        scaled_cnn_parameters(classes, width),
        on_noise(network, (3, 16, 16), classes),
        sizes={"classes": classes, "width": width},
    )


PROBLEMS = [_family(classes, width) for classes, width in FAMILY]
