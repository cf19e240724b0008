"""The grid that asv, pytest-benchmark and `check` share."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.grid.points import GRIDS, PROBLEM, SELECTION, Grid
from benchmarks.grid.suites import SUITES
from benchmarks.methods import METHODS
from benchmarks.problems import PROBLEMS
from benchmarks.records.tasks import Approximation, Computed, Grouping, Subset, Task

ROOT = Path(__file__).resolve().parents[2]


def test_the_grid_names_what_the_harness_has():
    assert set(PROBLEM.values) <= set(PROBLEMS)
    for grid in GRIDS.values():
        for values in grid.all:
            point = grid.point(values)
            methods = grid.methods(point)
            assert methods[0] == "gram"
            assert set(methods) <= set(METHODS)
            assert set(methods) <= set(SUITES[grid.name].methods)
            assert point.task.computed is grid.computed


def test_a_point_has_what_its_coordinates_say():
    point = GRIDS["eigenvalues"].point(("digits_cnn", 32, "both", "layer"))
    assert (point.problem, point.batch_size) == ("digits_cnn", 32)
    assert point.task == Task(
        Computed.EIGENVALUES,
        approximation=Approximation.MONTE_CARLO,
        subset=Subset.EIGHTH,
        grouping=Grouping.LAYER,
    )
    assert point.title == "digits_cnn N=32 " + point.task.title
    assert GRIDS["leading"].point(("digits_mlp", 16, 10, "exact")).task == Task.leading(10)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_some_points_are_the_same_ones_every_time(grid):
    fresh = Grid(grid.name, grid.computed, grid.axes, grid.per_problem)
    assert fresh.some == grid.some
    assert set(grid.some) < set(grid.all)
    of_problem = [[v for v in grid.some if v[0] == problem] for problem in PROBLEM.values]
    assert {len(points) for points in of_problem} == {grid.per_problem}
    for points in of_problem:  # the exact GGN of the whole network is always there
        assert any(grid.point(values).task.is_plain for values in points)
    assert grid.all == [*itertools.product(*(axis.values for axis in grid.axes))]


def test_a_variable_of_the_environment_selects(monkeypatch):
    grid = GRIDS["newton"]
    monkeypatch.delenv(SELECTION, raising=False)
    assert grid.selected == grid.some
    monkeypatch.setenv(SELECTION, "all")
    assert grid.selected == grid.possible
    monkeypatch.setenv(SELECTION, "every")
    with pytest.raises(ValueError, match="Expected VIVIT_BENCHMARKS to be 'some' or 'all', got"):
        _ = grid.selected


def test_points_with_more_directions_than_columns_are_left_out():
    grid = GRIDS["leading"]
    left_out = {values for values in grid.all if values not in grid.possible}
    assert left_out == {v for v in grid.all if v[2] == 10 and v[3] == "both"}


def test_methods_that_cannot_do_a_point_are_left_out():
    grid = GRIDS["eigenvalues"]
    plain, sampled = (
        grid.point(("digits_mlp", 16, variant, "network")) for variant in ("exact", "monte_carlo")
    )
    assert grid.methods(plain) == ("gram", "drop_in", "naive_gram", "gradient")
    assert grid.methods(sampled) == ("gram",)
    untrained = grid.point(("cifar10_3c3d", 16, "monte_carlo", "network"))
    assert grid.methods(untrained) == ("gram", "drop_in")
    large = grid.point(("fmnist_2c2d", 32, "exact", "network"))
    assert grid.methods(large) == ("gram", "drop_in", "gradient")
    transformer = grid.point(("tiny_transformer", 16, "exact", "network"))
    assert grid.methods(transformer) == ("gram", "gradient")


def test_skipping_a_point_does_not_import_torch():
    """asv starts a process for each."""
    code = (
        "import sys, benchmarks.asv.speed, benchmarks.asv.tracked; print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_a_grid_without_batch_sizes():
    grid = Grid("critical", Computed.EIGENVALUES, (PROBLEM,), 1)
    point = grid.point(("digits_mlp",))
    assert point.batch_size is None
    assert point.title == "digits_mlp N=? all eigenvalues"
