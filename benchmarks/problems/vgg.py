"""VGG-16."""

from __future__ import annotations

import itertools

from torch import nn

from benchmarks.problems.layers import conv_relu
from benchmarks.problems.makers import on_noise
from benchmarks.problems.problem import Problem
from benchmarks.records.label import Label


def cifar100_vgg16() -> nn.Sequential:
    """VGG-16 for inputs ``3 x 32 x 32`` and 100 classes: 15,291,300 parameters.

    Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition"
    (2015), configuration D, without BatchNorm and with a head of two layers of 512 units: the
    case of the Deep Curvature Suite, whose number of parameters decides for these.
    """
    layers: list[nn.Module] = []
    channels = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += conv_relu(channels, width, 3, padding=1)
            channels = width
        layers.append(nn.MaxPool2d(2))
    head = (512, 512, 512, 100)
    layers.append(nn.Flatten())
    for size_in, size_out in itertools.pairwise(head):
        layers += [nn.Linear(size_in, size_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


PROBLEM = Problem(
    "cifar100_vgg16",
    Label("CIFAR-100 VGG-16"),
    "VGG-16, untrained, on synthetic noise of CIFAR-100's shape",
    "synthetic",
    15_291_300,
    on_noise(cifar100_vgg16, (3, 32, 32), 100),
    dataset="CIFAR100",
)
