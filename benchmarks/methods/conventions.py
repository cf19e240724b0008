"""What all methods agree on: the blocks, the directions of a step, the order of flat vectors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from curvlinops import GGNLinearOperator
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from benchmarks.problems.problem import Instance
from benchmarks.records.tasks import NEWTON_CUTOFF, Grouping


def blocks(model: nn.Module, grouping: Grouping) -> list[list[str]]:
    """The parameters of each block.

    Args:
        model: The model.
        grouping: How they are put together.

    Returns:
        Names of parameters, in the model's order.
    """
    found: dict[str, list[str]] = {}
    for name, _ in model.named_parameters():
        layer = name.rpartition(".")[0]
        keys = {Grouping.NETWORK: "", Grouping.LAYER: layer, Grouping.PARAMETER: name}
        found.setdefault(keys[grouping], []).append(name)
    return [*found.values()]


def above_cutoff(values: Tensor) -> Tensor:
    """Which eigenvalues have directions that a Newton step uses: a mask."""
    return values > NEWTON_CUTOFF


def flat_vectors(vectors: Iterable[Tensor]) -> Tensor:
    """Eigenvectors in pieces of shape ``[K, *shape]`` as one matrix ``[K, D]``."""
    return torch.cat([v.flatten(start_dim=1) for v in vectors], dim=1)


def num_samples(inputs: Any) -> int:
    """The length of all tensors among the inputs that have one.

    Args:
        inputs: A tensor, or dictionaries, lists and tuples of such, nested.

    Returns:
        ``N``.
    """
    return next(len(x) for x in tree_leaves(inputs) if isinstance(x, Tensor) and x.ndim)


def matrix_free_ggn(instance: Instance, names: Iterable[str] | None = None) -> GGNLinearOperator:
    """Curvlinops' GGN, which shares no code with ours.

    Args:
        instance: The problem.
        names: Parameters of a block; None for all.

    Returns:
        Shape ``[D, D]``.
    """
    parameters = dict(instance.model.named_parameters())
    return GGNLinearOperator(
        instance.model,
        instance.loss_func,
        [parameters[name] for name in (parameters if names is None else names)],
        instance.batches,
        check_deterministic=False,
        batch_size_fn=num_samples,  # inputs may be no tensor
    )
