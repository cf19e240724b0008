"""A small language model: a prediction of the next word at every position."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.problems.problem import Problem
from benchmarks.problems.transformer import transformer_block
from benchmarks.records.label import Label

WORDS = 1000
LENGTH = 32


class LanguageModel(nn.Module):
    """A causal transformer on tokens, and a linear layer at each position."""

    def __init__(self, words: int, length: int, width: int, depth: int) -> None:
        """Choose the sizes.

        Args:
            words: Size of the vocabulary.
            length: Of the sequences.
            width: Of the embedding; a head has 16 of it.
            depth: Number of layers.
        """
        super().__init__()
        self.tokens = nn.Embedding(words, width)
        self.positions = nn.Parameter(torch.randn(length, width) / width**0.5)
        blocks = [m for _ in range(depth) for m in transformer_block(width, is_causal=True)]
        self.decoder = nn.Sequential(*blocks)
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, words, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Token indices ``[N, length]`` to logits ``[N, words, length]``."""
        hidden = self.decoder(self.tokens(x) + self.positions)
        return self.last(self.norm(hidden)).transpose(1, 2)


def language_model() -> LanguageModel:
    """Two layers of width 64 on 32 words of 1000: 230,144 parameters."""
    return LanguageModel(WORDS, LENGTH, width=64, depth=2)


def on_sentences(batch_size: int, seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    """Untrained network on random words, each the target of the one before."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(WORDS, (batch_size, LENGTH + 1), generator=generator)
    return language_model(), words[:, :-1], words[:, 1:]


PROBLEM = Problem(
    "language_model",
    Label("small language model"),
    "causal transformer, two layers of width 64, untrained, on 32 random words of 1000",
    "synthetic",
    230_144,
    on_sentences,
)
