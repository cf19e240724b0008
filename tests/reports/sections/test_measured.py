"""Tables of each quantity, and of what failed."""

import pytest

from reports.sections.accuracy import accuracy_table
from reports.sections.failures import failure_table
from reports.sections.memory import memory_table
from reports.sections.time import time_table


def test_time_table_by_hand(make, tabulate):
    table = time_table(tabulate(make(samples=[1.0, 2.0, 3.0, 4.0, 5.0])))
    row = table.shown.iloc[0]
    assert [row[name] for name in ("Median", "Minimum", "IQR", "Repeats")] == [
        "3.00 s",
        "1.00 s",
        "2.00 s",
        "5",
    ]
    assert table.raw.iloc[0].tolist() == [3.0, 1.0, 2.0]


def test_spread_of_a_single_run_is_not_zero(make, tabulate):
    assert time_table(tabulate(make(samples=[1.0]))).shown["IQR"].tolist() == ["single run"]


@pytest.mark.parametrize(
    ("table", "quantity", "column"),
    [
        (time_table, "time", "Median"),
        (memory_table, "memory", "Median"),
        (accuracy_table, "accuracy", "Relative error"),
    ],
)
def test_failures_appear_in_each_table(make, tabulate, table, quantity, column):
    result = table(tabulate(make(quantity=quantity, status="oom", reason="too big")))
    assert result.shown[column].tolist() == ["out of memory"]
    assert result.kinds[0, column] == "failed"


def test_failure_table(make, tabulate):
    frame = tabulate(make(), make("naive_gram", status="timeout", reason="after 600 s"))
    (row,) = failure_table(frame).shown.to_dict("records")
    assert (row["Outcome"], row["Reason"]) == ("timed out", "after 600 s")


def test_settings_that_differ_become_columns(make, tabulate):
    table = time_table(tabulate(make(device="cpu"), make(device="cuda")))
    assert table.shown["Device"].tolist() == ["cpu", "cuda"]
    assert "Threads" not in table.shown
