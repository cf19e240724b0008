"""Ratios against values computed by hand."""

import math

import pytest

from benchmarks.records.record import Quantity
from reports.sections.ratios import ratio_table
from reports.tables import ratios

TIME, MEMORY = Quantity.TIME, Quantity.MEMORY


def cell(table, column, row=0):
    return table.shown[column].iloc[row]


@pytest.mark.parametrize(
    ("ratio", "baseline", "quantity", "text"),
    [
        (12.34, "naive_gram", TIME, "12.3x faster"),
        (0.5, "naive_gram", TIME, "2.00x slower"),
        (0.999, "power_iteration", TIME, "1.00x slower"),
        (1.0, "naive_gram", TIME, "equally fast"),
        (5.1, "naive_gram", MEMORY, "5.10x less"),
        (0.25, "power_iteration", MEMORY, "4.00x more"),
        (1234.5, "naive_gram", MEMORY, "1,230x less"),
        (1 / 30, "gradient", TIME, "30.0 gradients"),
        (0.5, "gradient", MEMORY, "2.00x a gradient"),
        (0.0, "naive_gram", MEMORY, "baseline below resolution"),
    ],
)
def test_ratio_in_words(ratio, baseline, quantity, text):
    assert ratios.ratio_text(ratio, baseline, quantity) == text


def test_ratios_by_hand(make, tabulate):
    frame = tabulate(
        make("gram", "time", [1.0, 2.0, 30.0]),
        make("naive_gram", "time", [5.0, 8.0, 9.0]),
        make("gradient", "time", [0.1]),
        make("gram", "memory", [10.0, 20.0]),
        make("naive_gram", "memory", [50.0, 10.0]),
        make("gradient", "memory", [4.0]),
        *(make(method, "accuracy", [1e-7]) for method in ("gram", "naive_gram", "gradient")),
    )
    table = ratio_table(frame)
    assert cell(table, "vivit: time") == "2.00 s"
    assert cell(table, "Time vs naive Gram") == "4.00x faster"
    assert cell(table, "Time vs gradient") == "20.0 gradients"
    assert cell(table, "Memory vs naive Gram") == "2.00x less"
    assert cell(table, "Memory vs gradient") == "3.75x a gradient"
    assert table.notes == ()
    assert table.raw["time ratio naive_gram / gram"].tolist() == [4.0]
    assert table.kinds[0, "Time vs naive Gram"] == "better"


def test_variants_of_a_task_are_told_apart(make, tabulate):
    variants = [{"computed": "eigenvalues"}, {"computed": "eigenvalues", "subset": "eighth"}]
    whole = [make(method, **variants[0]) for method in ("gram", "gradient")]
    assert "Computed" not in ratio_table(tabulate(*whole)).shown
    both = whole + [make(method, **variants[1]) for method in ("gram", "gradient")]
    assert ratio_table(tabulate(*both)).shown["Computed"].tolist() == [
        "all eigenvalues",
        "all eigenvalues, first N/8 samples",
    ]


@pytest.mark.parametrize(
    ("ours", "theirs", "text"),
    [
        ("ok", "oom", "out of memory [1]"),
        ("ok", "timeout", "timed out [1]"),
        ("ok", "skipped", "skipped [1]"),
        ("error", "ok", "vivit failed [1]"),
        ("timeout", "oom", "vivit timed out [1]; out of memory [2]"),
    ],
)
def test_failures_are_shown_as_such(make, tabulate, ours, theirs, text):
    frame = tabulate(
        make("gram", status=ours, reason="ours"), make("naive_gram", status=theirs, reason="why")
    )
    table = ratio_table(frame)
    assert cell(table, "Time vs naive Gram") == text
    assert table.kinds[0, "Time vs naive Gram"] == "failed"
    assert any("why" in note or "ours" in note for note in table.notes)


@pytest.mark.parametrize(
    ("method", "text"), [("gram", "not measured"), ("naive_gram", "vivit not measured")]
)
def test_what_was_not_measured_is_said(make, tabulate, method, text):
    other = {"gram": "naive_gram", "naive_gram": "gram"}[method]
    frame = tabulate(make(method), make(other, batch_size=128))
    assert cell(ratio_table(frame), "Time vs naive Gram") == text


def test_zero_memory_gives_no_infinite_ratio(make, tabulate):
    frame = tabulate(make("gram", "memory", [0.0]), make("naive_gram", "memory", [5.0]))
    assert math.isnan(ratios.compare(frame, MEMORY)["ratio"].iloc[0])
    assert cell(ratio_table(frame), "Memory vs naive Gram") == "vivit below resolution"


def test_no_blank_cells(records, tabulate, suite_tables):
    for table in suite_tables(tabulate(*records)):
        texts = table.shown.to_numpy().ravel()
        assert all(isinstance(text, str) and text for text in texts)
        assert not {"nan", "NaN", "None", "<NA>"} & set(texts)


@pytest.mark.parametrize(
    "change",
    [
        {"commit": "def456"},
        {"batch_size": 128},
        {"device": "cuda"},
        {"dtype": "float64"},
        {"k": 10},
        {"threads": 1},
        {"seed": 1},
        {"data": "synthetic"},
        {"problem": "digits_cnn"},
        {"suite": "leading"},
        {"tolerance": 0.1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_no_ratio_across_environments_or_parameters(make, tabulate, change):
    frame = tabulate(make("gram"), make("naive_gram", **change))
    assert ratios.compare(frame, TIME)["ratio"].isna().all()


def test_settings_get_tables_of_their_own(make, tabulate, suite_tables):
    rows = [make(method, commit=c) for method in ("gram", "naive_gram") for c in ("a", "b")]
    found = suite_tables(tabulate(*rows))
    assert [table.title for table in found] == [
        "All eigenvalues: Test CPU, 2026-01-01, a",
        "All eigenvalues: Test CPU, 2026-01-01, b",
    ]
    assert [len(table.shown) for table in found] == [1, 1]


@pytest.mark.parametrize(
    ("error", "note"), [(1e-2, "relative error above"), (None, "not checked against a reference")]
)
def test_times_of_doubtful_results_are_marked(make, tabulate, error, note):
    rows = [make("gram"), make("power_iteration"), make("gram", "accuracy", [1e-7])]
    if error:
        rows.append(make("power_iteration", "accuracy", [error]))
    table = ratio_table(tabulate(*rows))
    assert cell(table, "Time vs power iteration") == "equally fast [1]"
    assert note in table.notes[0]


def test_summary_names_range_median_and_failures(make, tabulate):
    rows = [make("gram", batch_size=b) for b in (1, 2, 3, 4)]
    rows += [
        make("naive_gram", samples=[v], batch_size=b) for b, v in ((1, 2.0), (2, 4.0), (3, 6.0))
    ]
    rows.append(make("naive_gram", status="oom", batch_size=4))
    (sentence,) = ratios.summary(tabulate(*rows))
    assert "time 2.00x to 6.00x faster (median 4.00x faster, 3 cases)" in sentence
    assert "the baseline did not finish in 1 of 4 cases" in sentence
