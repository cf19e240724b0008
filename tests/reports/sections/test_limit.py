"""The section on the machine's limit: shares from times and limits of one profile each."""

import pytest

from benchmarks.records.record import RecordStore
from benchmarks.records.tasks import Computed, Task
from reports.sections.limit import SECTION
from reports.sources.sources import Sources

GRAM = Task(Computed.GRAM).parameters


@pytest.fixture
def found(make, tmp_path):
    """Profiles of two networks; of a third one only counts."""

    def figures(problem, quantity, seconds, **details):
        return make(
            suite="profile",
            problem=problem,
            quantity=quantity,
            samples=[seconds],
            details=details,
            **GRAM,
        )

    records = [
        figures("cifar10_3c3d", "time", 2.0, contraction=1.2, backward=0.4),
        figures("cifar10_3c3d", "limit", 1.0, contraction=0.9, backward=0.1, flops=3e11),
        figures("fmnist_2c2d", "time", 0.5, contraction=0.3),
        figures("fmnist_2c2d", "limit", 0.4, contraction=0.25, flops=3e11),
        figures("cifar10_resnet32", "calls", 100.0),
    ]
    path = tmp_path / "records.jsonl"
    RecordStore(path).append(records)
    return Sources.find([path])


def test_shares(found):
    (table,) = SECTION.tables(found)
    assert [*table.shown["Share"]] == ["0.50", "0.80"]
    assert [*table.shown["Time"]] == ["2.00 s", "500 ms"]
    assert [*table.shown["Limit"]] == ["1.00 s", "400 ms"]
    assert [*table.csv["share"]] == [0.5, 0.8]


def test_phases_have_their_own_limits(found):
    (table,) = SECTION.tables(found)
    assert [*table.shown["Contraction"]] == ["1.2 s (900 ms)", "300 ms (250 ms)"]
    assert [*table.shown["Backward"]] == ["400 ms (100 ms)", "—"]


def test_answer(found):
    (answer,) = SECTION.answers(found)
    assert answer.points == (
        "vivit reaches 0.50 to 0.80 of what this machine allows; 1 would be all of it.",
    )
