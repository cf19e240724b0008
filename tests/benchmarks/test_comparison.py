"""What of a grid is measured."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.grid.comparison import Comparison, Selection
from benchmarks.grid.profiles import PROFILES
from benchmarks.measure.critical import BudgetMode, Limits
from benchmarks.records.tasks import Task

GRID = PROFILES["quick"].comparisons()
SMALL = Comparison("eigenvalues", "digits_mlp", ("gram", "gradient"), 8, Task(), repeats=3)
SEARCH = replace(SMALL, suite="critical", batch_size=None, limits=Limits(1000, 500, 0.0))
OWN = """
def make(batch_size, device, dtype, seed):
    raise AssertionError("is not needed yet")
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    return f"{file}:make"


def test_everything_by_default():
    assert Selection().of(GRID) == GRID


def test_suites_problems_methods_and_settings():
    chosen = Selection(
        ["leading"], ["digits_cnn"], ["gram"], settings={"device": "cuda", "repeats": None}
    )
    expected = Comparison(
        "leading",
        "digits_cnn",
        ("gram",),
        128,
        Task.leading(10),
        GRID[0].repeats,
        device="cuda",
    )
    assert chosen.of(GRID) == [expected]
    assert Selection(["eigenvalues"], methods=["power_iteration"]).of(GRID) == []


POWER = ("gram", "power_iteration", "power_iteration:tolerance=0.1")


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        (None, POWER),
        (["gram"], ("gram",)),
        (["power_iteration"], POWER[1:]),
        (["power_iteration:tolerance=0.5"], ("power_iteration:tolerance=0.5",)),
        (["power_iteration:tolerance=0.1"], ("power_iteration:tolerance=0.1",)),
        (["power_iteration", "power_iteration:tolerance=0.1"], POWER[1:]),
        (["lanczos", "lanczos:tolerance=0.1"], None),
    ],
)
def test_settings_take_the_place_of_those_of_the_grid(methods, expected):
    grid = [replace(SMALL, methods=POWER)]
    chosen = Selection(methods=methods).of(grid)
    assert [c.methods for c in chosen] == ([] if expected is None else [expected])


def test_budget_is_of_searches_and_batch_size_of_the_others():
    chosen = Selection(budget=7, budget_mode=BudgetMode.SIMULATED, batch_size=5)
    assert chosen.of([SMALL, SEARCH]) == [
        replace(SMALL, batch_size=5),
        replace(SEARCH, limits=Limits(7, 500, 0.0, BudgetMode.SIMULATED)),
    ]


def test_equal_comparisons_are_made_once():
    sizes = Selection(["eigenvalues"], ["fmnist_2c2d"], batch_size=16).of(GRID)
    assert [c.batch_size for c in sizes] == [16]  # two sizes became one


@pytest.mark.parametrize("number", [1, 2, 3, len(GRID), len(GRID) + 3])
def test_shards_are_a_partition(number):
    parts = [Selection(shard=(i, number)).of(GRID) for i in range(1, number + 1)]
    assert sorted((c for part in parts for c in part), key=GRID.index) == GRID
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_problem_of_ones_own_takes_the_place_of_the_others(own):
    chosen = Selection(["eigenvalues"], [own]).of(GRID)
    assert {(c.problem, c.source) for c in chosen} == {("mine.py:make", own)}
    assert sorted(c.batch_size for c in chosen) == [32, 128]  # the sizes of the suite, once each
    assert {c.parameters["data"] for c in chosen} == {"own"}
    both = Selection(["eigenvalues"], ["digits_mlp", own]).of(GRID)
    assert {c.problem for c in both} == {"digits_mlp", "mine.py:make"}


def test_another_content_is_another_problem(own):
    """As it was when it was selected: later changes do not rename what has been measured."""
    (before, *_) = Selection(problems=[own]).of(GRID)
    first = before.parameters
    Path(own.rpartition(":")[0]).write_text("# changed")
    (after, *_) = Selection(problems=[own]).of(GRID)
    assert before.parameters == first
    assert after.parameters["source"] != first["source"]
    assert {**first, "source": None} == {**after.parameters, "source": None}


def test_methods_of_what_became_equal_are_joined(own):
    grid = [SMALL, replace(SMALL, problem="digits_cnn", methods=("gradient", "drop_in"))]
    (joined,) = Selection(problems=[own]).of(grid)
    assert joined.methods == ("gram", "gradient", "drop_in")


def test_real_data_is_told_apart(tmp_path):
    (comparison,) = Selection(["leading"], ["cifar10_3c3d"]).of(GRID)
    assert comparison.parameters["data"] == "synthetic"
    assert replace(comparison, data_root=tmp_path).parameters["data"] == "real"
    assert str(tmp_path) not in str(replace(comparison, data_root=tmp_path).parameters)
