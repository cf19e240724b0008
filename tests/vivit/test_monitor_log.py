"""The file of a monitor: what a killed run leaves, runs that go on, lines of another kind."""

import json
import os
import re

import pytest

from vivit import InputError
from vivit.monitor import Observation, read
from vivit.monitor.log import append


def seen(step, loss=0.5):
    quantities = {"loss": loss, "eigenvalues": [2.0, None], "layer_traces": {"é": 1.0}}
    return Observation(step, "2026-01-01T00:00:00+00:00", 1.5, 0.5, 0.3, 0, None, quantities)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "run.jsonl"


def test_what_is_written_is_read(path):
    written = [seen(0), seen(10, None)]
    for observation in written:
        append(path, observation)
    assert read(path) == read(str(path)) == written
    assert len(path.read_bytes().splitlines()) == 2


def test_one_write_for_each_observation(path, monkeypatch):
    written, write = [], os.write
    monkeypatch.setattr(
        "os.write", lambda handle, data: written.append(data) or write(handle, data)
    )
    append(path, seen(0))
    assert written == [path.read_bytes()]


def test_a_run_that_was_killed_at_any_byte(path):
    for step in (0, 10):
        append(path, seen(step))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        kept = [seen(0)] if size >= first else []
        assert read(path) == kept
        append(path, seen(20))
        assert read(path) == [*kept, seen(20)]


@pytest.mark.parametrize(
    ("steps", "shown"),
    [
        ([0, 10, 20, 10, 20, 30], [0, 10, 20, 30]),
        ([0, 10, 20, 15], [0, 10, 15]),
        ([0, 10, 20, 0, 10], [0, 10]),
        ([10, 10], [10]),
    ],
    ids=["from a checkpoint", "other steps", "anew", "once more"],
)
def test_a_run_that_went_on_replaces_what_comes_later(path, steps, shown):
    for time, step in enumerate(steps):
        append(path, seen(step, float(time)))
    found = read(path)
    assert [x.step for x in found] == shown
    last = {step: float(time) for time, step in enumerate(steps)}
    assert [x.quantities["loss"] for x in found] == [last[step] for step in shown]


def changed(**fields):
    return json.dumps(json.loads(seen(0).to_json()) | fields)


WRONG = {
    "no json": ("step 3", "Expecting value"),
    "empty": ("", "Expecting value"),
    "no object": ("[1]", "expected an object, got list"),
    "other fields": ('{"loss": 3}', r"expected the fields \['step', .*got \['loss'\]"),
    "another schema": (changed(schema=2), "expected schema 1, got 2"),
    "step": (changed(step="0"), "expected a whole number as step, got '0'"),
    "seconds": (changed(seconds=None), "expected a number as seconds, got None"),
    "time": (changed(time=3), "is of another kind"),
    "quantities": (changed(quantities=[]), "is of another kind"),
    "values": (changed(quantities={"loss": "low"}), "expected numbers as loss"),
    "lists": (changed(quantities={"damping": [1, [2]]}), "expected numbers as damping"),
}


@pytest.mark.parametrize(("line", "message"), WRONG.values(), ids=WRONG.keys())
def test_lines_that_are_no_observations(path, line, message):
    append(path, seen(0))
    with path.open("a") as file:
        file.write(line + "\n")
    append(path, seen(1))
    with pytest.raises(InputError, match=f"{re.escape(str(path))}, line 2: not an.*{message}"):
        read(path)


def test_bytes_that_are_no_text(path):
    path.parent.mkdir()
    path.write_bytes(b"\xff\n")
    with pytest.raises(InputError, match="line 1: not an observation"):
        read(path)


def test_no_file(path):
    with pytest.raises(InputError, match=r"run.jsonl cannot be read: No such file"):
        read(path)


def test_numbers_that_json_lacks_are_refused():
    with pytest.raises(ValueError, match="Out of range float"):
        seen(0, float("nan")).to_json()
