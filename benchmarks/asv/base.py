"""The protocol of the asv classes: what is skipped, what is prepared, and when.

asv starts a process for each point, also for those that are skipped, and calls `setup` before each
sample. So torch is imported once a point is known to be measured, and a point is prepared once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.grid import Grid, Point

if TYPE_CHECKING:
    from benchmarks.in_process import InProcess


class Suite:
    """Points of a grid, which the library computes.

    Attributes:
        grid: The points.
        version: Of what is measured: results of another version are not comparable, so raise it
            when the protocol changes. By default asv takes a hash of the code, and mends of
            wording would end every curve.
        timeout: Seconds for one process.
    """

    grid: ClassVar[Grid]
    version = "1"
    timeout = 600

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
        from benchmarks.in_process import InProcess

        return InProcess(point)


class CheckedSuite(Suite):
    """Points whose result is compared with float64 before anything else is measured."""

    _measured: InProcess
    error: float

    def prepare(self, point: Point) -> InProcess:
        """Run once, and check the result.

        Args:
            point: Of the grid.

        Returns:
            What may be measured.

        Raises:
            ArithmeticError: The result is wrong: asv counts the point as failed.
        """
        from benchmarks.in_process import InProcess

        ours = InProcess(point)
        self.error = ours.check(ours.reference())
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


def refuse_missing(point: Point) -> None:
    """Skip what the library of this commit does not have.

    Args:
        point: Of a grid.

    Raises:
        NotImplementedError: A name of the library that the point needs is missing.
    """
    import vivit
    from benchmarks.methods.gram import needed_names

    for name in needed_names(point.task):
        holder: Any = vivit
        for part in name.split("."):
            if not hasattr(holder, part):
                raise NotImplementedError(f"The library of this commit has no vivit.{name}.")
            holder = getattr(holder, part)


def refuse_without_option(option: str) -> None:
    """Skip where `vivit.GGN` of this commit does not take an option.

    Args:
        option: Name of an argument.

    Raises:
        NotImplementedError: It does not.
    """
    import vivit

    if option not in inspect.signature(vivit.GGN).parameters:
        raise NotImplementedError(f"vivit.GGN of this commit has no argument {option}.")
