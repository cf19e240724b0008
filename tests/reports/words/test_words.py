"""Tables of measurements, and numbers as people read them."""

import pytest

from reports.tables import table as tables
from reports.words import labels, units


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (units.seconds, 12.34, "12.3 s"),
        (units.seconds, 0.0123, "12.3 ms"),
        (units.seconds, 0.99996, "1.00 s"),
        (units.seconds, 4.2e-5, "42.0 µs"),
        (units.seconds, 0.0, "0.00 µs"),
        (units.size, 512.0, "512 B"),
        (units.size, 1.5 * 2**20, "1.50 MiB"),
        (units.size, 3 * 2**30, "3.00 GiB"),
        (units.error, 1.234e-7, "1.2e-07"),
        (units.error, 0.0, "0"),
        (units.significant, 999.6, "1,000"),
        (units.significant, 0.01234, "0.0123"),
        (units.tick_seconds, 0.1, "100 ms"),
        (units.tick_size, 2.0**28, "256 MiB"),
    ],
)
def test_units(function, value, text):
    assert function(value) == text


def test_time_table_by_hand(make, tabulate):
    table = tables.time_table(tabulate(make(samples=[1.0, 2.0, 3.0, 4.0, 5.0])))
    row = table.shown.iloc[0]
    assert [row[name] for name in ("Median", "Minimum", "IQR", "Repeats")] == [
        "3.00 s",
        "1.00 s",
        "2.00 s",
        "5",
    ]
    assert table.raw.iloc[0].tolist() == [3.0, 1.0, 2.0]


def test_spread_of_a_single_run_is_not_zero(make, tabulate):
    assert tables.time_table(tabulate(make(samples=[1.0]))).shown["IQR"].tolist() == ["single run"]


@pytest.mark.parametrize(
    ("table", "quantity", "column"),
    [
        (tables.time_table, "time", "Median"),
        (tables.memory_table, "memory", "Median"),
        (tables.accuracy_table, "accuracy", "Relative error"),
    ],
)
def test_failures_appear_in_each_table(make, tabulate, table, quantity, column):
    result = table(tabulate(make(quantity=quantity, status="oom", reason="too big")))
    assert result.shown[column].tolist() == ["out of memory"]
    assert result.kinds[0, column] == "failed"


def test_failure_table(make, tabulate):
    frame = tabulate(make(), make("naive_gram", status="timeout", reason="after 600 s"))
    (row,) = tables.failure_table(frame).shown.to_dict("records")
    assert (row["Outcome"], row["Reason"]) == ("timed out", "after 600 s")


def test_settings_that_differ_become_columns(make, tabulate):
    table = tables.time_table(tabulate(make(device="cpu"), make(device="cuda")))
    assert table.shown["Device"].tolist() == ["cpu", "cuda"]
    assert "Threads" not in table.shown


@pytest.mark.parametrize(
    ("problem", "data", "label"),
    [
        ("digits_mlp", "real", "digits MLP"),
        ("cifar10_3c3d", "synthetic", "CIFAR-10 3c3d (synthetic data)"),
        ("brand_new", "synthetic", "brand new (synthetic data)"),
        ("digits_mlp", "", "digits MLP (data source not recorded)"),
    ],
)
def test_problem_labels(problem, data, label):
    assert labels.problem_label(problem, data) == label


def test_unknown_names_have_labels_colors_and_markers():
    names = ["gram", "brand_new", "another_one"]
    colors, markers = labels.method_colors(names), labels.method_markers(names)
    assert labels.method_label("brand_new") == "brand new"
    assert labels.task_label("brand_new", 3) == "brand new, k = 3"
    assert len({colors[name] for name in names}) == len({markers[name] for name in names}) == 3


def test_colors_do_not_depend_on_what_was_measured():
    assert labels.method_colors(["gram"])["gradient"] == labels.method_colors([])["gradient"]
