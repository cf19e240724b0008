"""A worker process as its parent sees it, and which interpreter runs it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from benchmarks.grid.comparison import Comparison
from benchmarks.measure.critical import BudgetMode
from benchmarks.measure.time_and_memory import says_out_of_memory
from benchmarks.methods import find_method
from benchmarks.records.record import Status
from benchmarks.run.serve import PARENT

ROOT = Path(__file__).resolve().parents[2]
"""Where ``python -m benchmarks`` finds the package."""

WORKER = [sys.executable, "-m", "benchmarks.run.serve"]
"""The command of a worker."""

KEPT_OF_STDERR = 4000
"""Bytes of what a failing process wrote that its record keeps."""

ENDING = 10.0
"""Seconds that a process which closed its output may take to end."""

FAILED = {Status.ERROR.value, Status.OUT_OF_MEMORY.value, Status.TIMEOUT.value}

PEER_PYTHON = ROOT / ".tox" / "peer" / "bin" / "python"
"""The interpreter of peers, where tox puts it."""

PEER_WORKER = ["-I", str(ROOT / "benchmarks" / "run" / "peer_worker.py")]
"""Arguments of that interpreter. Isolated, for our library has the original's name."""


RETURNING = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "MALLOC_TOP_PAD_": "0",
}
"""Settings of glibc's allocator with which it gives back what tensors freed. By default it keeps
more or less of it, by chance."""

YIELDING = {"OMP_WAIT_POLICY": "passive"}
"""Setting with which threads that wait for others of their process sleep. By default they spin, on
cores that workers at their side need, which at times makes those many times slower."""

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""Setting of how many threads NumPy and SciPy start, each in an OpenBLAS of its own. These wait
spinning, on cores that torch's threads need, which made SciPy's solvers up to 2.5 times as slow;
and each reserves 40 MiB of a limit, used or not."""


def open_worker(
    comparison: Comparison,
    method: str,
    memory_limit: int | None,
    peer_python: Path,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> WorkerProcess:
    """Start a worker in the environment of its method.

    Args:
        comparison: What is measured.
        method: Name of the method.
        memory_limit: Bytes of data that it may allocate; None for no limit.
        peer_python: The interpreter of peers.
        settings: Environment variables to be set.

    Returns:
        The worker, or what stands for one whose environment does not exist.
    """
    if not find_method(method).is_peer:
        return WorkerProcess(comparison, method, memory_limit, settings=settings)
    if not peer_python.exists():
        return AbsentWorker(peer_python)
    command = [str(peer_python), *PEER_WORKER]
    return WorkerProcess(comparison, method, memory_limit, command, settings)


class WorkerProcess:
    """Runs `benchmarks.worker` and asks it; every question has a time limit."""

    def __init__(
        self,
        comparison: Comparison,
        method: str,
        memory_limit: int | None,
        command: list[str] | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Start the process.

        Args:
            comparison: What is measured.
            method: Name of the method.
            memory_limit: Bytes of data that it may allocate; None for no limit.
            command: Of the process; by default this interpreter's worker.
            settings: Environment variables to be set.
        """
        self._is_probe, self._was_killed = comparison.limits is not None, False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            command or WORKER,
            cwd=ROOT,
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(comparison.threads),
                **ONE_THREAD,
                **settings,
                PARENT: str(os.getpid()),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._start = {
            "problem": comparison.source or comparison.problem,
            "data_root": None if comparison.data_root is None else str(comparison.data_root),
            "method": method,
            "batch_size": comparison.batch_size,
            "task": comparison.task.parameters,
            "device": comparison.device,
            "threads": comparison.threads,
            "seed": comparison.seed,
            "memory_limit": memory_limit,
            "limited_by": _limited_by(comparison),
        }

    def __enter__(self) -> WorkerProcess:
        """Use as a context, so that no process is left behind."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        self.close()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def start(self, timeout: float) -> dict[str, Any]:
        """Import and set up.

        Args:
            timeout: Seconds.

        Returns:
            As `ask`.
        """
        return self.ask("start", timeout, **self._start)

    def ask(self, command: str, timeout: float, **arguments: Any) -> dict[str, Any]:
        """Let the worker do something.

        Args:
            command: Name of a method of `benchmarks.worker.Worker`.
            timeout: Seconds; the process is killed when they have passed.
            **arguments: Of the method, as plain JSON types.

        Returns:
            ``status``, and ``samples`` and ``details`` if it is ok; else ``reason``, and what the
            process wrote to standard error in ``details``.
        """
        answer = self._ask(command, timeout, **arguments)
        if answer["status"] in FAILED:
            details = {**answer.get("details", {}), "stderr": self._said()}
            answer = {**answer, "reason": without_places(answer["reason"]), "details": details}
        return answer

    def _ask(self, command: str, timeout: float, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, **arguments}).encode())
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return self._died(command)
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            self.kill()
            reason = f"{command} took more than {timeout:g} s"
            return {"status": Status.TIMEOUT.value, "reason": reason}
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            return self._died(command)
        try:
            return json.loads(line)
        except ValueError:
            self.kill()
            reason = f"{command} was answered by {line[:80]!r}, which is not JSON"
            return {"status": Status.ERROR.value, "reason": reason}

    def kill(self) -> None:
        """End the process at once; whoever waits for an answer learns that it died."""
        self._was_killed = True
        self._process.kill()

    def close(self) -> None:
        """Kill the process, if it still runs, and wait for its end."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except BrokenPipeError:
                pass
        self._errors.close()

    def _said(self) -> str:
        """The end of standard error, without the places of files on this machine."""
        descriptor = self._errors.fileno()
        size = os.fstat(descriptor).st_size
        kept = min(size, KEPT_OF_STDERR)
        # without moving the offset, at which the process goes on to write
        return without_places(os.pread(descriptor, kept, size - kept).decode(errors="replace"))

    def _died(self, command: str) -> dict[str, Any]:
        try:
            code = self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.wait()
        tail = self._said().strip().splitlines()[-3:]
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        reason = f"the process {how} during {command}: {' | '.join(tail) or 'no output'}"
        status = Status.ERROR
        if code == -signal.SIGKILL and not self._was_killed:
            # a budget is enforced otherwise, so in a probe this says that the machine is too small
            status = Status.ERROR if self._is_probe else Status.OUT_OF_MEMORY
            reason += " (as the system does when memory runs out)"
        elif code == -signal.SIGABRT and says_out_of_memory(reason):  # not from Python code
            status = Status.OUT_OF_MEMORY
        return {"status": status.value, "reason": reason}


