"""The MLP of the published comparison of Gram matrices of linear layers."""

from __future__ import annotations

import itertools

from torch import nn

from benchmarks.problems.makers import regression
from benchmarks.problems.problem import Problem
from benchmarks.records.label import Label


def mlp_linear() -> nn.Sequential:
    """The MLP 1024-512-256-128-64-32-10 with ReLUs: 699,690 parameters."""
    sizes = (1024, 512, 256, 128, 64, 32, 10)
    layers: list[nn.Module] = []
    for size_in, size_out in itertools.pairwise(sizes):
        layers += [nn.Linear(size_in, size_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


PROBLEM = Problem(
    "mlp_linear",
    Label("MLP of linear layers"),
    "MLP 1024-512-256-128-64-32-10, square loss, untrained, on normal data",
    "synthetic",
    699_690,
    regression(mlp_linear, 1024, 10),
    loss=nn.MSELoss,
)
