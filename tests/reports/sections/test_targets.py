"""The table of targets, against ratios computed by hand."""

import pytest

from benchmarks.grid.profiles import PROFILES
from benchmarks.grid.suites import SUITES
from benchmarks.grid.targets import TARGETS, methods_by_cell
from benchmarks.records.tasks import Task
from reports.sections.targets import circumstances, target_table, verdict

EXACT = {
    "suite": "engine",
    "problem": "cifar10_3c3d",
    "batch_size": 128,
    "data": "synthetic",
    **Task().parameters,
}


def engine(make, ours, original, lean):
    """Time and memory (in MiB) of three methods; None where there is no result."""
    rows = []
    for method, pair in (("gram", ours), ("original", original), ("original_lean", lean)):
        for quantity, value in zip(("time", "memory"), pair, strict=True):
            unit = 2.0**20 if quantity == "memory" else 1.0
            outcome = {"status": "oom"} if value is None else {"samples": [unit * value]}
            rows.append(make(method, quantity, **outcome, **EXACT))
    return rows


@pytest.mark.parametrize(
    ("ours", "original", "lean", "time", "memory", "reached"),
    [
        ((1.0, 10.0), (9.0, 30.0), (4.0, 50.0), "4.00x", "3.00x", "no"),
        ((1.0, 10.0), (9.0, 90.0), (4.0, 50.0), "4.00x", "5.00x", "yes"),
        ((1.0, 10.0), (2.0, 90.0), (4.0, 50.0), "2.00x", "5.00x", "no"),
        ((1.0, 10.0), (None, None), (3.0, 40.0), "3.00x", "4.00x", "yes"),
        ((1.0, 10.0), (None, None), (None, None), *2 * ["out of memory"], "open"),
        ((None, None), (9.0, 90.0), (4.0, 50.0), *2 * ["vivit out of memory"], "open"),
    ],
    ids=["memory missed", "reached", "time missed", "one failed", "both failed", "ours failed"],
)
def test_ratios_to_the_better_setting(make, tabulate, ours, original, lean, time, memory, reached):
    table = target_table(tabulate(*engine(make, ours, original, lean)))
    (row,) = table.shown.to_dict("records")
    assert row["Computed"] == "all eigenvalues"
    assert row["Against"] == "original"
    found = row["Time (target)"], row["Memory (target)"], row["Reached"]
    assert found == (f"{time} (≥ 3.0x)", f"{memory} (≥ 4.0x)", reached)
    kinds = {"yes": "better", "no": "worse", "open": "failed"}
    assert table.kinds[0, "Reached"] == kinds[reached]


def test_figures_that_were_not_measured_leave_a_target_open(make, tabulate):
    table = target_table(tabulate(make(samples=[1.0], **EXACT)))
    (row,) = table.shown.to_dict("records")
    assert (row["vivit: time"], row["vivit: memory"]) == ("1.00 s", "not measured")
    assert row["Time (target)"] == "not measured (≥ 3.0x)"
    assert row["Memory (target)"] == "vivit not measured (≥ 4.0x)"
    assert row["Reached"] == "open"


def test_a_task_is_not_taken_for_another(make, tabulate):
    layers = {**EXACT, "grouping": "layer"}
    rows = [make("gram", samples=[1.0], **layers), make("original", samples=[8.0], **EXACT)]
    table = target_table(tabulate(*rows)).shown
    assert list(table["Computed"]) == ["all eigenvalues", "all eigenvalues, per layer"]
    assert list(table["Reached"]) == ["open", "open"]


def test_shims_and_versions_are_said(make, tabulate):
    rows = engine(make, (1.0, 10.0), (9.0, 90.0), (4.0, 50.0))
    record = make("original", "accuracy", [1e-7], **EXACT)
    record.details["package"] = {"vivit-for-pytorch": "1.0.0", "torch": "2.13.0"}
    record.details["shims"] = ["symeig is given back"]
    frame = tabulate(*rows, record)
    assert [verdict(frame), *circumstances(frame)] == [
        "1 of 1 targets reached.",
        "The original ran with vivit-for-pytorch 1.0.0, torch 2.13.0.",
        "To run on current PyTorch it needed a shim: symeig is given back.",
    ]


def test_the_page_has_the_table(make, tabulate, suite_tables):
    (table,) = suite_tables(tabulate(*engine(make, (1.0, 1.0), (3.0, 4.0), (9.0, 9.0))))
    assert table.title == "Engine targets"
    assert table.raw.to_dict("records") == [{"time ratio": 3.0, "memory ratio": 4.0}]


def test_everything_is_measured_that_a_target_needs():
    cells = methods_by_cell()
    grid = PROFILES["engine"].comparisons()
    measured = {(c.problem, c.batch_size, c.task): c.methods for c in grid}
    assert measured == cells
    for target in TARGETS:
        methods = cells[target.problem, target.batch_size, target.task]
        assert methods[0] == "gram"
        assert {*target.rivals, *target.others} <= set(methods) <= set(SUITES["engine"].methods)
    assert PROFILES["engine"].threads == 2
