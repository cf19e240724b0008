"""Bytes to work with, and a clear error before they run out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic

import torch
from torch import Tensor

from vivit.devices import traits
from vivit.errors import InputError, InsufficientMemoryError
from vivit.gram.plan import Plan
from vivit.memory import available_bytes, human_bytes
from vivit.ranks import Ranks


@dataclass(frozen=True)
class Room:
    """Bytes to work with.

    Attributes:
        device: Where.
        workspace: Bytes for temporaries.
        limit: Bytes to get by with beyond the forward pass; None for what is available.
        is_shared: Whether several ranks have agreed on it, who must decide alike: what is
            available now does not count.
    """

    device: torch.device
    workspace: int
    limit: int | None
    is_shared: bool = False

    @classmethod
    def of(
        cls, parameters: Mapping[str, Tensor], workspace: int | None, memory: int | None
    ) -> Room:
        """What a user gives.

        Args:
            parameters: Those of the model, on the device that is worked on.
            workspace: Bytes for temporaries; None for what suits the device.
            memory: Bytes to get by with beyond the forward pass; None for what is available.

        Returns:
            The room.

        Raises:
            InputError: A number of bytes is none.
        """
        for name, size in (("workspace", workspace), ("memory", memory)):
            if size is not None and (not isinstance(size, int) or size < 1):
                raise InputError(f"{name} must be a number of bytes, at least 1, got {size}.")
        device = next(iter(parameters.values())).device
        if workspace is None:
            workspace = traits(device).workspace_within(_available(device, memory))
        return cls(device, workspace, memory)

    def shared(self, ranks: Ranks) -> Room:
        """What all ranks have at least."""
        if ranks.size == 1:
            return self
        found = ranks.facts([self.workspace, self.available], "memory to work with")
        known = (available for _, available in found if available is not None)
        return Room(self.device, min(x for x, _ in found), min(known, default=None), True)

    @property
    def available(self) -> int | None:
        """Bytes to get by with beyond the forward pass; None if unknown."""
        if self.is_shared:
            return self.limit
        return _available(self.device, self.limit)


def _available(device: torch.device, limit: int | None) -> int | None:
    limits = (limit, _LAST.read(device))
    return min((size for size in limits if size is not None), default=None)


FRESH = 0.01
"""Seconds for which a size counts on a CPU, in which no process can fill much memory. To ask the
system several times would take longer than all else for a small network."""


class _LastReading:
    """What was available when it was last asked for."""

    def __init__(self) -> None:
        self._known: tuple[float, object, int | None] | None = None

    def read(self, device: torch.device) -> int | None:
        """Bytes that are available, now or a moment ago."""
        if device.type != "cpu":  # where memory is taken in no time
            return available_bytes(device)
        now = monotonic()
        if self._known is not None:
            time, source, size = self._known
            if source is available_bytes and now - time <= FRESH:
                return size
        size = available_bytes(device)
        self._known = now, available_bytes, size
        return size


_LAST = _LastReading()


def check_matrix_fits(
    num_columns: int, size: int, available: int | None, may_be_sampled: bool
) -> None:
    """Refuse to make a Gram matrix that cannot fit by itself.

    Args:
        num_columns: ``M``.
        size: Its bytes.
        available: Bytes that are left; None if unknown.
        may_be_sampled: Whether `MonteCarlo` could do with fewer columns.

    Raises:
        InsufficientMemoryError: It needs more than what is left.
    """
    if available is not None and size > available:
        sampled = "MonteCarlo(samples=1), " if may_be_sampled else ""
        raise InsufficientMemoryError(
            f"The Gram matrix of {num_columns} columns has {human_bytes(size)}, but "
            f"{human_bytes(available)} are available. Use fewer samples, {sampled}"
            "products with it (gram_operator()), or eigvalsh() and eigh(), which form the smaller "
            "D x D matrix of few parameters."
        )


def check_fits(
    plan: Plan, available: int | None, smaller: Callable[[], Iterator[tuple[str, Plan]]]
) -> None:
    """Refuse to begin what cannot fit.

    Args:
        plan: What it costs.
        available: Bytes that are left; None if unknown.
        smaller: Gives descriptions and plans of what may be done instead.

    Raises:
        InsufficientMemoryError: It needs more than what is left.
    """
    if available is None or plan.peak_bytes <= available:
        return
    fitting = [
        f"{what} ({human_bytes(other.peak_bytes)})"
        for what, other in smaller()
        if other.peak_bytes <= available
    ]
    hint = f"What would fit: {'; '.join(fitting)}." if fitting else "No variant of it would fit."
    raise InsufficientMemoryError(
        f"The Gram matrix of {plan.num_columns} columns needs {human_bytes(plan.peak_bytes)} "
        f"beyond the forward pass (matrices {human_bytes(plan.matrix_bytes)}, eigensolver "
        f"{human_bytes(plan.solver_bytes)}, kept of the layers {human_bytes(plan.kept_bytes)}), "
        f"but {human_bytes(available)} are available. {hint}"
    )
