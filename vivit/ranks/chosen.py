"""From the process group that a user gives to the ranks."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from vivit.errors import InputError
from vivit.ranks.base import ALONE, Ranks
from vivit.ranks.group import Group


class _NoGroup:
    """Not None, which is what torch's default group is before it is there."""

    def __repr__(self) -> str:
        return "NO_GROUP"


NO_GROUP = _NoGroup()
"""A single process."""


def ranks_of(process_group: Any, device: torch.device) -> Ranks:
    """The ranks of a process group.

    Args:
        process_group: Of `torch.distributed`, of which this process is a member; or `NO_GROUP`.
        device: Of the parameters.

    Returns:
        The ranks, or `ALONE`.

    Raises:
        InputError: It is none, or has no way between tensors of the device.
    """
    if process_group is NO_GROUP:
        return ALONE
    if not dist.is_available() or not dist.is_initialized():
        raise InputError(
            "process_group is given, but there is none yet: call "
            'torch.distributed.init_process_group("gloo") (or "nccl") first, in a process that '
            "torchrun has started. For a single process, leave process_group out."
        )
    if not isinstance(process_group, dist.ProcessGroup):
        raise InputError(
            "process_group must be a group of torch.distributed that this process is a member "
            f"of, such as torch.distributed.group.WORLD, got {process_group!r}."
        )
    backend = dist.get_backend(process_group)
    if backend == "nccl" and device.type != "cuda":
        raise InputError(
            f"The process group sends by NCCL, which needs a GPU, but the parameters are on "
            f'{device}. Use init_process_group("gloo").'
        )
    if dist.get_world_size(process_group) == 1:
        return ALONE
    wire = device if backend == "nccl" else torch.device("cpu")
    return Group(process_group, wire)
