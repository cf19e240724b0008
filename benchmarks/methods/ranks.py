"""Ours on several processes, with a share of the batch each."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.measure.accuracy import Outcome
from benchmarks.methods.base import Method, NotApplicableError, refuse_others
from benchmarks.methods.gram import curvature_of
from benchmarks.methods.rank_processes import RankProcesses, flops_of
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed, Task

SIZE = 2
"""Processes."""


class Ranks(Method):
    """``vivit.GGN(..., process_group=...)`` in two processes of one thread each.

    They are started before the time runs. Peak memory is that of the process with the most.
    """

    name = "ranks"
    label = Label("vivit, two processes", "two processes")
    description = (
        "this library in two processes of one thread each, with half of the samples each "
        "(process_group=, gloo): to be compared with one process of two threads"
    )
    tolerance = 1e-4
    has_processes = True

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Start the processes, and count what will be done."""
        refuse_others(self, task, (Computed.EIGENVALUES, Computed.GRAM))
        if instance.like.device.type != "cpu":
            raise NotApplicableError(
                f"{self.name} is measured on a CPU, by gloo, not on {instance.like.device}."
            )
        return SharedRun(instance, task)

    def peak(self, run: Callable[[], Outcome], device: str) -> int:
        """Of the process with the most, above what it held before the run."""
        if not isinstance(run, SharedRun):
            raise TypeError(f"expected what `prepare` gave, got {type(run).__name__}")
        return run.peak()


class SharedRun:
    """What is measured: the processes compute, and the first of them says what.

    What an outcome tells beside it has an entry for each rank: bytes as planned and as counted,
    and the share of the flops of one process (matrix products and convolutions of all passes).

    Attributes:
        processes: Which.
    """

    def __init__(self, instance: Instance, task: Task) -> None:
        """Start the processes.

        Args:
            instance: The problem.
            task: What to compute.
        """
        ggn = curvature_of(instance, task)
        alone = flops_of(ggn.gram if task.computed is Computed.GRAM else ggn.eigvalsh)
        self.processes = RankProcesses(instance, task.computed, SIZE)
        plans = [told.facts or {} for told in self.processes.ask("plan")]
        self._planned = {
            "ranks": SIZE,
            "num_columns": plans[0]["num_columns"],
            "planned_sent_bytes": [plan["planned_sent_bytes"] for plan in plans],
            "planned_received_bytes": [plan["planned_received_bytes"] for plan in plans],
            "share_of_flops": [plan["flops"] / alone for plan in plans],
        }

    def __call__(self) -> Outcome:
        """Have them compute."""
        told = self.processes.ask("run")
        facts = [x.facts or {} for x in told]
        counted = {name: [x[name] for x in facts] for name in facts[0]}
        return Outcome(torch.from_numpy(told[0].values), details={**self._planned, **counted})

    def peak(self) -> int:
        """Bytes of the process with the most."""
        return max(int((x.facts or {})["peak_bytes"]) for x in self.processes.ask("peak"))
