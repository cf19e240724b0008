"""Reading records: which ones count, and what is refused."""

import pytest

from benchmarks.records.record import RecordError, RecordStore
from reports.cli import main
from reports.errors import ReportError
from reports.sources import environments, records

EARLY, LATE = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([("ok", 1.0, EARLY), ("ok", 2.0, LATE)], 2.0),
        ([("ok", 1.0, LATE), ("ok", 2.0, EARLY)], 1.0),
        ([("ok", 1.0, EARLY), ("timeout", None, LATE)], 1.0),
        ([("ok", 1.0, ""), ("ok", 2.0, "")], 2.0),
    ],
    ids=["later", "later though read first", "ok beats a later failure", "no time: reading order"],
)
def test_latest_ok_record_counts(make, tabulate, outcomes, expected):
    frame = tabulate(*(make(status=s, samples=[v], time=t) for s, v, t in outcomes))
    assert list(frame["value"]) == [expected]


def test_latest_failure_counts_where_nothing_succeeded(make, tabulate):
    frame = tabulate(make(status="oom", time=EARLY), make(status="timeout", time=LATE))
    assert list(frame["status"]) == ["timeout"]


def test_number_of_repeats_does_not_make_another_cell(make, tabulate):
    frame = tabulate(make(samples=[1.0], repeats=3), make(samples=[2.0], repeats=9))
    assert list(frame["value"]) == [2.0]


@pytest.mark.parametrize(
    "change",
    [{"commit": "def456"}, {"batch_size": 128}, {"device": "cuda"}, {"k": 10}, {"threads": 1}],
)
def test_environments_and_parameters_stay_apart(make, tabulate, change):
    assert len(tabulate(make(), make(**change))) == 2


@pytest.mark.parametrize(
    ("one", "other", "named"),
    [
        ({"threads": 1}, {}, {"1 thread", "2 threads"}),
        ({"seed": 1}, {}, {"seed 0", "seed 1"}),
        ({"device": "cuda"}, {}, {"cpu", "cuda"}),
        ({"unknown": 3}, {}, {"unknown = 3", ""}),
        ({"is_rare": True}, {"is_rare": False}, {"is rare", ""}),
    ],
)
def test_settings_are_named_by_what_differs(make, tabulate, one, other, named):
    assert {*tabulate(make(**one), make(**other))["setting"]} == named


def test_commits_of_the_same_code_are_one_environment(make, tabulate):
    first, second, third = records = [make(commit=name) for name in ("def", "abc", "ghi")]
    for record, code in ((first, "1"), (second, "1"), (third, "2")):
        record.environment.update(code=code, dirty=record is second)
    assert len(tabulate(*records)) == 2
    found = [*environments.distinct(records).values()]
    assert [(e.commit, e.dirty, e.records) for e in found] == [
        ("abc, def", True, 2),
        ("ghi", False, 1),
    ]


def test_value_is_the_median(make, tabulate):
    frame = tabulate(make(samples=[1.0, 2.0, 9.0]), make("gram", "memory", [1.0, 5.0, 4.0]))
    assert dict(zip(frame["quantity"], frame["value"], strict=True)) == {"time": 2, "memory": 4}


def test_ok_without_samples_is_a_failure(make, tabulate):
    frame = tabulate(make(samples=[]))
    assert list(frame["status"]) == ["error"]
    assert "no finite samples" in frame["reason"].iloc[0]


def test_missing_parameters_are_tolerated(make, tabulate):
    record = make()
    record.parameters.clear()
    record.environment.clear()
    assert len(tabulate(record)) == 1


def test_environments_are_named_by_processor_date_and_commit(make):
    found = environments.distinct([make(commit="new", time=LATE), make(commit="old", time=EARLY)])
    days = EARLY[:10], LATE[:10]
    assert [e.label for e in found.values()] == [
        f"Test CPU, {days[0]}, old",
        f"Test CPU, {days[1]}, new",
    ]


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        ({"versions": {"torch": "2.14.0"}}, ("torch 2.13.0", "torch 2.14.0")),
        ({"machine": {"cores": 4}}, ("cores 2", "cores 4")),
        ({"dirty": True}, ("no changes", "uncommitted changes")),
    ],
    ids=lambda facts: next(iter(facts)),
)
def test_names_of_environments_tell_what_differs(make, facts, names):
    records = [make(), make()]
    for name, fact in facts.items():
        part = records[1].environment.get(name)
        records[1].environment[name] = part | fact if isinstance(part, dict) else fact
    found = [e.label for e in environments.distinct(records).values()]
    assert len({*found}) == 2
    assert all(label.endswith(name) for label, name in zip(found, names, strict=True))


def test_environments_of_which_nothing_is_known_are_numbered(make):
    records = [make(), make()]
    for record, machine in zip(records, ("here", "there"), strict=True):
        record.environment["machine"] = machine  # no description, as others might write it
    found = [e.label for e in environments.distinct(records).values()]
    name = "machine not recorded, 2026-01-01, abc123"
    assert found == [f"{name} (1)", f"{name} (2)"]


