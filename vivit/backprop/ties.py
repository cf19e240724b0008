"""Tensors that share memory with a parameter without autograd's knowledge."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def warn_of_hidden_ties(model: nn.Module, parameters: Mapping[str, Tensor]) -> None:
    """Warn of tensors that are tied to a parameter in memory, but not for autograd.

    Args:
        model: The model.
        parameters: Those that count.
    """
    owners = {name: p for name, p in parameters.items() if _has_memory(p)}
    by_memory: dict[tuple[torch.device, int], list[str]] = defaultdict(list)
    for name, p in owners.items():
        by_memory[_memory(p)].append(name)
    for other, x in [*model.named_buffers(), *model.named_parameters()]:
        if x.requires_grad or not _has_memory(x):
            continue
        start, end = _span(x)
        for name in by_memory.get(_memory(x), []):
            first, last = _span(owners[name])
            if first < end and start < last:
                warnings.warn(
                    f"{other!r} of the model lies in the memory of parameter {name!r}, but is "
                    "detached from it: it changes as the parameter does, but counts as a constant "
                    "in gradients and curvature. If the weights are to be tied, register the "
                    "parameter itself.",
                    stacklevel=2,
                )


def _has_memory(x: Tensor) -> bool:
    """Whether a tensor lies somewhere, as a plain one does."""
    is_plain = type(x) in (Tensor, nn.Parameter) and x.layout is torch.strided
    return is_plain and x.device.type != "meta" and x.numel() > 0


def _memory(x: Tensor) -> tuple[torch.device, int]:
    """The allocation in which a tensor lies, so that not all pairs have to be compared."""
    return x.device, x.untyped_storage().data_ptr()


def _span(x: Tensor) -> tuple[int, int]:
    """The addresses between which a tensor lies."""
    last = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return x.data_ptr(), x.data_ptr() + (last + 1) * x.element_size()
