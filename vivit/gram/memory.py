"""How much memory there is, and a clear error before it runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vivit.devices import traits
from vivit.errors import InputError, InsufficientMemoryError
from vivit.gram.plan import Plan, human_bytes

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]


CONTROL_GROUP = Path("/sys/fs/cgroup")
"""Where a container sees the limits of its control group."""


def available_bytes(device: torch.device) -> int | None:
    """Memory that this process can still allocate.

    Args:
        device: Where.

    Returns:
        Bytes: on a GPU, what is free on it or held by torch's allocator; else the least of what
        the system, its control group and the limits of the process leave. None if unknown.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        fraction = torch.cuda.get_per_process_memory_fraction(device)
        budget = int(fraction * total) - torch.cuda.memory_allocated(device)
        return min(free + cached, budget)
    if device.type != "cpu":
        return None
    return min((limit for limit in _cpu_limits() if limit is not None), default=None)


def _cpu_limits() -> Iterator[int | None]:
    yield _field(Path("/proc/meminfo"), "MemAvailable")
    limit, used = (_number(CONTROL_GROUP / name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:
        yield max(limit - used + _reclaimable(CONTROL_GROUP / "memory.stat"), 0)
    if resource is not None:
        own = Path("/proc/self/status")
        for kind, field in ((resource.RLIMIT_DATA, "VmData"), (resource.RLIMIT_AS, "VmSize")):
            bound, used = resource.getrlimit(kind)[0], _field(own, field)
            if bound != resource.RLIM_INFINITY and used is not None:
                yield max(bound - used, 0)


def _field(file: Path, name: str) -> int | None:
    """A size in bytes from a table of sizes in kB."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _reclaimable(file: Path) -> int:
    """Bytes of a control group that hold nothing but copies of files."""
    try:
        fields = dict(line.split() for line in file.read_text().splitlines())
    except OSError:
        return 0
    return int(fields.get("inactive_file", 0)) + int(fields.get("active_file", 0))


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no control groups, or no limit
        return None


@dataclass(frozen=True)
class Room:
    """Bytes to work with.

    Attributes:
        device: Where.
        workspace: Bytes for temporaries.
        limit: Bytes to get by with beyond the forward pass; None for what is available.
    """

    device: torch.device
    workspace: int
    limit: int | None

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

    @property
    def available(self) -> int | None:
        """Bytes to get by with beyond the forward pass; None if unknown."""
        return _available(self.device, self.limit)


def _available(device: torch.device, limit: int | None) -> int | None:
    limits = (limit, available_bytes(device))
    return min((size for size in limits if size is not None), default=None)


def check_matrix_fits(num_columns: int, size: int, available: int | None) -> None:
    """Refuse to make a Gram matrix that cannot fit by itself.

    Args:
        num_columns: ``M``.
        size: Its bytes.
        available: Bytes that are left; None if unknown.

    Raises:
        InsufficientMemoryError: It needs more than what is left.
    """
    if available is not None and size > available:
        raise InsufficientMemoryError(
            f"The Gram matrix of {num_columns} columns has {human_bytes(size)}, but "
            f"{human_bytes(available)} are available. Use fewer samples, MonteCarlo(samples=1), "
            "or eigvalsh() and eigh(), which form the smaller D x D matrix of few parameters."
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
