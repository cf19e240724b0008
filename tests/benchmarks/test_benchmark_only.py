"""Which tests `pytest` and `pytest --benchmark-only` run, and what the latter writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.grid.points import GRIDS

ROOT = Path(__file__).resolve().parents[2]


def pytest_in_root(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_benchmarks_alone_are_collected_by_benchmark_only():
    listed = pytest_in_root("--benchmark-only", "--collect-only", "-q").splitlines()
    tests = [line for line in listed if "::" in line]
    assert tests
    assert all(line.startswith("benchmarks/pytest/test_speed.py::test_speed[") for line in tests)
    for grid in GRIDS.values():
        assert any(f"[{grid.name}-" in line for line in tests)


def test_a_plain_run_has_all_tests_and_no_benchmark():
    listed = pytest_in_root("--collect-only", "-q").splitlines()
    files = {line.partition("::")[0] for line in listed if "::" in line}
    expected = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")}
    assert files == expected


def test_a_benchmark_tells_what_it_measured(tmp_path):
    pytest_in_root(
        *("--benchmark-only", "-k", "newton and digits_mlp"),
        *("--benchmark-save=run", f"--benchmark-storage={tmp_path}"),
    )
    (path,) = tmp_path.rglob("*_run.json")
    content = json.loads(path.read_text())
    assert "node" not in content["machine_info"]
    assert content["machine_info"]["vivit"]["cores"] >= 1
    assert set(content["commit_info"]) >= {"id", "dirty"}
    found = {entry["extra_info"]["method"]: entry for entry in content["benchmarks"]}
    assert set(found) == {"gram", "drop_in"}
    facts = found["gram"]["extra_info"]
    (values,) = (v for v in GRIDS["newton"].some if v[0] == "digits_mlp")
    assert (facts["problem"], facts["N"]) == values
    assert facts["D"] == 6570
    assert facts["columns"] == 9 * facts["N"]
    assert facts["data"] == "real"
    assert 0 < facts["relative_error"] < 1e-2
    assert found["gram"]["group"] == "newton"
    assert found["gram"]["stats"]["rounds"] == 5
