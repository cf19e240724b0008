"""Operations that a run calls: how often, on how many bytes, for how many flops and seconds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

NUMBERS = ("_local_scalar_dense", "is_nonzero")
"""Operations that only hand a number to the program, which waits for it."""

WAITING = ("nonzero", "equal", "masked_select", "_unique2")
"""Operations whose result, or its size, the program waits for."""

FILLING = ("copy_", "fill_", "zero_")
"""Operations that write to their first argument without reading it."""

IDLE = (
    *("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
    *("_unsafe_view", "lift_fresh", "is_same_size", "_has_same_storage_numel"),
)
"""Operations that touch no entries, beside those that say they are views."""


@dataclass
class Count:
    """What some operations take.

    Attributes:
        calls: Operations that do something: views and allocations do not count.
        bytes: Read and written, if every tensor is read and written once per operation.
        flops: Of products of matrices and convolutions.
        waits: Times that the program needs a number before it can go on; on a GPU, it waits for
            all that has been launched.
        seconds: Within operations, one after the other.
    """

    calls: int = 0
    bytes: int = 0
    flops: int = 0
    waits: int = 0
    seconds: float = 0.0

    def add(self, other: Count) -> None:
        """Add those of other operations."""
        self.calls += other.calls
        self.bytes += other.bytes
        self.flops += other.flops
        self.waits += other.waits
        self.seconds += other.seconds


Counts = Mapping[tuple[str, str], Count]
"""By phase and name of the operation."""


def total(counts: Counts) -> Count:
    """Of all operations."""
    found = Count()
    for count in counts.values():
        found.add(count)
    return found


def by_phase(counts: Counts) -> dict[str, Count]:
    """Of the operations of each phase, in the order in which the phases begin."""
    return _joined(counts, 0)


def by_operation(counts: Counts) -> dict[str, Count]:
    """Of each operation, in all phases."""
    return _joined(counts, 1)


def _joined(counts: Counts, key: int) -> dict[str, Count]:
    found: dict[str, Count] = {}
    for names, count in counts.items():
        found.setdefault(names[key], Count()).add(count)
    return found


@contextmanager
def counted(phase: Callable[[], str], device: torch.device) -> Iterator[Counts]:
    """Count the operations that are called within.

    Args:
        phase: Tells in which phase the operation is that is being called.
        device: On another one than a CPU, each operation is waited for, so that its time is its
            own.

    Yields:
        The counts, which grow.
    """
    mode = _Counting(phase, device)
    with mode:
        yield mode.counts


class _Counting(TorchDispatchMode):
    """Sees every operation below autograd, those of backward passes among them."""

    def __init__(self, phase: Callable[[], str], device: torch.device) -> None:
        super().__init__()
        self.counts: dict[tuple[str, str], Count] = defaultdict(Count)
        self._phase, self._device = phase, device

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, and count it."""
        kwargs = kwargs or {}
        start = self._now()
        result = func(*args, **kwargs)
        seconds = self._now() - start
        name = func._overloadpacket.__name__
        if _moves_nothing(func, name):
            return result
        count = Count(seconds=seconds)
        if name in NUMBERS:
            count.waits = 1
        else:
            count.calls = 1
            count.bytes = _bytes(name, args, kwargs, result)
            count.flops = _flops(func, args, kwargs, result)
            count.waits = int(_waits(name, args, result))
        self.counts[self._phase(), name].add(count)
        return result

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return perf_counter()


def _moves_nothing(func: Any, name: str) -> bool:
    """Whether an operation makes a view, or memory that is not written to."""
    if name in IDLE:
        return True
    aliases = [result.alias_info for result in func._schema.returns]
    return bool(aliases) and all(info is not None and not info.is_write for info in aliases)


def _waits(name: str, args: tuple[Any, ...], result: Any) -> bool:
    """Whether the program waits for what an operation gives."""
    if name == "equal" and args[0].dtype is torch.uint8:  # states of generators, on no device
        return False
    return name in WAITING or _leaves_device(name, args, result) or _counts_entries(name, args)


def _leaves_device(name: str, args: tuple[Any, ...], result: Any) -> bool:
    """Whether a tensor goes from a GPU to the processor, which waits for it."""
    if name not in ("_to_copy", "copy_") or not isinstance(result, Tensor):
        return False
    source = args[1] if name == "copy_" else args[0]
    return result.device.type == "cpu" and source.device.type != "cpu"


def _counts_entries(name: str, args: tuple[Any, ...]) -> bool:
    """Whether entries are chosen by a mask, so that the result has a size that is not known."""
    if not name.startswith(("index", "_index")):
        return False
    chosen = [x for x in tree_leaves(args[1]) if isinstance(x, Tensor)]
    return any(x.dtype in (torch.bool, torch.uint8) for x in chosen)


def _bytes(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> int:
    """Of what is read, and of what is written, each once."""
    options = {key: x for key, x in kwargs.items() if key != "out"}
    read = (args[1:] if name in FILLING else args, options)
    tensors = [x for x in tree_leaves((read, result)) if isinstance(x, Tensor)]
    return sum(_size(x) for x in tensors)


def _size(x: Tensor) -> int:
    """Of what is in memory: an expanded tensor may have more entries than that."""
    entries = 1
    for size, stride in zip(x.shape, x.stride(), strict=True):
        entries *= size if stride else 1
    return entries * x.element_size() if x.numel() else 0


def _flops(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> int:
    packet = func._overloadpacket
    formula = flop_registry.get(packet)
    if formula is None and packet.__name__.endswith("_"):
        formula = flop_registry.get(getattr(torch.ops.aten, packet.__name__[:-1], None))
    if formula is None:
        return 0
    options = {name: value for name, value in kwargs.items() if name != "out"}
    return int(formula(*args, **options, out_val=result))
