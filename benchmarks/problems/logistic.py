"""Logistic regression: far fewer parameters than columns, where there are many samples."""

from __future__ import annotations

from torch import nn

from benchmarks.problems.makers import on_noise
from benchmarks.problems.problem import Problem
from benchmarks.records.label import Label


def logistic() -> nn.Module:
    """784 inputs, 10 classes: 7,850 parameters."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


PROBLEM = Problem(
    "logistic",
    Label("logistic regression"),
    "a single linear layer from 784 inputs to 10 classes, untrained",
    "synthetic",
    7_850,
    on_noise(logistic, (1, 28, 28), 10),
    dataset="FashionMNIST",
)
