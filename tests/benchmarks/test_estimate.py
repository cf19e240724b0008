"""How long a run may take."""

from dataclasses import replace

import pytest

from benchmarks.comparison import Comparison
from benchmarks.estimate import START, Estimate
from benchmarks.records import Quantity, Record, Status
from benchmarks.tasks import Task

COMPARISON = Comparison("eigenvalues", "digits_mlp", ("gram", "gradient"), 8, Task(), repeats=5)


def measured(method, samples, comparison=COMPARISON, quantity=Quantity.TIME):
    names = comparison.suite, comparison.problem, method
    return Record(*names, quantity, comparison.parameters, Status.OK, samples, "s")


def test_of_what_was_measured():
    known = Estimate([measured("gram", [2.0, 9.0, 2.0]), measured("gradient", [0.1])])
    # timed, and three times each for the check and the figures of memory
    expected = START + (5 + 3 + 3) * 2.1 + 2 * 4 * START
    assert known.seconds(COMPARISON, patience=60) == pytest.approx(expected)
    impatient = START + (3 + 1 + 3) * 2.0 + 2 * START + (5 + 3 + 3) * 0.1 + 4 * START
    assert known.seconds(COMPARISON, patience=5) == pytest.approx(impatient)


def test_of_what_was_not():
    known = Estimate(
        [measured("gram", [2.0]), measured("gradient", [1.0], quantity=Quantity.MEMORY)]
    )
    assert known.seconds(COMPARISON, 60) is None
    assert known.seconds(replace(COMPARISON, methods=("gram",)), 60) is not None
    assert known.seconds(replace(COMPARISON, methods=("gram",), batch_size=9), 60) is None
    *cells, summary = known.lines([COMPARISON, replace(COMPARISON, methods=("gram",))], 60)
    assert [line.strip()[0] for line in cells] == ["?", "0"]
    assert "9 cells in 2 comparisons" in summary
    assert "and 1 that nothing is known of" in summary
