"""Ways to make model, inputs and targets of a problem from a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.problems.datasets import Batch
from benchmarks.problems.digits import digits_batch, trained_on_digits
from benchmarks.problems.problem import Maker


def on_noise(network: Callable[[], nn.Module], shape: tuple[int, ...], classes: int) -> Maker:
    """Untrained network on uniform noise in [0, 1), as large as the data set's images."""

    def make(
        batch_size: int, seed: int, batch: Batch | None = None
    ) -> tuple[nn.Module, Tensor, Tensor]:
        if batch is not None:
            return network(), *batch
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.rand(batch_size, *shape, generator=generator)
        targets = torch.randint(classes, (batch_size,), generator=generator)
        return network(), inputs, targets

    return make


STATISTICS_PASSES = 5
"""Forward passes that fill the running statistics of BatchNorm, as in the published runs."""


def with_statistics(maker: Maker) -> Maker:
    """Fill running statistics from the batch itself."""

    def make(batch_size: int, seed: int, **options: Any) -> tuple[nn.Module, Tensor, Tensor]:
        model, inputs, targets = maker(batch_size, seed, **options)
        with torch.no_grad():
            for _ in range(STATISTICS_PASSES):
                model.train()(inputs)
        return model, inputs, targets

    return make


def regression(network: Callable[[], nn.Module], features: int, outputs: int) -> Maker:
    """Untrained network on normal inputs and targets."""

    def make(batch_size: int, seed: int) -> tuple[nn.Module, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(batch_size, features, generator=generator)
        return network(), inputs, torch.randn(batch_size, outputs, generator=generator)

    return make


def on_tokens(
    network: Callable[[], nn.Module], vocabulary: int, length: int, classes: int
) -> Maker:
    """Untrained network on random tokens."""

    def make(batch_size: int, seed: int) -> tuple[nn.Module, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randint(vocabulary, (batch_size, length), generator=generator)
        return network(), inputs, torch.randint(classes, (batch_size,), generator=generator)

    return make


def on_digits(network: Callable[[], nn.Module], accuracy: float) -> Maker:
    """Network trained on the handwritten digits that ship with scikit-learn."""

    def make(batch_size: int, seed: int) -> tuple[nn.Module, Tensor, Tensor]:
        return trained_on_digits(network(), accuracy, seed), *digits_batch(batch_size)

    return make
