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
    padding = -1 if padding_idx is None else padding_idx % len(weight)
    counts = input != padding
    if offsets is not None:
        place, present = _places(len(input), offsets, include_last_offset)
        input, counts = input[place], counts[place] & present  # noqa: A001 - as above
        if per_sample_weights is not None:
            per_sample_weights = per_sample_weights[place]
    rows = nn.functional.embedding(input, weight)
    if mode == "max":
        found = rows.masked_fill(~counts[:, :, None], -torch.inf)
        found = nn.functional.pad(found, (0, 0, 0, 1), value=-torch.inf)  # a bag may be empty
        largest = found.max(dim=1).values
        return largest.masked_fill(largest.isinf(), 0)
    share = counts.to(rows)
    number = share.sum(dim=1, keepdim=True).clamp(min=1) if mode == "mean" else None
    if per_sample_weights is not None:
        share = share * per_sample_weights
    total = (rows * share[:, :, None]).sum(dim=1)
    return total if number is None else total / number


def _places(number: int, offsets: Tensor, include_last_offset: bool) -> tuple[Tensor, Tensor]:
    """Where the entries of each bag are, as if all bags were as long as the longest one.

    Args:
        number: Of entries.
        offsets: Where bags begin, and the last one ends if that is included.
        include_last_offset: Whether it is.

    Returns:
        Indices ``[B, L]`` of entries, and whether there are such.
    """
    ends = offsets if include_last_offset else nn.functional.pad(offsets, (0, 1))
    if not include_last_offset:
        ends[-1] = number
    if int(ends[-1]) != number:
        raise UnsupportedError(
            f"The offsets of an embedding bag end at {int(ends[-1])}, but there are "
            f"{number} entries. torch leaves the others out of its outputs, but not of "
            "its gradients: cut them off."
        )
    sizes = ends.diff()
    place = torch.arange(max(sizes.tolist(), default=0), device=sizes.device)
    present = place < sizes[:, None]
    return (ends[:-1, None] + place).where(present, 0), present
