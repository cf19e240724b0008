"""The classes of asv, as asv's own runner finds and runs them."""

import json
import os
import platform
import subprocess
import sys
import types
from pathlib import Path

import pytest
from asv.machine import MachineCollection
from asv_runner.benchmarks.mark import SkipNotImplemented

import vivit
from benchmarks.asv import base, machine, memory, speed, tracked
from benchmarks.grid.points import GRIDS, SELECTION
from benchmarks.methods.gram import missing_parts
from benchmarks.records.tasks import Approximation, Grouping, Subset, Task

ROOT = Path(__file__).resolve().parents[2]
CLASSES = [
    *(speed.Eigenvalues, speed.Eigenpairs, speed.Derivatives, speed.NewtonStep),
    *(memory.Eigenvalues, memory.NewtonStep),
    *(tracked.Library, tracked.AsGpu, tracked.NaiveGram, tracked.PowerIteration),
    tracked.CriticalBatchSize,
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
        assert entry["version"] == f"1: {', '.join(entry['param_names'])}"
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
        (tracked.Library, "track_backward_passes", 0),
        (tracked.AsGpu, "track_calls", 100),
        (tracked.AsGpu, "track_traffic", 100_000),
        (tracked.AsGpu, "track_waits", 1),
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
    base.refuse_missing(point, ["memory"])
    with pytest.raises(NotImplementedError, match=r"of this commit has no GGN\(colour\)"):
        base.refuse_missing(point, ["colour"])
    monkeypatch.delattr(vivit.GGN.__base__, "directional_derivatives")
    with pytest.raises(NotImplementedError, match=r"has no GGN\.directional_derivatives"):
        base.refuse_missing(point)


def test_missing_parts():
    task = Task.leading(
        1, approximation=Approximation.MONTE_CARLO, subset=Subset.EIGHTH, grouping=Grouping.LAYER
    )
    assert missing_parts(vivit, task) == []
    nothing = types.SimpleNamespace()
    assert missing_parts(nothing, task) == ["GGN"]
    nothing.GGN = lambda model, loss_func, data: None
    expected = ["GGN.eigh", "MonteCarlo", "block_diagonal", "GGN(subset)"]
    assert missing_parts(nothing, task) == expected


def test_what_the_library_refuses_is_skipped():
    def refuse():
        raise vivit.UnsupportedError("no such layer")

    with pytest.raises(SkipNotImplemented, match="no such layer"):
        base.skipping(refuse)
    assert base.skipping(lambda: 3) == 3


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if issubclass(cls, base.TimedSuite)])
def test_what_is_timed_is_what_was_checked(cls):
    suite, runs = cls(), []
    suite._measured = types.SimpleNamespace(run=lambda: runs.append(1))
    (name,) = (name for name in dir(suite) if name.startswith("time_"))
    getattr(suite, name)("digits_mlp", 16)
    assert runs == [1]


def test_the_machine_has_no_name_of_a_host(monkeypatch, capsys):
    saved = {}
    monkeypatch.setattr(MachineCollection, "save", lambda name, facts: saved.update({name: facts}))
    monkeypatch.delenv(machine.NAME, raising=False)
    machine.main()
    monkeypatch.setenv(machine.NAME, "mine")
    machine.main()
    first, second = saved
    assert second == "mine"
    assert first.endswith("-cores")
    for name, facts in saved.items():
        assert facts["machine"] == name
        assert facts["os"] == platform.system()
        assert platform.node() not in facts.values()
    assert machine.default_name({"cpu": "AMD EPYC (TM)", "num_cpu": 2}) == "amd-epyc-tm-2-cores"
