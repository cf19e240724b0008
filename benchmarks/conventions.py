"""What all methods agree on: the blocks, the directions of a step, the order of flat vectors."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from benchmarks.tasks import NEWTON_CUTOFF


def layers(model: nn.Module) -> dict[str, list[str]]:
    """The parameters of each module that owns some.

    Args:
        model: The model.

    Returns:
        Names of parameters by name of the module, in the model's order.
    """
    found: dict[str, list[str]] = {}
    for name, _ in model.named_parameters():
        found.setdefault(name.rpartition(".")[0], []).append(name)
    return found


def above_cutoff(values: Tensor) -> Tensor:
    """Which eigenvalues have directions that a Newton step uses: a mask."""
    return values > NEWTON_CUTOFF


def flat_vectors(vectors: Iterable[Tensor]) -> Tensor:
    """Eigenvectors in pieces of shape ``[K, *shape]`` as one matrix ``[K, D]``."""
    return torch.cat([v.flatten(start_dim=1) for v in vectors], dim=1)
