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
from collections.abc import Callable
from time import perf_counter
from typing import Any, TextIO

import torch

from benchmarks.measure import SHORTEST_SAMPLE, peak_bytes, runs_per_sample, seconds_per_run
from benchmarks.methods import METHODS, NotApplicableError, Outcome, Task
from benchmarks.problems import PROBLEMS
from benchmarks.records import Status
from benchmarks.reference import largest_residual, reference_spectrum

PR_SET_PDEATHSIG = 1

OUT_OF_MEMORY = ("can't allocate memory", "std::bad_alloc", "ALLOC_FAILED", "out of memory")
"""What torch and its libraries say when an allocation fails."""

COMMANDS = ("reference", "accuracy", "time", "memory")
"""Methods of `Worker` that a parent may call."""


class Worker:
    """One method on one problem."""

    def __init__(
        self,
        problem: str,
        method: str,
        batch_size: int,
        k: int | None,
        device: str,
        threads: int,
        seed: int,
    ) -> None:
        """Choose the method and problem; nothing is computed yet.

        Args:
            problem: Name of the problem.
            method: Name of the method.
            batch_size: ``N``.
            k: Number of leading eigenpairs; None for all eigenvalues.
            device: As torch names it.
            threads: For torch's operations.
            seed: For weights and data.
        """
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        self._problem, self._method, self._task = PROBLEMS[problem], METHODS[method], Task(k)
        self._batch_size, self._device, self._seed = batch_size, device, seed
        self._run: Callable[[], Outcome] | None = None
        self._number = 1

    def reference(self) -> dict[str, Any]:
        """All eigenvalues in float64, certified by an independent implementation."""
        instance = self._problem.make(self._batch_size, self._device, torch.float64, self._seed)
        values, residual = reference_spectrum(instance)
        details = {"residual": residual, "num_parameters": instance.num_parameters}
        return {"samples": values.tolist(), "details": details}

    def accuracy(self, reference: list[float]) -> dict[str, Any]:
        """Warm up, and compare the result with the reference.

        Args:
            reference: All eigenvalues in float64, ascending.

        Returns:
            The relative error.
        """
        instance = self._problem.make(self._batch_size, self._device, torch.float32, self._seed)
        self._run = run = self._method.prepare(instance, self._task)
        begin = perf_counter()
        outcome = run()
        first = perf_counter() - begin
        exact = torch.tensor(reference, dtype=torch.float64)
        error = self._method.error(outcome, instance, exact)
        details = {**outcome.details, "num_parameters": instance.num_parameters}
        if outcome.vectors is not None:
            residual = largest_residual(instance, outcome.values, outcome.vectors)
            details["residual"], error = residual, max(error, residual)
        if not error <= self._method.tolerance:
            raise ArithmeticError(
                f"relative error {error:.1e} exceeds the method's tolerance "
                f"{self._method.tolerance:.0e}; its time does not count"
            )
        del outcome
        if first < SHORTEST_SAMPLE:
            first = seconds_per_run(run)
        self._number = runs_per_sample(first)
        return {"samples": [error], "details": details}

    def time(self) -> dict[str, Any]:
        """One sample of the run time; `accuracy` goes first."""
        if self._run is None:
            raise RuntimeError("The accuracy is checked before the time is measured.")
        seconds = seconds_per_run(self._run, self._number)
        return {"samples": [seconds], "details": {"runs_per_sample": self._number}}

    def memory(self) -> dict[str, Any]:
        """Peak memory of one run, in this fresh process, warmed up on a batch of two."""
        small, instance = (
            self._problem.make(n, self._device, torch.float32, self._seed)
            for n in (2, self._batch_size)
        )
        warm_up = Task(None if self._task.k is None else 1)
        self._method.prepare(small, warm_up)()
        del small
        run = self._method.prepare(instance, self._task)
        peak = peak_bytes(run, self._device)
        return {"samples": [peak], "details": {"num_parameters": instance.num_parameters}}


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
                _limit_memory(arguments.pop("memory_limit"))
                worker = Worker(**arguments)
                result: dict[str, Any] = {}
            elif name in COMMANDS:
                result = getattr(worker, name)(**arguments)
            else:
                raise ValueError(f"unknown command {name!r}, expected one of {COMMANDS}")
            _answer(answers, {"status": Status.OK.value, **result})
        except Exception as error:
            traceback.print_exc()
            _answer(answers, {"status": _status_of(error).value, "reason": _reason(error)})


def _answer(stream: TextIO, message: dict[str, Any]) -> None:
    stream.write(json.dumps(message) + "\n")
    stream.flush()


def _status_of(error: Exception) -> Status:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return Status.OUT_OF_MEMORY
    if isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY):
        return Status.OUT_OF_MEMORY
    if isinstance(error, NotApplicableError):
        return Status.SKIPPED
    return Status.ERROR


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _limit_memory(limit: int | None) -> None:
    """Let allocations beyond a limit fail, rather than the system kill the process."""
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _die_with_parent() -> None:
    """A parent that is killed takes its workers along."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            sys.exit("The parent is gone.")


if __name__ == "__main__":
    main()
