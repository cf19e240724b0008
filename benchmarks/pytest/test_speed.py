"""The library and its rivals on the grid, for ``pytest --benchmark-only``.

A result is compared with float64 before it is timed. Comparing with a saved run is up to
pytest-benchmark: see `docs/developing.md`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import pytest

from benchmarks.commits.in_process import THREADS, check, num_columns, worker_at
from benchmarks.grid.points import GRIDS, Point
from benchmarks.problems import PROBLEMS
from benchmarks.run.journal import Answer

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS, FEW, SLOW = 5, 2, 4.0
"""Rounds, and how many there are of what takes longer than some seconds."""

POINTS = {
    f"{grid.name}-{'-'.join(map(str, values))}": (grid, grid.point(values))
    for grid in GRIDS.values()
    for values in grid.selected
}
"""By names, so that saved runs hold parameters that pytest-benchmark can group by."""

MEASURED = [(name, m) for name, (grid, point) in POINTS.items() for m in grid.methods(point)]


@lru_cache(maxsize=1)  # methods at a point follow each other
def reference(point: Point) -> Answer:
    """The result of a point in float64."""
    return worker_at(point).reference()


@pytest.mark.parametrize(("at", "method"), MEASURED)
def test_speed(benchmark: BenchmarkFixture, at: str, method: str) -> None:
    """One method at one point, after its result was compared with float64."""
    grid, point = POINTS[at]
    measured = worker_at(point, method)
    checked = check(measured, reference(point))
    benchmark.group = grid.name
    benchmark.extra_info.update(
        problem=point.problem,
        data=PROBLEMS[point.problem].data,
        D=checked["details"]["num_parameters"],
        N=point.batch_size,
        columns=num_columns(point),
        method=method,
        computed=point.task.title,
        relative_error=checked["samples"][0],
        threads=THREADS,
    )
    rounds = FEW if measured.first > SLOW else ROUNDS
    benchmark.pedantic(measured.run, rounds=rounds, iterations=measured.number)