@pytest.mark.parametrize(
    ("cpu", "name"),
    [
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", "Intel Xeon"),
        ("AMD EPYC 7B13 64-Core Processor", "AMD EPYC 7B13"),
        (None, "machine not recorded"),
    ],
)
def test_processors_are_named_in_short(make, cpu, name):
    record = make()
    record.environment["machine"] = record.environment["machine"] | {"cpu": cpu}
    (found,) = environments.distinct([record]).values()
    assert found.label == f"{name}, 2026-01-01, abc123"


def test_files_are_found_recursively_and_once(store, make):
    folder = store([make()])
    file = folder / "run" / "measured.jsonl"
    assert records.find_files([folder, file]) == [file]


def test_no_files(tmp_path, capsys):
    assert main(["--input", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert str(tmp_path) in message
    assert "python -m benchmarks run --profile quick" in message
    assert "Traceback" not in message
    assert not (tmp_path / "out").exists()


def test_one_of_several_inputs_is_missing(store, make, tmp_path):
    with pytest.raises(ReportError, match=r"no such file or folder: .*absent"):
        records.load([store([make()]), tmp_path / "absent"])


def test_empty_file(tmp_path):
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(ReportError, match=r"no records in .*empty\.jsonl"):
        records.load([tmp_path])


def test_corrupt_line(store, make, capsys):
    folder = store([make()])
    file = folder / "run" / "measured.jsonl"
    file.write_text(file.read_text() + "nonsense\n")
    with pytest.raises(RecordError, match=r"measured\.jsonl, line 2"):
        records.load([folder])
    assert main(["--input", str(folder), "--output", str(folder / "out")]) == 2
    assert "line 2" in capsys.readouterr().err


def test_file_that_is_not_text(tmp_path):
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00\n")
    with pytest.raises(ReportError, match=r"cannot read .*binary\.jsonl"):
        records.load([tmp_path])


def test_parameters_that_are_no_object(tmp_path, make):
    record = make()
    object.__setattr__(record, "parameters", [1])
    RecordStore(tmp_path / "odd.jsonl").append([record])
    with pytest.raises(ReportError, match="record 1: expected parameters to be an object"):
        records.load([tmp_path])


def test_settings_that_are_no_object(tmp_path, make):
    record = make()
    record.parameters["settings"] = 0.1
    RecordStore(tmp_path / "odd.jsonl").append([record])
    with pytest.raises(ReportError, match="record 1: expected settings to be an object"):
        records.load([tmp_path])


def test_settings_are_part_of_the_method(make, tabulate):
    """So methods with and without are compared on equal terms."""
    tolerances = ({}, {"settings": {"tolerance": 0.1}}, {"settings": {"tolerance": 0.01}})
    frame = tabulate(make(), *(make("power_iteration", **settings) for settings in tolerances))
    assert list(frame["method"]) == [
        "gram",
        "power_iteration",
        "power_iteration:tolerance=0.01",
        "power_iteration:tolerance=0.1",
    ]
    assert frame["cell"].nunique() == 1
    assert set(frame["other"]) == set(frame["setting"]) == {""}


@pytest.mark.parametrize(
    ("parameters", "task"),
    [
        ({}, "all eigenvalues"),
        ({"suite": "leading", "k": 10}, "10 leading eigenpairs"),
        ({"suite": "engine", "computed": "eigenpairs", "k": 10}, "10 leading eigenpairs"),
        ({"suite": "engine", "computed": "newton_step"}, "damped Newton step"),
        (
            {"suite": "derivatives", "computed": "directional_derivatives", "k": 10},
            "directional derivatives, k = 10",
        ),
        (
            {"approximation": "monte_carlo", "subset": "eighth"},
            "all eigenvalues, Monte-Carlo (1 sample), first N/8 samples",
        ),
        ({"grouping": "layer"}, "all eigenvalues, per layer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_was_computed_is_said(make, tabulate, parameters, task):
    frame = tabulate(make(**parameters))
    assert list(frame["task"]) == [task]
    assert list(frame["other"]) == [""]


def test_tasks_stay_apart_in_figures(make, tabulate, plots):
    """Also in the spectra, of which those of the plain GGN are drawn."""
    spectrum = {"method": "reference", "quantity": "spectrum", "suite": "reference"}
    rows = [make(), make(grouping="layer"), make(**spectrum), make(**spectrum, grouping="layer")]
    drawn = plots(tabulate(*rows))
    labels = [tick.get_text() for tick in drawn["time"].draw().axes[0].get_yticklabels()]
    assert labels == ["batch 32", "batch 32\nall eigenvalues,\nper layer"]
    assert drawn["spectra"].alt.count("largest eigenvalue") == 1


def test_further_parameters_are_told_where_there_are_some(make, tabulate):
    frame = tabulate(make(), make(tolerance=0.1))
    assert frame["setting"].tolist() == ["", "tolerance = 0.1"]
