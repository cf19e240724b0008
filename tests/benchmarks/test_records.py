"""Records survive what happens to files."""

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from benchmarks.records.record import (
    SCHEMA,
    Quantity,
    Record,
    RecordError,
    RecordStore,
    Status,
    merge,
)


def record(**changes):
    values = {
        "suite": "eigenvalues",
        "problem": "digits_mlp",
        "method": "gram",
        "quantity": Quantity.TIME,
        "parameters": {"batch_size": 8, "k": None},
        "status": Status.OK,
        "samples": [0.25, 0.5],
        "unit": "s",
        "details": {"num_columns": 72},
        "environment": {"commit": "abc"},
    }
    return Record(**{**values, **changes})


def test_round_trip(tmp_path):
    store = RecordStore(tmp_path / "new" / "records.jsonl")
    assert store.read() == []
    records = [record(), record(status=Status.OUT_OF_MEMORY, samples=[], reason="too large")]
    store.append(records[:1])
    store.append(records[1:])
    assert store.read() == records
    assert [r.quantity.unit for r in records] == ["s", "s"]


def test_complete_line_without_its_end_is_kept(tmp_path):
    """An editor may have taken the last newline away."""
    store = RecordStore(tmp_path / "records.jsonl")
    store.append([record()])
    store.path.write_bytes(store.path.read_bytes().rstrip())
    assert store.read() == [record()]
    store.append([record(method="gradient")])
    assert store.read() == [record(), record(method="gradient")]


def test_key_depends_on_what_is_measured_only():
    assert record().key == record(samples=[1.0], time="2026-01-01", environment={}).key
    for change in (
        {"suite": "leading"},
        {"problem": "digits_cnn"},
        {"method": "gradient"},
        {"quantity": Quantity.MEMORY},
        {"parameters": {"batch_size": 9, "k": None}},
    ):
        assert record().key != record(**change).key


def test_torn_last_line_is_dropped(tmp_path):
    """What a killed run leaves neither hides nor harms the other records."""
    store = RecordStore(tmp_path / "records.jsonl")
    store.append([record(), record(method="gradient")])
    complete = store.path.read_bytes()
    store.path.write_bytes(complete[:-20])
    assert store.read() == [record()]
    store.append([record(method="naive_gram")])
    assert store.read() == [record(), record(method="naive_gram")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{torn", "line 2: Expecting property name"),
        ("[]", r"line 2: expected the fields \[.*\], got list"),
        ('{"suite": "x"}', r"line 2: expected the fields \[.*\], got \['suite'\]"),
        (
            json.dumps({**json.loads(record().to_json()), "schema": SCHEMA + 1}),
            f"line 2: expected schema {SCHEMA}, got {SCHEMA + 1}",
        ),
        (record().to_json().replace('"ok"', '"fine"'), "line 2: Unknown status 'fine'"),
    ],
    ids=["not JSON", "no object", "other fields", "other schema", "unknown status"],
)
def test_corrupt_line_is_named(tmp_path, line, message):
    store = RecordStore(tmp_path / "records.jsonl")
    store.append([record()])
    with store.path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(RecordError, match=f"records.jsonl, {message}"):
        store.read()


def test_numbers_that_json_lacks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        record(samples=[float("nan")]).to_json()


def append_many(path, name):
    for i in range(20):
        RecordStore(path).append([record(method=name, samples=[float(i)] * 500)] * 3)


def test_two_writers_do_not_interleave(tmp_path):
    path, names = tmp_path / "records.jsonl", ["gram", "gradient", "lanczos"]
    with ProcessPoolExecutor(3, get_context("spawn")) as pool:
        list(pool.map(append_many, [path] * 3, names))
    records = RecordStore(path).read()
    assert len(records) == 180
    for name in names:
        own = [r.samples[0] for r in records if r.method == name]
        assert own == sorted(own)


def test_merge_adds_each_record_once(tmp_path):
    target, *files = (tmp_path / f"{name}.jsonl" for name in ("all", "a", "b"))
    contents = [
        [record(), record(method="gradient")],
        [record(method="gradient"), record(time="x")],
    ]
    for file, records in zip(files, contents, strict=True):
        RecordStore(file).append(records)
    assert merge(target, files) == 3
    assert RecordStore(target).read() == [*contents[0], record(time="x")]
    assert merge(target, files) == merge(target, [target, *files]) == 0
    with pytest.raises(RecordError, match=r"there is no file .*absent"):
        merge(target, [tmp_path / "absent.jsonl"])
