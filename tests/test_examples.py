"""The examples run as they are."""

import runpy
import sys
from pathlib import Path

import lightning_stand_in
import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "docs" / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples(path, capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "lightning", lightning_stand_in)
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out


def test_there_are_examples():
    assert len(EXAMPLES) == 8
