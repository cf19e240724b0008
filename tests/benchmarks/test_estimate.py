"""How long a run may take."""

from dataclasses import replace

import pytest

from benchmarks.grid.comparison import Comparison
from benchmarks.records.record import Quantity, Record, Status
from benchmarks.records.tasks import Task
from benchmarks.run.estimate import START, Estimate

COMPARISON = Comparison("eigenvalues", "digits_mlp", ("gram", "gradient"), 8, Task(), repeats=5)


def measured(method, samples, comparison=COMPARISON, quantity=Quantity.TIME):
    names = comparison.suite, comparison.problem, method
    return Record(*names, quantity, comparison.parameters, Status.OK, samples, "s")


def test_of_what_was_measured():
    known = Estimate([measured("gram", [2.0, 9.0, 2.0]), measured("gradient", [0.1])])
    # timed, three processes for memory, and three runs for the check and its other figures
    expected = (5 + 3 + 3) * 2.0 + 4 * START
    assert known.seconds(COMPARISON, "gram", patience=60) == pytest.approx(expected)
    impatient = (3 + 1 + 3) * 2.0 + 2 * START
    assert known.seconds(COMPARISON, "gram", patience=5) == pytest.approx(impatient)


def test_of_what_was_not():
    memory = measured("gradient", [1.0], quantity=Quantity.MEMORY)
    known = Estimate([measured("gram", [2.0]), memory])
    assert known.seconds(COMPARISON, "gradient", 60) is None
    for changes in ({"batch_size": 9}, {"device": "cuda"}, {"task": Task.leading(1)}):
        assert known.seconds(replace(COMPARISON, **changes), "gram", 60) is None
    first, second, summary = known.lines([COMPARISON, replace(COMPARISON, methods=("gram",))], 60)
    assert first.startswith(" 0.7+ min  digits_mlp N=8 all eigenvalues: gram, gradient")
    assert second.startswith(" 0.7  min")
    assert "9 cells in 2 comparisons" in summary
    assert "nothing is known of 1 methods" in summary
