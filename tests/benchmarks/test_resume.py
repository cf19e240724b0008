"""A run that is killed goes on where it stopped, in a clean clone and with real processes."""

import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from subprocess import DEVNULL

import pytest

from benchmarks import cli
from benchmarks.records.record import RecordStore, Status

ROOT = Path(__file__).resolve().parents[2]
RUN = ["run", "--profile", "smoke", "--suite", "eigenvalues", "--repeats", "1", "--threads", "1"]
CHOSEN = ["--method", "gram", "--method", "gradient"]


@pytest.fixture
def clone(tmp_path):
    """The code as it is, in a repository of its own."""
    folder = tmp_path / "clone"
    for name in ("vivit", "benchmarks"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".#*")
        )
    for name in ("constraints.txt", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    who = ["-c", "user.name=x", "-c", "user.email=x@x"]
    for command in (["init"], ["add", "."], [*who, "commit", "--message", "x"]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    return folder


def test_a_killed_run_measures_nothing_twice_and_loses_nothing(clone):
    """Killed at random moments, each after a cell or more, with new files beside it each time."""
    moments, output = random.Random(0), clone / "mine.jsonl"
    command = [sys.executable, "-m", "benchmarks", *RUN, *CHOSEN, "--output", output.name]
    before = []
    for number in range(3):
        with subprocess.Popen(command, cwd=clone, stdout=DEVNULL, stderr=DEVNULL) as run:
            wait_for_records(run, output, len(before) + 1)
            time.sleep(moments.uniform(0, 3))
            run.kill()
        records = read(output)
        assert records[: len(before)] == before
        before = records
        (clone / f"notes{number}.txt").write_text("new")
        (clone / "benchmarks" / f"mine{number}.jsonl").write_text("new")
    subprocess.run(command, cwd=clone, check=True, capture_output=True)
    records = read(output)
    assert records[: len(before)] == before
    assert {record.status for record in records} == {Status.OK}
    assert set(Counter(record.key for record in records).values()) == {1}
    assert len(records) == 7


def read(file):
    return RecordStore(file).read()


def wait_for_records(run, file, count, seconds=300):
    deadline = time.monotonic() + seconds
    while run.poll() is None and len(read(file)) < count:
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_another_local_module_is_another_problem(tmp_path, monkeypatch):
    """Found beside the problem's file, in workers too."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom width_of_mine import WIDTH\n\n"
        "def make(batch_size, device, dtype, seed):\n"
        "    X = torch.ones(batch_size, WIDTH, device=device, dtype=dtype)\n"
        "    model = torch.nn.Linear(WIDTH, 1).to(device, dtype)\n"
        "    return model, torch.nn.MSELoss(), X, X[:, :1]\n"
    )
    output = tmp_path / "records.jsonl"
    run = [*RUN, "--problem", f"{tmp_path}/mine.py:make", "--output", str(output)]
    run += ["--method", "gradient", "--batch-size", "4"]
    sizes = []
    for width in (3, 3, 5):
        (tmp_path / "width_of_mine.py").write_text(f"WIDTH = {width}\n")
        sys.modules.pop("width_of_mine", None)
        assert cli.main(run) == 0
        (tmp_path / "other.py").write_text(f"{width}")
        records = RecordStore(output).read()
        sizes.append(len(records))
    assert sizes == [4, 4, 8]
    assert {r.status for r in records} == {Status.OK}
    counts = [r.details["num_parameters"] for r in records if "num_parameters" in r.details]
    assert set(counts[: len(counts) // 2]) == {4}
    assert set(counts[len(counts) // 2 :]) == {6}
    assert not (tmp_path / "__pycache__").exists()  # edits within a second would go unnoticed
