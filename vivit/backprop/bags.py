"""Bags of embeddings by plain operations.

The fused operation has neither a second derivative nor a forward mode, and hides what it does with
its weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vivit.errors import UnsupportedError


def has_bags(model: nn.Module) -> bool:
    """Whether a model has modules that are embedding bags; functions show in its graph only."""
    return any(isinstance(module, nn.EmbeddingBag) for module in model.modules())


@contextmanager
def unfused_bags(needed: bool) -> Iterator[None]:
    """Let embedding bags run as lookups and sums.

    Args:
        needed: Whether there are any; a model without keeps its kernels.
    """
    if not needed:
        yield
        return
    with _Replaced():
        yield


class _Replaced(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function of torch, or its replacement."""
        if func is nn.functional.embedding_bag:
            func = embedding_bag
        return func(*args, **(kwargs or {}))


def embedding_bag(
    input: Tensor,  # noqa: A002 - torch's name
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """``torch.nn.functional.embedding_bag``, whose arguments these are.

    Returns:
        Shape ``[B, d]`` for ``B`` bags.

    Raises:
        UnsupportedError: Gradients are scaled by frequencies, or entries belong to no bag.
    """
    if scale_grad_by_freq:
        raise UnsupportedError(
            "An embedding bag has scale_grad_by_freq=True: its gradients are not derivatives. Set "
            "it to False."
        )
    entries = input.reshape(-1)
    if offsets is None:  # all bags have one length
        sizes = entries.new_full((len(input),), input.shape[1])
    else:
        ends = offsets if include_last_offset else nn.functional.pad(offsets, (0, 1))
        if not include_last_offset:
            ends[-1] = len(entries)
        if int(ends[-1]) != len(entries):
            raise UnsupportedError(
                f"The offsets of an embedding bag end at {int(ends[-1])}, but there are "
                f"{len(entries)} entries. torch leaves the others out of its outputs, but not of "
                "its gradients: cut them off."
            )
        sizes = ends.diff()
    bag = torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes)
    counts = torch.ones_like(entries, dtype=torch.bool)
    if padding_idx is not None:
        counts = entries != padding_idx % len(weight)
    rows = nn.functional.embedding(entries, weight)
    if mode == "max":
        return _largest(rows.masked_fill(~counts[:, None], -torch.inf), bag, sizes)
    share = counts.to(rows)
    if per_sample_weights is not None:
        share = share * per_sample_weights.reshape(-1)
    total = rows.new_zeros(len(sizes), rows.shape[1]).index_add(0, bag, rows * share[:, None])
    if mode == "sum":
        return total
    number = rows.new_zeros(len(sizes)).index_add(0, bag, counts.to(rows))
    return total / number.clamp(min=1)[:, None]


def _largest(rows: Tensor, bag: Tensor, sizes: Tensor) -> Tensor:
    """Largest entries of the rows of each bag; zero for an empty one."""
    place = torch.arange(len(rows), device=rows.device) - (sizes.cumsum(0) - sizes)[bag]
    index = sizes.new_full((len(sizes), max(int(sizes.max()), 1)), len(rows))
    index[bag, place] = torch.arange(len(rows), device=rows.device)
    nothing = rows.new_full((1, rows.shape[1]), -torch.inf)
    largest = torch.cat([rows, nothing])[index].max(dim=1).values
    return torch.where(largest.isinf(), torch.zeros_like(largest), largest)
