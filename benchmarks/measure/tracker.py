"""A deterministic count of the bytes that tensors hold, and a budget for it.

The same run gives the same figure on any machine and at any time, which resident memory does not.
It is the peak of what torch's allocator hands out, but for temporaries inside of operators (a
convolution's windows, say), which depend on the instructions of the processor. Arrays of numpy and
buffers of libraries are missed, too.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class SimulatedOutOfMemoryError(torch.OutOfMemoryError):
    """Tensors hold more than the budget."""


class AllocationTracker(TorchDispatchMode):
    """Follows the storages of all tensors that operations return, while it is active.

    Attributes:
        peak: The largest number of bytes that lived at once.
    """

    def __init__(self, budget: int | None = None) -> None:
        """Begin with nothing.

        Args:
            budget: Bytes beyond which an operation ends in `SimulatedOutOfMemoryError`; None for
                no bound.
        """
        super().__init__()
        self.peak = 0
        self._budget, self._live = budget, 0
        self._known: set[int] = set()

    def ignore(self, tensors: object) -> None:
        """Do not count storages that were there before: of parameters and data.

        Args:
            tensors: Tensors in lists, tuples or dictionaries.
        """
        for storage in _storages(tensors):
            self._remember(storage, 0)

    def count(self, tensors: object) -> None:
        """Count storages that were there before.

        Args:
            tensors: Tensors in lists, tuples or dictionaries.
        """
        for storage in _storages(tensors):
            self._remember(storage, storage.nbytes())

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and count what it allocated; what it is given was there before."""
        self.ignore([args, kwargs])
        result = function(*args, **(kwargs or {}))
        for storage in _storages(result):
            self._remember(storage, storage.nbytes())
        if self._budget is not None and self._live > self._budget:
            raise SimulatedOutOfMemoryError(
                f"out of memory: {self._live} bytes of tensors exceed the simulated budget of "
                f"{self._budget} bytes, in {function}"
            )
        return result

    def _remember(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        self._live += size
        self.peak = max(self.peak, self._live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._live -= size


def _storages(values: object) -> list[torch.UntypedStorage]:
    return [x.untyped_storage() for x in tree_leaves(values) if isinstance(x, torch.Tensor)]


def tracked_peak(run: Callable[[], object], held: object) -> int:
    """Peak of the bytes of all tensors of one run.

    Args:
        run: What to measure.
        held: Tensors that are there before, which do not count.

    Returns:
        Bytes.
    """
    gc.collect()
    tracker = AllocationTracker()
    tracker.ignore(held)
    with tracker:
        run()
    return tracker.peak
