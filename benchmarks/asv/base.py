"""The protocol of the asv classes: what is skipped, what is prepared, and when.

asv starts a process for each point, also for those that are skipped, and calls `setup` before each
sample. So torch is imported once a point is known to be measured, and a point is prepared once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.grid.points import Grid, Point

if TYPE_CHECKING:
    from benchmarks.run.worker import Worker


class Suite:
    """Points of a grid, which the library computes.

    Attributes:
        grid: The points.
        protocol: Version of what is measured: raise it when that changes, for results of another
            version are not comparable. By default asv takes a hash of the code, and mends of
            wording would end every curve.
        timeout: Seconds for one process.
    """

    grid: ClassVar[Grid]
    protocol: ClassVar[int] = 1
    timeout = 600

    @property
    def version(self) -> str:
        """For asv: results with other axes are not comparable, either."""
        return f"{self.protocol}: {', '.join(self.param_names)}"

    @property
    def params(self) -> list[tuple[Any, ...]]:
        """Values of each axis, for asv."""
        return [axis.values for axis in self.grid.axes]

    @property
    def param_names(self) -> list[str]:
        """Names and units of the axes, for asv."""
        return [axis.name for axis in self.grid.axes]

    def setup(self, *values: Any) -> None:
        """Prepare a point, the first time.

        Args:
            *values: Of the axes.

        Raises:
            NotImplementedError: The point is not selected, or the library of this commit cannot
                compute it: asv skips it.
        """
        if hasattr(self, "_measured"):
            return
        if values not in self.grid.selected:
            raise NotImplementedError("Not among the selected points of the grid.")
        point = self.grid.point(values)
        refuse_missing(point)
        self._measured = self.prepare(point)

    def prepare(self, point: Point) -> Any:
        """Do what is not to be measured.

        Args:
            point: Of the grid.

        Returns:
            What the methods of the class use, as `_measured`.
        """
        from benchmarks.commits.in_process import worker_at

        return worker_at(point)


class CheckedSuite(Suite):
    """Points whose result is compared with float64 before anything else is measured."""

    _measured: Worker
    error: float

    def prepare(self, point: Point) -> Worker:
        """Run once, and check the result.

        Args:
            point: Of the grid.

        Returns:
            What may be measured.

        Raises:
            ArithmeticError: The result is wrong: asv counts the point as failed.
        """
        from benchmarks.commits.in_process import check, worker_at

        ours = worker_at(point)
        (self.error,) = check(ours, ours.reference())["samples"]
        return ours


class TimedSuite(CheckedSuite):
    """Points whose run is timed; the values are those of asv.

    Attributes:
        rounds: Of processes, those of all points in turn.
        repeat: Samples of a process: at least, at most, and the seconds that they may take.
        warmup_time: Seconds; the check has already warmed up.
    """

    rounds = 2
    repeat = (2, 5, 4.0)
    warmup_time = 0.0

    @property
    def run(self) -> Callable[[], object]:
        """What is timed."""
        return self._measured.run


def refuse_missing(point: Point, options: Sequence[str] = ()) -> None:
    """Skip what the library of this commit does not have.

    Args:
        point: Of a grid.
        options: Arguments of `vivit.GGN` that are needed besides.

    Raises:
        NotImplementedError: Something of the library that the point needs is missing.
    """
    import vivit
    from benchmarks.methods.gram import missing_options, missing_parts

    missing = missing_parts(vivit, point.task) or missing_options(vivit, options)
    if missing:
        raise NotImplementedError(f"The library of this commit has no {', '.join(missing)}.")


def skipping(run: Callable[[], Any]) -> Any:
    """Run what asv measures; what the library refuses is skipped, as in `setup`.

    Args:
        run: What is measured.

    Returns:
        What it returns.

    Raises:
        SkipNotImplemented: The library of this commit does not support the point.
    """
    from asv_runner.benchmarks.mark import SkipNotImplemented

    try:
        return run()
    except NotImplementedError as error:
        raise SkipNotImplemented(str(error)) from error