class AbsentWorker(WorkerProcess):
    """Says of each step that it was skipped, and how to get what is lacking."""

    def __init__(self, python: Path) -> None:
        """Remember the interpreter that does not exist; no process is started."""
        self._python = python

    def ask(self, command: str, timeout: float, **arguments: Any) -> dict[str, Any]:
        """Skip.

        Args:
            command: Is not run.
            timeout: Is not needed.
            **arguments: Are not used.

        Returns:
            ``status`` and ``reason``.
        """
        reason = (
            f"there is no interpreter for peers at {_shown(self._python)}; make it by: "
            "tox run -e peer --notest (or name another one with --peer-python)"
        )
        return {"status": Status.SKIPPED.value, "reason": reason}

    def start(self, timeout: float) -> dict[str, Any]:
        """As `ask`."""
        return self.ask("start", timeout)

    def kill(self) -> None:
        """Nothing to end."""

    def close(self) -> None:
        """Nothing to end."""


def without_places(text: str) -> str:
    """What was said, as records may tell it.

    Args:
        text: Such as a traceback.

    Returns:
        The same with paths relative to the repository, the interpreter or the home folder, if they
        are within.
    """
    for place in (ROOT, sys.prefix, Path.home()):
        text = text.replace(f"{place}/", "")
    return text


def _limited_by(comparison: Comparison) -> str:
    """What enforces a limit of memory: the system, a GPU's allocator, or a count of bytes."""
    limits = comparison.limits
    if limits is None:
        return BudgetMode.PROCESS.value
    if limits.mode is BudgetMode.SIMULATED or comparison.device == "cpu":
        return limits.mode.value
    return comparison.device


def _shown(path: Path) -> Path:
    """A path as records may tell it: within the repository, if it is."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else Path(path.name)
