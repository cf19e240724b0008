"""The classes of asv, as asv's own runner finds and runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import vivit
from benchmarks.asv import base, memory, speed, tracked
from benchmarks.grid import GRIDS, SELECTION
from benchmarks.methods.gram import needed_names
from benchmarks.tasks import Approximation, Computed, Grouping, Task

ROOT = Path(__file__).resolve().parents[2]
CLASSES = [
    *(speed.Eigenvalues, speed.Eigenpairs, speed.Derivatives, speed.NewtonStep),
    *(memory.Eigenvalues, memory.NewtonStep),
    *(tracked.Library, tracked.NaiveGram, tracked.PowerIteration, tracked.CriticalBatchSize),
]


def run_asv(script: str, folder: Path) -> str:
    """Run asv_runner outside of the repository, as asv does."""
    code = f"from asv_runner import discovery, run\n{script}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, dict]:
    folder = tmp_path_factory.mktemp("asv")
    run_asv(f"discovery._discover(({str(ROOT / 'benchmarks')!r}, 'found.json'))", folder)
    return {entry["name"]: entry for entry in json.loads((folder / "found.json").read_text())}


def test_asv_finds_all_and_nothing_else(found):
    assert {name.rpartition(".")[0] for name in found} == {
        f"{cls.__module__.removeprefix('benchmarks.')}.{cls.__name__}" for cls in CLASSES
    }
    kinds = {"time_": "time", "peakmem_": "peakmemory", "track_": "track"}
    for name, entry in found.items():
        function = name.rpartition(".")[2]
        assert entry["type"] == next(k for begin, k in kinds.items() if function.startswith(begin))
        assert entry["unit"] != "unit"  # asv's default: every figure has its own
        assert entry["version"] == base.Suite.version
        assert entry["param_names"][0] == "problem"


def test_units_stand_in_the_names_of_parameters(found):
    (names,) = {
        tuple(entry["param_names"]) for name, entry in found.items() if "time_eigenpairs" in name
    }
    assert names[:3] == ("problem", "batch size [samples]", "directions [1]")


def run_point(cls, name, values, folder) -> object:
    index = cls.grid.all.index(values)
    module = cls.__module__.removeprefix("benchmarks.")
    arguments = (
        *(str(ROOT / "benchmarks"), f"{module}.{cls.__name__}.{name}-{index}"),
        *(json.dumps({"repeat": 1, "number": 1, "rounds": 1}), "None", "result.json"),
    )
    run_asv(f"run._run({arguments!r})", folder)
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize(
    ("cls", "name", "least"),
    [
        (speed.Derivatives, "time_directional_derivatives", 0),
        (memory.Eigenvalues, "peakmem_eigenvalues", 50 * 2**20),
        (tracked.Library, "track_peak_of_tensors", 100_000),
        (tracked.Library, "track_relative_error", 0),
        (tracked.Library, "track_backward_passes", 9),
        (tracked.NaiveGram, "track_time_of_naive_gram_to_ours", 0),
        (tracked.PowerIteration, "track_time_of_power_iteration_to_ours", 0),
        (tracked.CriticalBatchSize, "track_critical_batch_size", 10),
    ],
)
def test_a_point_is_measured(cls, name, least, tmp_path):
    values = next(v for v in cls.grid.some if v[0] == "digits_mlp")
    result = run_point(cls, name, values, tmp_path)
    if name.startswith("time_"):
        (result,) = result["samples"]
    assert result > least


def test_other_points_are_skipped(tmp_path, monkeypatch):
    monkeypatch.delenv(SELECTION, raising=False)
    grid = speed.Eigenvalues.grid
    other = next(values for values in grid.all if values not in grid.some)
    result = run_point(speed.Eigenvalues, "time_eigenvalues", other, tmp_path)
    assert result != result  # NaN


def test_a_point_is_prepared_once(monkeypatch):
    suite = tracked.CriticalBatchSize()
    prepared = []
    monkeypatch.setattr(suite, "prepare", lambda point: prepared.append(point))
    values = suite.grid.some[0]
    suite.setup(*values)
    suite.setup(*values)
    assert prepared == [suite.grid.point(values)]


def test_what_an_old_commit_lacks_is_skipped(monkeypatch):
    point = GRIDS["derivatives"].point(("digits_mlp", 16, 1))
    base.refuse_missing(point)
    monkeypatch.delattr(vivit.GGN, "directional_derivatives")
    with pytest.raises(NotImplementedError, match=r"has no vivit\.GGN\.directional_derivatives"):
        base.refuse_missing(point)
    base.refuse_without_option("memory")
    with pytest.raises(NotImplementedError, match="of this commit has no argument colour"):
        base.refuse_without_option("colour")


@pytest.mark.parametrize("computed", Computed)
def test_needed_names_exist_today(computed):
    k = 1 if computed.is_about_leading else None
    task = Task(computed, k, Approximation.MONTE_CARLO, grouping=Grouping.LAYER)
    for name in needed_names(task):
        holder = vivit
        for part in name.split("."):
            holder = getattr(holder, part)
