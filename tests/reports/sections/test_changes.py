"""asv's results in the report: skipped, failed and changed figures."""

import json
import math

import pandas as pd
import pytest

from reports.cli import main
from reports.errors import ReportError
from reports.sections import changes, over_commits
from reports.sections.changes import change_table, worse_rows
from reports.sources import asv
from reports.sources.sources import Sources
from reports.words.benchmarks import amount, name_of

SPEED = "asv.speed.Eigenvalues.time_eigenvalues"
BYTES = "asv.tracked.Library.track_peak_of_tensors"
SAMPLES = "asv.tracked.CriticalBatchSize.track_critical_batch_size"
PROBLEMS = ["'digits_mlp'", "'digits_cnn'"]
COLUMNS = ["result", "params", "version", "stats_ci_99_a", "stats_ci_99_b"]
SKIPPED = math.nan
FAILED = None


def entry(name, unit, version="1"):
    kind = "time" if "time_" in name else "track"
    names = ["problem", "batch size [samples]"]
    facts = {"name": name, "unit": unit, "version": version, "type": kind}
    return {**facts, "param_names": names, "params": [PROBLEMS, ["16"]]}


@pytest.fixture
def write(tmp_path):
    """Write a folder of results as asv does: one file per commit."""
    folder = tmp_path / "asv"
    (folder / "here").mkdir(parents=True)
    index = {"version": 2} | {
        name: entry(name, unit)
        for name, unit in ((SPEED, "seconds"), (BYTES, "bytes"), (SAMPLES, "samples"))
    }
    (folder / "benchmarks.json").write_text(json.dumps(index))
    machine = {"machine": "here", "cpu": "Test CPU", "num_cpu": "2", "version": 1}
    (folder / "here" / "machine.json").write_text(json.dumps(machine))

    def commit(number, results):
        params = [PROBLEMS, ["16"]]
        rows = {
            name: [values, params, "1", *intervals]
            for name, (values, *intervals) in results.items()
        }
        content = {
            "version": 2,
            "commit_hash": f"{number:08d}" + "a" * 32,
            "env_name": "virtualenv-py3.11",
            "params": {"cpu": "Test CPU"},
            "date": 1_700_000_000_000 + number,
            "result_columns": COLUMNS,
            "results": rows,
        }
        path = folder / "here" / f"{number:08d}-virtualenv-py3.11.json"
        path.write_text(json.dumps(content))  # with a bare NaN, as asv's own
        return path

    return folder, commit


@pytest.fixture
def three(write):
    """Three commits: time of one point doubles, the other is skipped first and fails last."""
    folder, commit = write
    narrow = lambda *values: ([0.98 * v if v else None for v in values],)  # noqa: E731
    wide = lambda *values: ([1.02 * v if v else None for v in values],)  # noqa: E731
    for number, (first, second) in enumerate([(1.0, SKIPPED), (1.0, 3.0), (2.0, FAILED)]):
        known = [v if v and v == v else None for v in (first, second)]
        commit(
            number,
            {
                SPEED: ([first, second], *narrow(*known), *wide(*known)),
                BYTES: ([1000, 1000],),
                SAMPLES: ([100, 100 if number < 2 else 200],),
            },
        )
    return folder


def rows_of(table):
    return {(row["Figure"], row["At"]): row for _, row in table.shown.iterrows()}


def test_results_become_a_tidy_frame(three):
    results = asv.load(asv.find_folders([three.parent]))
    assert results.machines == {"here": {"machine": "here", "cpu": "Test CPU", "num_cpu": "2"}}
    assert len(results.sources) == 3
    frame = results.frame
    assert len(frame) == 3 * 3 * 2
    point = frame[(frame["benchmark"] == SPEED) & frame["point"].str.startswith("digits_cnn")]
    assert list(point["outcome"]) == [asv.SKIPPED, asv.OK, asv.FAILED]
    assert list(point["point"].unique()) == ["digits_cnn, batch size 16 samples"]
    assert point["value"].iloc[1] == 3.0
    assert point["low"].iloc[1] == pytest.approx(2.94)
    assert point["date"].is_monotonic_increasing


