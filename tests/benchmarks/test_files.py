"""Files written in one step."""

import pytest

from benchmarks.records.files import write


def test_failed_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "page.html"
    write(path, b"old")
    monkeypatch.setattr("pathlib.Path.replace", _refuse)
    with pytest.raises(OSError, match="no space"):
        write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [*path.parent.iterdir()] == [path]


def _refuse(*_):
    raise OSError("no space")
