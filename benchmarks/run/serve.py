"""A process of its own for one method on one problem, driven by its parent.

Commands arrive as lines of JSON on standard input; each is answered by one line on standard
output. Whatever the measured code prints goes to standard error.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import traceback
from typing import Any, TextIO

import torch

from benchmarks.measure.critical import BudgetMode
from benchmarks.measure.time_and_memory import is_out_of_memory
from benchmarks.measure.tracker import SimulatedOutOfMemoryError
from benchmarks.methods import NotApplicableError
from benchmarks.records.record import Status
from benchmarks.run.worker import Worker

PR_SET_PDEATHSIG = 1

PARENT = "BENCHMARKS_PARENT"
"""Environment variable that tells a worker whose child it is."""

COMMANDS = ("missing", "reference", "accuracy", "time", "memory", "footprint", "tensors", "probe")
"""Methods of `Worker` that a parent may call."""


def main() -> None:
    """Serve commands until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    _die_with_parent()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # prints, of C code and of subprocesses too, go to standard error
    worker: Worker | None = None
    for line in sys.stdin:
        command = json.loads(line)
        name, arguments = command.pop("command"), command
        try:
            if name == "start":
                limit, by = arguments.pop("memory_limit"), arguments.pop("limited_by")
                simulated = by == BudgetMode.SIMULATED.value
                if limit is not None and not simulated:
                    _limit_memory(limit, by)
                worker = Worker(**arguments, budget=limit if simulated else None)
                result: dict[str, Any] = {}
            elif name in COMMANDS:
                result = getattr(worker, name)(**arguments)
            else:
                raise ValueError(f"unknown command {name!r}, expected one of {COMMANDS}")
            _answer(answers, {"status": Status.OK.value, **result})
        except Exception as error:
            traceback.print_exc()
            simulated = worker is not None and worker.is_simulated
            status = status_of(error, simulated)
            _answer(answers, {"status": status.value, "reason": reason_of(error)})


def _answer(stream: TextIO, message: dict[str, Any]) -> None:
    stream.write(json.dumps(message) + "\n")
    stream.flush()


def status_of(error: Exception, simulated: bool) -> Status:
    """What an error means.

    Args:
        error: What a run raised.
        simulated: Whether the budget is, so that what the machine lacks does not count.

    Returns:
        The status of the record.
    """
    if simulated:
        foreseen = type(error).__name__ == "InsufficientMemoryError"  # of our library's plan
        does_not_fit = foreseen or isinstance(error, SimulatedOutOfMemoryError)
    else:
        does_not_fit = is_out_of_memory(error)
    if does_not_fit:
        return Status.OUT_OF_MEMORY
    if isinstance(error, NotApplicableError):
        return Status.SKIPPED
    return Status.ERROR


def reason_of(error: Exception) -> str:
    """What a record says of an error: its kind, and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _limit_memory(limit: int, by: str) -> None:
    """Let allocations beyond a limit fail, rather than the system kill the process.

    Args:
        limit: Bytes.
        by: Whose memory is meant: the process's, or that of a GPU, which is named.
    """
    if by == BudgetMode.PROCESS.value:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        return
    total = torch.cuda.get_device_properties(by).total_memory
    if limit > total:
        raise ValueError(f"a budget of {limit} bytes is more than the {total} bytes of {by}")
    torch.cuda.set_per_process_memory_fraction(limit / total, torch.device(by).index or 0)


def _die_with_parent() -> None:
    """A parent that is killed takes its workers along."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.environ.get(PARENT, str(os.getppid())) != str(os.getppid()):
            sys.exit("The parent is gone.")


if __name__ == "__main__":
    main()
