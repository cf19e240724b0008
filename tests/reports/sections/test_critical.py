"""The table of critical batch sizes, by hand."""

import pytest

from benchmarks.grid.profiles import PROFILES
from benchmarks.grid.suites import SUITES
from benchmarks.grid.targets import CRITICAL_TARGETS, critical_methods_by_cell
from benchmarks.records.tasks import Task
from reports.sections.critical import critical_table
from reports.sections.failures import failure_table
from reports.sources.frame import failures

SEARCH = {
    "suite": "critical",
    "problem": "cifar10_3c3d",
    "batch_size": None,
    "budget": 4 * 2**30,
    "largest": 2**15,
    "resolution": 1 / 32,
    "data": "synthetic",
    **Task().parameters,
}


@pytest.fixture
def found(make):
    """The outcome of a search; None if it failed."""

    def record(method, size, **other):
        outcome = {"status": "timeout"} if size is None else {"samples": [size]}
        result = make(method, "critical_batch_size", **outcome, **{**SEARCH, **other})
        result.details["does_not_fit"] = None if size is None else int(size) + 10
        return result

    return record


@pytest.mark.parametrize(
    ("original", "lean", "ratios", "targets", "kinds"),
    [
        (100.0, 300.0, ["12.0x", "4.00x"], ["—", "≥ 4.0x"], {"better"}),
        (100.0, 400.0, ["12.0x", "3.00x"], ["—", "≥ 4.0x"], {"worse"}),
        (300.0, 100.0, ["4.00x", "12.0x"], ["≥ 4.0x", "—"], {"better"}),
        (None, 300.0, ["—", "4.00x"], ["—", "≥ 4.0x"], {"better"}),
        (0.0, 300.0, ["—", "4.00x"], ["—", "≥ 4.0x"], {"better"}),
    ],
)
def test_ratios_to_the_better_setting(found, tabulate, original, lean, ratios, targets, kinds):
    records = [
        found("gram", 1200.0),
        found("original", original),
        found("original_lean", lean),
    ]
    table = critical_table(tabulate(*records))
    own, *others = table.shown.to_dict("records")
    assert own["Largest batch that fits"] == "1200"
    assert own["Does not fit"] == "1210"
    assert own["Budget"] == "4.00 GiB"
    assert [row["vivit's, relative to it"] for row in others] == ratios
    assert [row["Target"] for row in (own, *others)] == ["—", *targets]
    assert set(table.kinds.values()) == kinds
    assert others[0]["Largest batch that fits"] == (
        "timed out" if original is None else f"{original:.0f}"
    )


def test_sizes_that_all_fit_have_no_ratio(found, tabulate):
    largest = found("original", 32769.0)
    largest.details.update(fits=32768, does_not_fit=None)
    table = critical_table(tabulate(found("gram", 1200.0), largest))
    assert list(table.shown["Largest batch that fits"]) == ["1200", "≥ 32768"]
    assert list(table.shown["vivit's, relative to it"]) == ["—", "—"]


def test_environments_are_not_mixed(make, found, tabulate, suite_tables):
    frame = tabulate(found("gram", 1200.0), found("gram", 1100.0, commit="other"))
    assert len(suite_tables(frame)) == 2


def test_the_yardstick_has_a_target_of_its_own(found, tabulate):
    table = critical_table(tabulate(found("gram", 1200.0), found("matrix_memory", 2400.0)))
    assert list(table.shown["vivit's, relative to it"]) == ["—", "0.500x"]
    assert list(table.shown["Target"]) == ["—", "≥ 0.60x"]
    assert table.kinds == {(1, "Target"): "worse"}


def test_budgets_are_not_mixed(found, tabulate):
    records = [found("gram", 1200.0), found("original", 100.0, budget=2**30)]
    table = critical_table(tabulate(*records))
    assert set(table.shown["vivit's, relative to it"]) == {"—"}
    assert sorted(table.shown["Budget"]) == ["1.00 GiB", "4.00 GiB"]


def test_the_page_has_the_table_and_probes_are_no_failures(make, found, tabulate, suite_tables):
    probes = [
        make("gram", "probe", [5e8], **{**SEARCH, "batch_size": 16}),
        make("gram", "probe", status="oom", reason="large", **{**SEARCH, "batch_size": 64}),
        make("gram", "probe", status="error", reason="bug", **{**SEARCH, "batch_size": 32}),
    ]
    frame = tabulate(found("gram", 50.0), *probes)
    (table,) = suite_tables(frame)
    assert table.title == "Critical batch sizes"
    assert table.raw["batch size"].tolist() == [50.0]
    assert len(failures(frame)) == 1
    assert list(failure_table(frame).shown["Reason"]) == ["bug"]


def test_the_figure_shows_each_probe(make, found, tabulate, plots):
    """What fits at its memory, what does not on the line of the budget."""
    probes = [
        make("gram", "probe", [5e8], **{**SEARCH, "batch_size": 16}),
        make("gram", "probe", [9e8], **{**SEARCH, "batch_size": 32}),
        make("gram", "probe", status="oom", reason="large", **{**SEARCH, "batch_size": 64}),
    ]
    frame = tabulate(found("gram", 32.0), *probes)
    plot = plots(frame)["critical"]
    assert "largest that fits: vivit (Gram), all eigenvalues: 32." in plot.alt
    (panel,) = plot.draw().axes
    drawn = [line.get_xydata().tolist() for line in panel.lines]
    assert [[16, 5e8], [32, 9e8]] in drawn
    assert [[64, 4 * 2**30]] in drawn


def test_everything_is_searched_that_a_target_needs():
    grid = PROFILES["critical"].comparisons()
    searched = {(c.problem, c.task, c.limits.budget): c.methods for c in grid}
    assert searched == critical_methods_by_cell()
    for target in CRITICAL_TARGETS:
        methods = searched[target.problem, target.task, target.budget]
        assert methods[0] == "gram"
        assert set(target.rivals) <= set(methods) <= set(SUITES["critical"].methods)
