"""Figures that asv follows besides time and memory of a process."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.asv.base import CheckedSuite, Suite, refuse_missing, skipping
from benchmarks.grid.points import PROBLEM, SIZE, WITH_BACKPACK, Axis, Grid, Point
from benchmarks.records.tasks import Computed

if TYPE_CHECKING:
    from benchmarks.profiling.operations import Count
    from benchmarks.run.worker import Worker

BUDGET = 64 * 2**20
"""Of the search for critical batch sizes, in bytes."""

WHOLE = Grid("whole", Computed.EIGENVALUES, (PROBLEM, SIZE), 1)
"""All eigenvalues of the exact GGN of the whole network."""

_BACKPACK, _SMALL = Axis(PROBLEM.name, WITH_BACKPACK), Axis(SIZE.name, SIZE.values[:1])
"""Naive Gram matrices need BackPACK, and much memory."""


class Library(CheckedSuite):
    """All eigenvalues: what a run takes besides time."""

    grid = WHOLE

    def track_peak_of_tensors(self, *_: Any) -> int:
        """Bytes that tensors hold at once above model and data; the same in every run."""
        return self._measured.tensors()["samples"][0]

    def track_relative_error(self, *_: Any) -> float:
        """Largest error of an eigenvalue, relative to the largest eigenvalue."""
        return self.error

    def track_backward_passes(self, *_: Any) -> int:
        """How often autograd's engine is started."""
        from benchmarks.commits.in_process import backward_passes

        return backward_passes(self._measured.run)

    track_peak_of_tensors.unit = "bytes"  # type: ignore[attr-defined]
    track_relative_error.unit = "1"  # type: ignore[attr-defined]
    track_backward_passes.unit = "passes"  # type: ignore[attr-defined]


class AsGpu(Suite):
    """All eigenvalues as on a GPU, counted on the CPU: without noise, so that any change shows."""

    _measured: Count
    grid = Grid("as_gpu", Computed.EIGENVALUES, (PROBLEM, SIZE), 1)

    def prepare(self, point: Point) -> Count:
        """Count.

        Args:
            point: Of the grid.

        Returns:
            The count.
        """
        from benchmarks.commits.in_process import instance_at
        from benchmarks.methods import find_method
        from benchmarks.profiling.as_gpu import counted_as_gpu
        from benchmarks.profiling.operations import total

        method = find_method("gram")
        run = partial(method.prepare, task=point.task)
        return total(counted_as_gpu(instance_at(point), run))

    def track_calls(self, *_: Any) -> int:
        """Operations that a GPU would be given."""
        return self._measured.calls

    def track_traffic(self, *_: Any) -> int:
        """Bytes that they read and write."""
        return self._measured.bytes

    def track_waits(self, *_: Any) -> int:
        """Times that the program would wait for the GPU."""
        return self._measured.waits

    track_calls.unit = "calls"  # type: ignore[attr-defined]
    track_traffic.unit = "bytes"  # type: ignore[attr-defined]
    track_waits.unit = "waits"  # type: ignore[attr-defined]


class _Against(Suite):
    """The same by another method, in turns.

    Attributes:
        other: Its name.
    """

    other: str
    _measured: Worker
    _other: Worker

    def prepare(self, point: Point) -> Worker:
        """Check both.

        Args:
            point: Of the grid.

        Returns:
            Ours.
        """
        from benchmarks.commits.in_process import check, worker_at

        ours, self._other = worker_at(point), worker_at(point, self.other)
        reference = ours.reference()
        for worker in (ours, self._other):
            check(worker, reference)
        return ours

    def _ratio(self) -> float:
        from benchmarks.commits.in_process import ratio_of_times

        return ratio_of_times(self._measured, self._other)


class NaiveGram(_Against):
    """All eigenvalues from a Gram matrix of stored columns, by BackPACK."""

    grid = Grid("against_naive_gram", Computed.EIGENVALUES, (_BACKPACK, _SMALL), 1)
    other = "naive_gram"

    def track_time_of_naive_gram_to_ours(self, *_: Any) -> float:
        """How many times as long it takes as ours."""
        return self._ratio()

    track_time_of_naive_gram_to_ours.unit = "ratio"  # type: ignore[attr-defined]


class PowerIteration(_Against):
    """The leading eigenpair by power iteration on the GGN."""

    grid = Grid(
        "against_power_iteration",
        Computed.PAIRS,
        (PROBLEM, SIZE, Axis("directions [1]", (1,))),
        1,
    )
    other = "power_iteration"

    def track_time_of_power_iteration_to_ours(self, *_: Any) -> float:
        """How many times as long it takes as ours."""
        return self._ratio()

    track_time_of_power_iteration_to_ours.unit = "ratio"  # type: ignore[attr-defined]


class CriticalBatchSize(Suite):
    """The largest batch whose tensors stay within 64 MiB, counted: the same on any machine."""

    grid = Grid("critical", Computed.EIGENVALUES, (PROBLEM,), 1)

    def prepare(self, point: Point) -> partial[int]:
        """The search.

        Args:
            point: Of the grid.

        Returns:
            The function that searches.

        Raises:
            NotImplementedError: The library of this commit does not take a budget.
        """
        refuse_missing(point, ["memory"])
        from benchmarks.commits.in_process import simulated_critical_batch_size

        return partial(simulated_critical_batch_size, point, BUDGET)

    def track_critical_batch_size(self, *_: Any) -> int:
        """All eigenvalues of the exact GGN."""
        return skipping(self._measured)

    track_critical_batch_size.unit = "samples"  # type: ignore[attr-defined]
