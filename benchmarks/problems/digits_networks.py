"""Small networks trained on handwritten digits."""

from __future__ import annotations

from torch import nn

from benchmarks.problems.makers import on_digits
from benchmarks.problems.problem import Problem
from benchmarks.records.label import Label


def digits_mlp() -> nn.Sequential:
    """A small fully-connected network for inputs ``1 x 8 x 8``: 6,570 parameters."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)
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


PROBLEMS = [
    Problem(
        "digits_mlp",
        Label("digits MLP"),
        "MLP 64-64-32-10 trained on handwritten digits (scikit-learn) to 90% test accuracy",
        "real",
        6_570,
        on_digits(digits_mlp, accuracy=0.90),
    ),
    Problem(
        "digits_cnn",
        Label("digits CNN"),
        "small CNN trained on handwritten digits (scikit-learn) to 90% test accuracy",
        "real",
        1_898,
        on_digits(digits_cnn, accuracy=0.90),
    ),
]
