"""A small transformer encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.problems.layers import Residual
from benchmarks.problems.makers import on_tokens
from benchmarks.problems.problem import Problem
from benchmarks.records.label import Label


class Attention(nn.Module):
    """Self-attention by matrix products and a softmax.

    Spelled out, since torch's fused kernels have no forward-mode derivatives, which the
    independent check of the references needs.
    """

    def __init__(self, width: int, heads: int, is_causal: bool = False) -> None:
        """Choose the sizes.

        Args:
            width: Of the embedding.
            heads: Their number, which divides the width.
            is_causal: Whether a position sees none behind it.
        """
        super().__init__()
        self.heads, self.is_causal = heads, is_causal
        self.inputs, self.outputs = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, length, width]`` to the same shape."""
        split = self.inputs(x).unflatten(2, (3, self.heads, -1)).movedim(2, 0).transpose(2, 3)
        query, key, value = split  # each [N, heads, length, width of a head]
        scores = query @ key.mT / query.shape[3] ** 0.5
        if self.is_causal:
            behind = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(diagonal=1)
            scores = scores.masked_fill(behind, float("-inf"))
        return self.outputs((scores.softmax(dim=3) @ value).transpose(1, 2).flatten(2))


def transformer_block(width: int, is_causal: bool = False) -> list[nn.Module]:
    """Attention and a feed-forward network, each behind a norm and beside a shortcut.

    Args:
        width: Of the embedding; a head has 16 of it.
        is_causal: Whether a position sees none behind it.

    Returns:
        The two layers.
    """
    attention = nn.Sequential(nn.LayerNorm(width), Attention(width, width // 16, is_causal))
    forward = nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
    )
    return [Residual(attention, nn.Identity()), Residual(forward, nn.Identity())]


class TransformerClassifier(nn.Module):
    """A transformer encoder on tokens, and a linear layer on the mean over positions."""

    def __init__(self, tokens: int, length: int, width: int, depth: int, classes: int) -> None:
        """Choose the sizes.

        Args:
            tokens: Size of the vocabulary.
            length: Of the sequences.
            width: Of the embedding; a head has 16 of it.
            depth: Number of layers.
            classes: Outputs.
        """
        super().__init__()
        self.tokens = nn.Embedding(tokens, width)
        self.positions = nn.Parameter(torch.randn(length, width) / width**0.5)
        blocks = [module for _ in range(depth) for module in transformer_block(width)]
        self.encoder = nn.Sequential(*blocks)
        self.last = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Token indices ``[N, length]`` to outputs ``[N, classes]``."""
        hidden = self.encoder(self.tokens(x) + self.positions)
        return self.last(hidden.mean(dim=1))


def tiny_transformer() -> TransformerClassifier:
    """Two layers of width 64 on 32 tokens of 256, 10 classes: 119,050 parameters."""
    return TransformerClassifier(tokens=256, length=32, width=64, depth=2, classes=10)


PROBLEM = Problem(
    "tiny_transformer",
    Label("small transformer"),
    "transformer encoder, two layers of width 64, untrained, on random tokens",
    "synthetic",
    119_050,
    on_tokens(tiny_transformer, 256, 32, 10),
)
