"""The examples run as they are."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import lightning_stand_in
import pytest
from torchvision_mended import mend_if_broken

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))

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


def test_ranks():
    """In two processes, as its first lines say."""
    words = ["--standalone", "--nproc-per-node", "2"]
    path = ROOT / "docs" / "examples" / "ranks.py"
    assert f"``torchrun {' '.join(words)} docs/examples/ranks.py``" in path.read_text()
    command = [sys.executable, "-m", "torch.distributed.run", *words, str(path)]
    settings = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment = {**os.environ, **settings}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "rank 0: samples 0 to 30, slopes (31, 10)" in done.stdout
    assert "rank 1: samples 31 to 62, slopes (32, 10)" in done.stdout
    assert done.stdout.count(" off\n") == 3


def test_there_are_examples():
    assert len(EXAMPLES) == 13
