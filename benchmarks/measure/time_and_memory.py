"""Time and memory of a function in this process."""

from __future__ import annotations

import ctypes
import errno
import gc
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from timeit import Timer

import torch
from torch.utils.benchmark.utils.timer import timer as synchronised_clock

SHORTEST_SAMPLE = 0.02
"""Seconds; shorter runs are repeated within a sample until it lasts as long."""

OUT_OF_MEMORY = ("can't allocate memory", "std::bad_alloc", "ALLOC_FAILED", "out of memory")
"""What torch and its libraries say when an allocation fails. The library has the same list, but
must not be imported here: its name is the original's, too."""


def says_out_of_memory(message: str) -> bool:
    """Whether an error message is about a failed allocation."""
    return any(text in message for text in OUT_OF_MEMORY)


PRIMITIVE_FAILED = ("could not create a primitive", "could not execute a primitive")
"""What torch says when oneDNN fails, for lack of memory or for another reason, which is lost."""


def may_be_out_of_memory(message: str) -> bool:
    """Whether an error message leaves open whether an allocation failed."""
    return any(text in message for text in PRIMITIVE_FAILED)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception is about a failed allocation."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, (OSError, ImportError)):  # such as of a module that is imported then
        return os.strerror(errno.ENOMEM) in str(error)
    return isinstance(error, RuntimeError) and says_out_of_memory(str(error))


def seconds_per_run(run: Callable[[], object], number: int = 1) -> float:
    """Mean time of some runs, with the device synchronised before and after.

    Warming up is up to the caller: torch's own `Timer` does it anew for every sample, which
    would triple the cost of slow methods.

    Args:
        run: What to measure.
        number: Runs of this sample.

    Returns:
        Seconds per run.
    """
    gc.collect()
    return Timer(run, timer=synchronised_clock).timeit(number) / number


def runs_per_sample(seconds: float) -> int:
    """How often to repeat a run of this length within a sample.

    Args:
        seconds: Time of one run.

    Returns:
        At least one.
    """
    return max(1, math.ceil(SHORTEST_SAMPLE / max(seconds, 1e-9)))


def peak_bytes(run: Callable[[], object], device: str) -> int:
    """Peak memory of one run above what is allocated before it.

    On a CPU this is resident memory, and right only in a process that did little before: memory
    that earlier work freed but the process kept does not count. On CUDA, the allocator's own.

    Args:
        run: What to measure.
        device: As torch names it.

    Returns:
        Bytes.
    """
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    _return_freed_memory()
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM to VmRSS
    before = resident("VmRSS")
    run()
    return max(resident("VmHWM") - before, 0)


def whole_peak_bytes(device: str) -> int:
    """Peak memory of this process since it began, with all that it has imported.

    Args:
        device: As torch names it; on CUDA, the allocator's peak.

    Returns:
        Bytes.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_reserved(device)
    return resident("VmHWM")


def whole_process_bytes(run: Callable[[], object]) -> int:
    """Peak resident memory of the whole process during one run, sampled by memory_profiler.

    Args:
        run: What to measure.

    Returns:
        Bytes, with all that the process has imported.
    """
    from memory_profiler import memory_usage  # type: ignore[import-untyped]

    # its way to measure a function forks a process, which a killed worker would leave behind
    samples, done = [0.0], Event()

    def watch() -> None:
        while not done.is_set():
            samples.extend(memory_usage(-1, interval=0.001, timeout=0.01))

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    return int(max(samples) * 2**20)


def resident(field: str) -> int:
    """A memory figure of this process.

    Args:
        field: ``"VmRSS"`` (now) or ``"VmHWM"`` (peak).

    Returns:
        Bytes.

    Raises:
        RuntimeError: The system does not tell.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status does not tell {field}; peak memory needs Linux.")


def _return_freed_memory() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
