"""The examples run as they are."""

import runpy
import sys
from pathlib import Path

import lightning_stand_in
import pytest
from torchvision_mended import mend_if_broken

EXAMPLES = sorted((Path(__file__).parents[1] / "docs" / "examples").glob("*.py"))

EXPECTED = {
    "influence": lambda results: results["correlation"] > 0.98,
    "hypergradient": lambda results: max(results["errors"]) < 1e-3,
}
"""What an example that compares has to find."""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples(path, capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "lightning", lightning_stand_in)
    monkeypatch.chdir(tmp_path)
    if path.stem == "language_model":
        mend_if_broken()
        pytest.importorskip("transformers", reason="the extra models is not installed")
    results = runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out
    assert EXPECTED.get(path.stem, bool)(results)


def test_there_are_examples():
    assert len(EXAMPLES) == 12
