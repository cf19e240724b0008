"""Saved runs of pytest-benchmark in the report."""

import json

import pytest

from reports.cli import main
from reports.errors import ReportError
from reports.sections.pytest_runs import run_table
from reports.sources.pytest_benchmark import find_runs
from reports.words import labels


def entry(method, median, **facts):
    known = {
        **{"problem": "digits_mlp", "data": "real", "computed": "all eigenvalues", "N": 16},
        **{"D": 6570, "columns": 144, "method": method, "relative_error": 1e-7},
    }
    stats = {"median": median, "iqr": 0.01, "min": 0.9 * median, "rounds": 5}
    return {"name": f"test_speed[{method}]", "extra_info": known | facts, "stats": stats}


def run(*benchmarks, time="2026-11-25T10:00:00+00:00", dirty=False):
    return {
        "machine_info": {"vivit": {"cpu": "Test CPU"}},
        "commit_info": {"id": "0123456789abcdef", "dirty": dirty},
        "benchmarks": list(benchmarks),
        "datetime": time,
        "version": "5.3.1",
    }


@pytest.fixture
def save(tmp_path):
    folder = tmp_path / "pytest"
    (folder / "Linux-CPython").mkdir(parents=True)

    def write(name, content):
        path = folder / "Linux-CPython" / f"{name}.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return folder

    return write


def test_ratios_are_to_vivit_in_the_same_run(save):
    save("0001_a", run(entry("gram", 2.0), entry("naive_gram", 6.0)))
    later = run(
        entry("gram", 1.0),
        entry("gram", 1.0, N=64),
        entry("gradient", 0.5, columns=None),
        entry("lanczos", 3.0, computed="10 leading"),
        time="2026-11-26T10:00:00+00:00",
        dirty=True,
    )
    folder = save("0002_b", later)
    table = run_table(find_runs([folder]))
    shown = table.shown.to_dict("records")
    assert [row["Run"] for row in shown] == (
        ["2026-11-26 10:00, 0123456789 with changes"] * 4 + ["2026-11-25 10:00, 0123456789"] * 2
    )
    assert [row["Time to vivit's"] for row in shown] == [
        *("1.00x", "1.00x", "0.500x", "—"),
        *("1.00x", "3.00x"),
    ]
    assert shown[2]["Columns"] == "—"
    assert shown[0]["D"] == "6,570"
    assert shown[0]["Problem"] == labels.problem_label("digits_mlp", "real")
    assert list(table.raw["median [s]"]) == [1.0, 1.0, 0.5, 3.0, 2.0, 6.0]


def test_runs_of_the_same_minute_are_kept_apart(save):
    save("0001_a", run(entry("gram", 2.0), entry("gradient", 1.0)))
    save("0002_empty", run())
    folder = save("0003_b", run(entry("gram", 1.0), entry("gradient", 1.0)))
    table = run_table(find_runs([folder]))
    assert sorted(table.shown["Time to vivit's"]) == ["0.500x", "1.00x", "1.00x", "1.00x"]


def test_other_json_is_passed_over(save):
    assert find_runs([save("other", {"version": 2})]) == []
    assert find_runs([save("list", "[]")]) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"benchmarks": [', "cannot read .*torn.json"),
        (json.dumps(run({"stats": {}})), "torn.json is not a file of vivit's pytest-benchmark"),
    ],
)
def test_a_file_that_is_not_understood_is_named(save, content, message):
    with pytest.raises(ReportError, match=message):
        find_runs([save("torn", content)])


def test_runs_stand_on_the_page_with_and_without_records(save, store, records, tmp_path):
    folder = save("0001_a", run(entry("gram", 2.0), entry("naive_gram", 6.0)))
    alone, both = tmp_path / "alone", tmp_path / "both"
    assert main(["--input", str(folder), "--output", str(alone)]) == 0
    page = (alone / "regressions.html").read_text()
    assert "There are no results of asv" in page
    assert "3.00x" in page
    assert main(["--input", str(folder), str(store(records)), "--output", str(both)]) == 0
    assert "Runs of pytest-benchmark" in (both / "regressions.html").read_text()
    assert (both / "csv" / "pytest.csv").exists()