def test_changes_are_named_where_the_noise_does_not_explain_them(three):
    table = change_table(asv.load([three]).frame)
    rows = rows_of(table)
    mlp, cnn = ("digits_mlp, batch size 16 samples", "digits_cnn, batch size 16 samples")
    slower = rows["Time of eigenvalues", mlp]
    assert slower["Change"] == "worse, 2.000x"
    assert (slower["First"], slower["Last"]) == ("1.00 s", "2.00 s")
    assert slower["Against the best"] == "worse, 2.000x (00000000aa)"
    assert rows["Time of eigenvalues", cnn]["Change"] == "failed at 00000002aa"
    assert rows["Peak of tensors", mlp]["Change"] == "1.000x"
    assert rows["Critical batch size", cnn]["Change"] == "better, 2.000x"  # larger is better
    marked = {column: kind for (_, column), kind in table.kinds.items()}
    assert list(table.kinds.values()) == ["failed", "worse", "worse", "better"]  # in this order
    assert set(marked) == {"Change", "Against the best"}
    assert worse_rows(table) == {1}
    assert "Setting" not in table.shown


def test_a_change_within_the_noise_is_none(write):
    folder, commit = write
    for number, (value, low, high) in enumerate([(1.0, 0.8, 1.3), (1.2, 1.1, 1.6)]):
        commit(number, {SPEED: ([value, SKIPPED], [low, None], [high, None])})
    (row,) = rows_of(change_table(asv.load([folder]).frame)).values()
    assert row["Change"] == "1.200x"


def test_a_single_commit_is_no_change(write):
    folder, commit = write
    commit(1, {BYTES: ([1000, SKIPPED],)})
    (row,) = rows_of(change_table(asv.load([folder]).frame)).values()
    assert (row["Change"], row["Against the best"]) == ("one commit", "—")


def test_a_gain_that_is_lost_again_is_worse(write):
    """Than the best commit, though not than the first."""
    folder, commit = write
    for number, value in enumerate([1000, 500, 980]):
        commit(number, {BYTES: ([value, SKIPPED],)})
    table = change_table(asv.load([folder]).frame)
    (row,) = rows_of(table).values()
    assert row["Change"] == "0.980x"
    assert row["Against the best"] == "worse, 1.960x (00000001aa)"
    assert worse_rows(table) == {0}


def test_what_never_worked_has_failed_and_is_not_compared(write):
    folder, commit = write
    for number in (1, 2):
        commit(number, {SAMPLES: ([FAILED, SKIPPED],)})
    table = change_table(asv.load([folder]).frame)
    (row,) = rows_of(table).values()
    assert (row["Change"], row["Against the best"]) == ("failed at 00000002aa", "—")
    assert list(table.kinds.values()) == ["failed"]
    assert worse_rows(table) == set()


def test_what_later_commits_cannot_do_is_lost(write):
    folder, commit = write
    for number, value in enumerate([1000, SKIPPED, SKIPPED]):
        commit(number, {BYTES: ([value, SKIPPED],)})
    table = change_table(asv.load([folder]).frame)
    (row,) = rows_of(table).values()
    assert row["Change"] == "lost at 00000001aa"
    assert worse_rows(table) == {0}


def test_commits_are_in_the_order_of_history_where_it_is_known(write, monkeypatch):
    folder, commit = write
    for number in (1, 2):
        path = commit(number, {BYTES: ([1000 * number, SKIPPED],)})
        content = json.loads(path.read_text())
        content["date"] = 5  # the same second
        path.write_text(json.dumps(content))
    hashes = [f"{number:08d}" + "a" * 32 for number in (2, 1)]
    for history, expected in ((hashes, [2000, 1000]), ([], [1000, 2000])):
        monkeypatch.setattr(asv, "_history", lambda history=history: history)
        frame = asv.load([folder]).frame
        assert list(frame["value"].dropna()) == expected


@pytest.mark.parametrize(
    ("unit", "kind", "before", "after", "expected"),
    [
        ("bytes", "peakmemory", 100, 108, "unchanged"),
        ("bytes", "peakmemory", 100, 112, "worse"),
        ("bytes", "track", 100, 108, "worse"),
        ("ratio", "track", 4.0, 3.5, "unchanged"),
        ("ratio", "track", 4.0, 3.0, "worse"),
        ("1", "track", 1e-7, 9e-7, "unchanged"),
        ("1", "track", 1e-7, 2e-6, "worse"),
        ("1", "track", 0.0, 2e-6, "worse"),
    ],
)
def test_thresholds(unit, kind, before, after, expected):
    rows = [
        pd.Series({"unit": unit, "kind": kind, "value": v, "low": math.nan, "high": math.nan})
        for v in (before, after)
    ]
    assert changes._kind(*rows) == expected


