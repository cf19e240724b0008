"""What is measured of one method on one problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks.measure.accuracy import Outcome, Reference, largest, mean_error
from benchmarks.measure.time_and_memory import (
    runs_per_sample,
    seconds_per_run,
    whole_peak_bytes,
    whole_process_bytes,
)
from benchmarks.measure.tracker import AllocationTracker, tracked_peak
from benchmarks.methods import find_method
from benchmarks.methods.base import refuse_batches, refuse_processes
from benchmarks.methods.gram import missing_parts
from benchmarks.problems.own import find_problem
from benchmarks.problems.problem import Instance
from benchmarks.records.tasks import Approximation, Task
from benchmarks.run.reference import (
    deviation_from_orthonormal,
    make_reference,
    residual_of_pairs,
)

SOON_REPEATED = 1.0
"""Seconds. The first run pays for imports and for what is compiled, too; one as short as this is
repeated before it says how many runs make a sample. If it did so itself, small problems would be
timed in single runs, just after the processes of other methods."""


class Worker:
    """One method on one problem."""

    def __init__(
        self,
        problem: str,
        method: str,
        batch_size: int,
        task: dict[str, Any],
        device: str,
        threads: int,
        seed: int,
        data_root: str | None = None,
        budget: int | None = None,
    ) -> None:
        """Choose the method and problem; nothing is computed yet.

        Args:
            problem: Name of the problem, or ``path/to/file.py:function``.
            method: Name of the method, and perhaps settings.
            batch_size: ``N``.
            task: What is computed, as `Task.parameters` gives it.
            device: As torch names it.
            threads: For torch's operations.
            seed: For weights and data.
            data_root: Where data sets are, if they are to be used.
            budget: Bytes that the tensors of a probe may hold; None for no bound.
        """
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        self._problem, self._method = find_problem(problem), find_method(method)
        self._data_root = None if data_root is None else Path(data_root)
        self._budget = budget
        self._task = Task.from_parameters(task)
        self._batch_size, self._device, self._seed = batch_size, device, seed
        self._run: Callable[[], Outcome] | None = None
        self._number, self._first = 1, 0.0

    @property
    def is_simulated(self) -> bool:
        """Whether the budget is a count of bytes."""
        return self._budget is not None

    @property
    def run(self) -> Callable[[], Outcome]:
        """What is timed.

        Raises:
            RuntimeError: It has not been checked.
        """
        if self._run is None:
            raise RuntimeError("The accuracy is checked before the time is measured.")
        return self._run

    @property
    def first(self) -> float:
        """Seconds of the run that was checked."""
        return self._first

    @property
    def number(self) -> int:
        """Runs of a sample of the time."""
        return self._number

    def reference(self) -> dict[str, Any]:
        """The result in float64, certified by an independent implementation."""
        instance = self._instance(self._batch_size, torch.float64)
        reference, facts = make_reference(instance, self._task)
        details = {
            **facts,
            "blocks": list(reference.blocks),
            "num_parameters": instance.num_parameters,
        }
        return {"samples": reference.values.tolist(), "details": details}

    def missing(self) -> dict[str, Any]:
        """What the library in this process lacks for the task."""
        import vivit

        return {"samples": [], "details": {"missing": missing_parts(vivit, self._task)}}

    def accuracy(self, reference: list[float], facts: dict[str, Any]) -> dict[str, Any]:
        """Warm up, and compare the result with the reference.

        Args:
            reference: The result in float64.
            facts: What `reference` said about it.

        Returns:
            The relative error.

        Raises:
            ArithmeticError: The error is too large.
        """
        instance = self._instance(self._batch_size, torch.float32)
        run = self._method.prepare(instance, self._task)
        begin = perf_counter()
        outcome = run()
        self._first = first = perf_counter() - begin
        exact = Reference(
            torch.tensor(reference, dtype=torch.float64),
            tuple(facts.get("blocks", [len(reference)])),
            facts.get("exact_trace"),
            facts.get("trace_deviation"),
            tuple((mean, deviation) for mean, deviation in facts.get("leading_sums", [])),
            instance.num_parameters,
        )
        error, details = self._checked(outcome, instance, exact)
        del outcome
        if first < SOON_REPEATED:
            first = seconds_per_run(run)
        self._run, self._number = run, runs_per_sample(first)
        return {"samples": [error], "details": details}

    def _checked(
        self, outcome: Outcome, instance: Instance, reference: Reference
    ) -> tuple[float, dict[str, Any]]:
        """Relative error of a result that is accurate enough, and facts about it."""
        check = self._method.check(outcome, instance, self._task, reference)
        error, details = check.error, {**outcome.details, "checked": check.against}
        details["num_parameters"] = instance.num_parameters
        if outcome.vectors is not None and self._task.approximation is Approximation.EXACT:
            residual = residual_of_pairs(outcome, instance, self._task)
            details["residual"], error = residual, largest([error, residual])
            details["mean_error"] = mean_error(outcome, reference)
        elif outcome.vectors is not None:  # of draws that only the method knows
            error = largest([error, deviation_from_orthonormal(outcome.vectors)])
        if not error <= check.tolerance:
            raise ArithmeticError(
                f"relative error {error:.1e} exceeds the method's tolerance "
                f"{check.tolerance:.0e} ({check.against}); its time does not count"
            )
        return error, details

    def time(self) -> dict[str, Any]:
        """One sample of the run time; `accuracy` goes first."""
        seconds = seconds_per_run(self.run, self._number)
        return {"samples": [seconds], "details": {"runs_per_sample": self._number}}

    def memory(self) -> dict[str, Any]:
        """Peak memory of one run, in this fresh process, warmed up on a batch of two."""
        small, instance = (self._instance(n, torch.float32) for n in (2, self._batch_size))
        warm_up = replace(self._task, k=None if self._task.k is None else 1)
        self._method.prepare(small, warm_up)()
        del small
        run = self._method.prepare(instance, self._task)
        peak = self._method.peak(run, self._device)
        return {"samples": [peak], "details": {"num_parameters": instance.num_parameters}}

    def footprint(self) -> dict[str, Any]:
        """Further figures of memory: what tensors hold, and what the whole process does."""
        refuse_processes(self._method, "the footprint")
        details = {"tensors": self.tensors()["samples"][0]}
        if self._device == "cpu":
            details["whole_process"] = whole_process_bytes(self.prepare())
        return {"samples": [], "details": details}

    def tensors(self) -> dict[str, Any]:
        """Bytes that tensors hold at once, besides model and data; the same in every run."""
        refuse_processes(self._method, "what tensors hold")
        instance = self._instance(self._batch_size, torch.float32)
        run = self._method.prepare(instance, self._task)
        return {"samples": [tracked_peak(run, _tensors_of(instance))], "details": {}}

    def prepare(self) -> Callable[[], Outcome]:
        """A run on an instance of its own."""
        instance = self._instance(self._batch_size, torch.float32)
        return self._method.prepare(instance, self._task)

    def probe(self) -> dict[str, Any]:
        """One run in this fresh process, to see whether it gets by on the memory it was given.

        Raises:
            ArithmeticError: The result is not finite.
        """
        refuse_processes(self._method, "the smallest memory to get by with")
        instance = self._instance(self._batch_size, torch.float32)
        tracker = AllocationTracker(self._budget)
        tracker.count(_tensors_of(instance))
        if self._budget is not None:
            left = self._budget - tracker.peak - _held_by_forward_pass(instance)
            instance = replace(instance, memory=max(left, 1))
        run = self._method.prepare(instance, self._task)
        begin = perf_counter()
        if self._budget is None:
            outcome, peak = run(), None
        else:
            with tracker:
                outcome, peak = run(), tracker.peak
        seconds = perf_counter() - begin
        if not outcome.values.isfinite().all():
            raise ArithmeticError("the result is NaN or infinite")
        peak = whole_peak_bytes(self._device) if peak is None else peak
        return {"samples": [peak], "details": {"seconds": seconds}}

    def _instance(self, batch_size: int, dtype: torch.dtype) -> Instance:
        arguments = batch_size, self._device, dtype, self._seed, self._data_root
        instance = self._problem.make(*arguments)
        refuse_batches(self._method, instance)
        return instance


def _tensors_of(instance: Instance) -> list[Any]:
    """What is there before a method runs: tensors, and nests of them."""
    model = instance.model
    return [*model.parameters(), *model.buffers(), instance.inputs, instance.targets]


def _held_by_forward_pass(instance: Instance) -> int:
    """Bytes at once, beside what is there before, of the batch that needs most."""

    def forward() -> None:
        for inputs, targets in instance.batches:
            instance.loss_func(instance.model(inputs), targets)

    return tracked_peak(forward, _tensors_of(instance))
