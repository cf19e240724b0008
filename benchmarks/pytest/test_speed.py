"""The library and its rivals on the grid, for ``pytest --benchmark-only``.

A result is compared with float64 before it is timed. Comparing with a saved run is up to
pytest-benchmark: see `docs/developing.md`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import pytest

from benchmarks.grid import GRIDS, Grid, Point
from benchmarks.in_process import THREADS, InProcess
from benchmarks.journal import Answer
from benchmarks.problems import PROBLEMS

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS = 5

MEASURED = [
    pytest.param(grid, point, method, id=f"{grid.name}-{_id}-{method}")
    for grid in GRIDS.values()
    for values in grid.selected
    for point, _id in [(grid.point(values), "-".join(map(str, values)))]
    for method in grid.methods(point)
]


@lru_cache(maxsize=1)  # methods at a point follow each other
def reference(point: Point) -> Answer:
    """The result of a point in float64."""
    return InProcess(point).reference()


@pytest.mark.parametrize(("grid", "point", "method"), MEASURED)
def test_speed(benchmark: BenchmarkFixture, grid: Grid, point: Point, method: str) -> None:
    """One method at one point, after its result was compared with float64."""
    measured = InProcess(point, method)
    error = measured.check(reference(point))
    benchmark.group = grid.name
    benchmark.extra_info.update(
        problem=point.problem,
        data=PROBLEMS[point.problem].data,
        D=measured.details["num_parameters"],
        N=point.batch_size,
        columns=measured.details.get("num_columns"),
        method=method,
        computed=point.task.title,
        relative_error=error,
        threads=THREADS,
    )
    benchmark.pedantic(measured.run, rounds=ROUNDS, iterations=measured.number)