def test_results_of_another_version_of_a_benchmark_are_left_out(write):
    folder, commit = write
    path = commit(1, {BYTES: ([1000, 1000],)})
    content = json.loads(path.read_text())
    content["results"][BYTES][2] = "0"
    content["results"][SPEED] = [[1.0, 2.0], [PROBLEMS], "1"]  # of other axes
    content["results"]["gone.track_it"] = content["results"][BYTES]
    path.write_text(json.dumps(content))
    assert len(asv.load([folder]).frame) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "cannot read .*json"),
        (lambda text: "[]", "expected a file of asv, got list"),
        (lambda text: text.replace('"version": 2', '"version": 9'), "expected version 2 of asv's"),
        (lambda text: text.replace("result_columns", "columns"), "is not a result file of asv"),
        (lambda text: text.replace("[1000, 1000]", "[1000]"), "expected 2 values, got"),
    ],
)
def test_a_file_that_is_not_understood_is_named(write, change, message):
    folder, commit = write
    path = commit(1, {BYTES: ([1000, 1000],)})
    path.write_text(change(path.read_text()))
    with pytest.raises(ReportError, match=message) as raised:
        asv.load([folder])
    assert path.name in str(raised.value)


def test_the_page(three, tmp_path, capsys, read_page):
    output = tmp_path / "html"
    assert main(["--input", str(three), "--output", str(output)]) == 0
    assert capsys.readouterr().out.strip() == str(output / "regressions.html")
    page = (output / "regressions.html").read_text()
    assert "At 1 points the last commit is worse" in page
    assert "of which 1 failed" in page
    assert "Test CPU" in page
    assert page.count("<figure") == 3
    assert "speed.html" not in page  # there are no records of the harness
    table = (output / "csv" / "regressions.csv").read_text()
    assert "last_to_first" in table
    assert not (output / "index.html").exists()
    assert read_page(output / "regressions.html").sections == [
        "changes",
        "over-commits",
        "machines",
    ]


def test_both_pages_lead_to_each_other(three, store, records, tmp_path, read_page):
    output = tmp_path / "html"
    inputs = ["--input", str(three), str(store(records))]
    assert main([*inputs, "--output", str(output)]) == 0
    assert "regressions.html" in read_page(output / "index.html").navigation
    assert "index.html" in read_page(output / "regressions.html").navigation


def test_figures_leave_gaps_and_mark_failures(three):
    plots = over_commits.SECTION.figures(Sources(results=asv.load([three])))
    (speed, *_) = (plot for plot in plots if "time" in plot.name)
    assert "digits_mlp, batch size 16 samples: 1.00 s to 2.00 s" in speed.alt
    (panel,) = speed.draw().axes
    labels = [line.get_label() for line in panel.lines if not line.get_label().startswith("_")]
    assert len(labels) == 2
    by_label = {line.get_label().split(",")[0]: line for line in panel.lines}
    assert list(by_label["digits_mlp"].get_ydata()) == [1, 1, 2]
    cnn = list(by_label["digits_cnn"].get_ydata())
    assert math.isnan(cnn[0])
    assert cnn[1] == 1
    crosses = [line for line in panel.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [list(line.get_xdata()) for line in crosses] == [[2]]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.5, "seconds", "500 ms"),
        (2**20, "bytes", "1.00 MiB"),
        (3.25, "ratio", "3.25x"),
        (2e-7, "1", "2.0e-07"),
        (12.0, "passes", "12 passes"),
        (math.nan, "seconds", "—"),
    ],
)
def test_amounts(value, unit, text):
    assert amount(value, unit) == text


def test_names():
    assert name_of(SPEED, "time") == "Time of eigenvalues"
    assert name_of("m.C.peakmem_step", "peakmemory") == "Peak memory of the process, step"
    assert name_of("m.C.time_newton_step", "time") == "Time of Newton step"
    assert name_of("m.C.track_naive_gram_of_program", "track") == "Naive Gram of program"
    assert name_of("whatever", "track") == "Whatever"
