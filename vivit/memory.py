"""How much memory there is, and how large that is for people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

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
            bound = resource.getrlimit(kind)[0]
            used = None if bound == resource.RLIM_INFINITY else _field(own, field)
            if used is not None:
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


def human_bytes(size: float) -> str:
    """A size for people, such as ``"1.5 GiB"``."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
