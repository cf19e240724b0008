"""What all ranks must have alike, and how that is compared without sending it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vivit.errors import InputError
from vivit.ranks.base import Facts

PIECE = 2**20
"""Entries of a tensor that are looked at together."""

BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole numbers of as many bytes."""

VALUES = "values of the model's parameters and buffers"
"""What is compared by sums over bits."""

BROADCAST = (
    "Let one have them from another: torch.distributed.broadcast of each, or load_state_dict."
)

SHOWN, WIDTH = 3, 200
"""Names, and characters of a value, that a message shows."""

Names = Mapping[str, Facts]
"""What is compared, by a name for the message."""


@torch.no_grad()
def checksum(x: Tensor) -> list[int]:
    """Two sums over the bits of a tensor, one of them weighted by places, modulo ``2^64``.

    Args:
        x: Any tensor. It is not copied to another device.
    """
    flat = torch.view_as_real(x.detach()) if x.is_complex() else x.detach()
    flat = flat.contiguous().flatten()
    total = torch.zeros(2, dtype=torch.int64, device=x.device)
    for start in range(0, len(flat), PIECE):
        piece = flat[start : start + PIECE]
        bits = piece.view(BITS[piece.element_size()]).to(torch.int64)
        places = torch.arange(start + 1, start + 1 + len(piece), device=x.device)
        total += torch.stack([bits.sum(), (bits * places).sum()])
    return [int(found) for found in total.tolist()]


def described_model(model: nn.Module, parameters: Mapping[str, Tensor]) -> dict[str, Facts]:
    """Names, shapes, dtypes and values of a model.

    Args:
        model: Whose buffers and other parameters count, too: its outputs depend on them.
        parameters: Those that count, by name.
    """
    every = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    names = {
        name: f"{list(p.shape)}, {str(p.dtype).removeprefix('torch.')}"
        for name, p in every.items()
    }
    values = {name: checksum(p) for name, p in every.items() if not p.is_meta}
    return {
        "the selected parameters": [*parameters],
        "shapes and dtypes of the model": names,
        VALUES: values,
        "training mode of the model": model.training,
    }


def described(value: Any) -> Facts:
    """A loss or an option, as far as it can be compared."""
    if isinstance(value, Tensor):
        return ["tensor", str(value.dtype), [*value.shape], checksum(value)]
    if isinstance(value, nn.Module):
        tensors = {**dict(value.named_parameters()), **dict(value.named_buffers())}
        plain = {k: v for k, v in vars(value).items() if isinstance(v, (bool, int, float, str))}
        return [
            type(value).__qualname__,
            {**plain, **{name: described(x) for name, x in tensors.items()}},
        ]
    if isinstance(value, functools.partial):
        return [described(value.func), {k: described(v) for k, v in value.keywords.items()}]
    if is_dataclass(value) and not isinstance(value, type):
        own = {field.name: described(getattr(value, field.name)) for field in fields(value)}
        return [type(value).__qualname__, own]
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    if isinstance(value, (list, tuple, range)):
        return [described(x) for x in value]
    return getattr(value, "__qualname__", None) or type(value).__qualname__


def check_alike(of_ranks: Sequence[Names]) -> None:
    """Refuse ranks that differ in what must be alike.

    Args:
        of_ranks: What each has, all under the same names.

    Raises:
        InputError: One differs from the first.
    """
    first = of_ranks[0]
    for rank, other in enumerate(of_ranks):
        for what, value in first.items():
            if other[what] != value:
                hint = BROADCAST if what == VALUES else "Give all ranks the same."
                raise InputError(
                    f"Ranks 0 and {rank} differ in {what}: {_difference(value, other[what])}. "
                    f"{hint}"
                )


def _difference(one: Facts, other: Facts) -> str:
    """Where two facts differ, as deep as they are of one form."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
        return "; ".join(_named(name, one, other) for name in names[:SHOWN])
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        found = [both for both in zip(one, other, strict=True) if both[0] != both[1]]
        return _difference(*found[0])
    return f"{_short(one)} and {_short(other)}"


def _named(name: str, one: Mapping[str, Facts], other: Mapping[str, Facts]) -> str:
    if name in one and name in other:
        is_sum = _is_checksum(one[name])
        return f"{name!r}" if is_sum else f"{name!r} is {_difference(one[name], other[name])}"
    where = "the first" if name in one else "the second"
    return f"{name!r} is only on {where}"


def _is_checksum(value: Facts) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], int)


def _short(value: Facts) -> str:
    text = str(value)
    return text if len(text) < WIDTH else f"{text[:WIDTH]}..."
