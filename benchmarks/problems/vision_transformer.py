"""A small vision transformer with a class token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.problems.makers import on_noise
from benchmarks.problems.problem import Problem
from benchmarks.problems.transformer import transformer_block
from benchmarks.records.label import Label


class VisionTransformer(nn.Module):
    """A transformer encoder on patches of an image, and a linear layer on the class token."""

    def __init__(
        self, size: int, patch: int, width: int, depth: int, classes: int, token: bool = True
    ) -> None:
        """Choose the sizes.

        Args:
            size: Height and width of the images, which have three channels.
            patch: Height and width of the patches.
            width: Of the embedding; a head has 16 of it.
            depth: Number of layers.
            classes: Outputs.
            token: Whether there is a class token; without, the mean over patches is classified.
        """
        super().__init__()
        length = (size // patch) ** 2 + token
        self.patches = nn.Conv2d(3, width, patch, stride=patch)
        self.token = nn.Parameter(torch.randn(1, 1, width) / width**0.5) if token else None
        self.positions = nn.Parameter(torch.randn(1, length, width) / width**0.5)
        blocks = [module for _ in range(depth) for module in transformer_block(width)]
        self.encoder = nn.Sequential(*blocks, nn.LayerNorm(width))
        self.last = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[N, 3, size, size]`` to outputs ``[N, classes]``."""
        hidden = self.patches(x).flatten(2).transpose(1, 2)
        if self.token is None:
            return self.last(self.encoder(hidden + self.positions).mean(dim=1))
        hidden = torch.cat([self.token.expand(len(x), -1, -1), hidden], dim=1)
        return self.last(self.encoder(hidden + self.positions)[:, 0])


def vision_transformer() -> VisionTransformer:
    """Four layers of width 64 on 64 patches and a class token, 10 classes: 208,074 parameters."""
    return VisionTransformer(size=32, patch=4, width=64, depth=4, classes=10)


PROBLEM = Problem(
    "vision_transformer",
    Label("vision transformer"),
    "transformer with a class token on 64 patches of an image, four layers of width 64, untrained",
    "synthetic",
    208_074,
    on_noise(vision_transformer, (3, 32, 32), 10),
    dataset="CIFAR10",
)
