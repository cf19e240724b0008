"""Comparing two versions of the library: it must be able to fail, and not fail without reason."""

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import cli
from benchmarks.commits import check, regressions
from benchmarks.commits.regressions import (
    Change,
    CommitError,
    Versions,
    default_points,
    library_folder,
)
from benchmarks.commits.verdicts import Rules, RulesError, Verdict
from benchmarks.grid.points import GRIDS, Point
from benchmarks.records.tasks import Task
from benchmarks.run.process import ROOT

POINT = GRIDS["newton"].point(("digits_mlp", 16))
FEW = Rules(threshold=1.5, confidence=0.9, processes=1, samples=5)


def changed_library(folder: Path, code: str) -> Path:
    """A copy of the library with something added at its end."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "vivit", folder / "vivit", ignore=ignored)
    with (folder / "vivit" / "__init__.py").open("a") as file:
        file.write(code)
    return folder


SLOW = """
import time

def _slow(step):
    def slower(*args, **kwargs):
        begin = time.perf_counter()
        result = step(*args, **kwargs)
        time.sleep(3 * (time.perf_counter() - begin))
        return result
    return slower

GGN.newton_step = _slow(GGN.newton_step)
"""
"""An artificial slow-down: each step takes four times as long."""

HUNGRY = """
import torch

def _hungry(step):
    def hungrier(*args, **kwargs):
        held = torch.zeros(2**20)
        return step(*args, **kwargs), held.sum() and held
    return lambda *args, **kwargs: hungrier(*args, **kwargs)[0]

GGN.newton_step = _hungry(GGN.newton_step)
"""

WRONG = """
_step = GGN.newton_step
GGN.newton_step = lambda *args, **kwargs: {k: 2 * v for k, v in _step(*args, **kwargs).items()}
"""


def verdicts(base: Path, head: Path, rules: Rules = FEW) -> dict[str, Change]:
    told: list[str] = []
    changes = [*Versions(base, head, rules, told.append).compare([POINT])]
    assert told[0] == f"{POINT.title}: accuracy"
    return {change.quantity: change for change in changes}


def test_more_memory_is_a_regression_without_noise(tmp_path):
    change = verdicts(ROOT, changed_library(tmp_path, HUNGRY))["tensors"]
    assert change.verdict is Verdict.REGRESSION
    assert change.head == change.base + 4 * 2**20


def test_a_wrong_result_is_a_regression_however_fast(tmp_path):
    for change in verdicts(ROOT, changed_library(tmp_path, WRONG)).values():
        assert change.verdict is Verdict.REGRESSION
        assert change.reason.startswith("head: ArithmeticError: relative error")
        assert change.ratio is None


def test_what_the_base_cannot_do_is_skipped(tmp_path):
    old = changed_library(tmp_path, "\ndel GGN.__base__.newton_step\n")
    for change in verdicts(old, ROOT).values():
        assert change.verdict is Verdict.SKIPPED
        assert "newton_step" in change.reason


def test_an_artificial_slow_down_fails_and_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(check, "default_points", lambda problems: [POINT])
    slow = changed_library(tmp_path / "slow", SLOW)
    output = tmp_path / "out" / "check.json"
    few = ["--problem", "digits_mlp", "--samples", "6", "--threshold", "1.3"]
    arguments = ["check", str(ROOT), str(slow), *few, "--output", str(output)]
    assert cli.main(arguments) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["verdict", "ratio", "interval"]
    assert lines[1].startswith("regression")  # the worst first
    assert "time" in lines[1]
    assert "damped Newton step" in lines[1]
    content = json.loads(output.read_text())
    assert content["base"] == {"given": "working tree", "commit": None}
    assert content["head"] == {"given": "slow", "commit": None}
    worse = [f for f in content["figures"] if f["verdict"] == "regression"]
    assert [(f["computed"], f["quantity"]) for f in worse] == [("newton_step", "time")]
    assert 2 < worse[0]["ratio"] < 8
    assert 1.8 < worse[0]["interval"][0] <= worse[0]["ratio"] <= worse[0]["interval"][1]
    assert lines[-1] == "1 regression, 1 unchanged"
    assert str(tmp_path) not in output.read_text()


def test_the_command_passes_where_nothing_is_worse(monkeypatch, capsys):
    changes = [
        Change(POINT, "time", Verdict.UNCHANGED, 1.0, 1.02, 1.01, 0.99, 1.02),
        Change(POINT, "tensors", Verdict.SKIPPED, reason="base: it has no such thing"),
    ]
    monkeypatch.setattr(check.Versions, "compare", lambda self, points: iter(changes))
    assert cli.main(["check", str(ROOT)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("unchanged  1.010  0.990 to 1.020  1e+03 ms  1.02e+03 ms  time")
    assert lines[2].endswith(": base: it has no such thing")
    assert lines[-1] == "1 unchanged, 1 skipped"


@pytest.mark.parametrize("verdict", [Verdict.SKIPPED, Verdict.UNDECIDED, Verdict.FAILED])
def test_a_check_that_saw_nothing_is_not_green(monkeypatch, verdict):
    changes = [Change(POINT, "time", verdict, reason="why")]
    monkeypatch.setattr(check.Versions, "compare", lambda self, points: iter(changes))
    assert cli.main(["check", str(ROOT)]) == 1


def test_a_base_that_does_not_work_is_not_skipped(tmp_path):
    broken = changed_library(tmp_path, "\nGGN.newton_step = None\n")
    for change in verdicts(broken, ROOT).values():
        assert change.verdict is Verdict.FAILED
        assert change.reason.startswith("base: TypeError")


def test_a_version_is_not_worse_than_itself():
    for change in verdicts(ROOT, ROOT).values():
        assert change.verdict in (Verdict.UNCHANGED, Verdict.UNDECIDED)


def test_a_regression_has_to_be_one_twice(monkeypatch):
    worse = Change(POINT, "time", Verdict.REGRESSION, 1.0, 2.0, 2.0, 1.9, 2.1)
    same = Change(POINT, "time", Verdict.UNCHANGED, 1.0, 1.0, 1.0, 0.99, 1.01)
    measured = []

    def changes(self, point):
        return measured.pop(0)

    monkeypatch.setattr(Versions, "_changes", changes)
    versions = Versions(ROOT, ROOT, FEW, str)
    for sequence, verdict in (
        ([[worse], [worse]], Verdict.REGRESSION),
        ([[worse], [same]], Verdict.UNDECIDED),
        ([[same]], Verdict.UNCHANGED),
        ([[same, worse], [worse, worse]], Verdict.UNDECIDED),  # of the first, once only
    ):
        measured[:] = sequence
        change, *_ = versions.compare([POINT])
        assert change.verdict is verdict
        assert not measured


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([1.3, 1.31, 1.29, 1.3, 1.32, 1.28, 1.3, 1.3], Verdict.REGRESSION),
        ([1.3, 0.9, 1.9, 1.3, 0.7, 1.6, 1.0, 1.3], Verdict.UNDECIDED),
        ([1.02, 1.0, 0.98, 1.01, 0.99, 1.0, 1.0, 1.0], Verdict.UNCHANGED),
        ([0.5, 0.5, 0.6, 0.5, 0.5, 0.4, 0.5, 0.5], Verdict.IMPROVEMENT),
        ([1.2, 1.05, 1.1, 1.2, 1.15, 1.2, 1.2, 1.2], Verdict.UNDECIDED),
    ],
)
def test_the_noise_decides_whether_a_ratio_counts(ratios, verdict):
    low, high, found = Rules().judge([ratios])
    assert min(ratios) <= low <= high <= max(ratios)
    assert found is verdict


def test_pairs_of_processes_have_to_agree():
    slow, same = [1.4] * 8, [1.0] * 2
    assert Rules().judge([slow, slow])[2] is Verdict.REGRESSION
    assert Rules().judge([slow, same])[2] is Verdict.UNDECIDED
    assert Rules().judge_bytes(1.02) is Verdict.REGRESSION
    assert Rules().judge_bytes(1.005) is Verdict.UNCHANGED


def test_rules_by_which_nothing_can_be_decided():
    with pytest.raises(RulesError, match="got 6 pairs: ask for more samples or processes"):
        Rules(samples=3)
    with pytest.raises(RulesError, match="got 2 pairs: ask for more samples or processes"):
        Rules(confidence=0.5, processes=1, samples=2)  # an interval without an end
    with pytest.raises(RulesError, match="Expected thresholds above 1 and a confidence between"):
        Rules(threshold=0.9)
    with pytest.raises(RulesError, match="got nan"):
        Rules(threshold=float("nan"))
    assert cli.main(["check", "HEAD", "--samples", "1"]) == 2


def test_a_version_is_a_commit_or_a_folder(tmp_path, capsys):
    with library_folder("HEAD") as folder:
        assert (folder / "vivit" / "__init__.py").is_file()
        assert not (folder / "benchmarks").exists()
    assert not folder.exists()
    with library_folder(str(ROOT)) as folder:
        assert folder == ROOT
    assert (ROOT / "vivit").is_dir()
    with pytest.raises(CommitError, match=r"expected a commit, or a folder that contains vivit/"):
        library_folder("no-such-commit").__enter__()
    assert cli.main(["check", str(tmp_path)]) == 2
    assert "error: expected a commit, or a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "4"], "expected --problem and --batch-size together"),
        (["--k", "2", "--problem", "digits_mlp"], "and --k with both only"),
        (["--problem", "language_model"], "expected --batch-size beside --problem language_model"),
    ],
)
def test_points_that_are_not_said(capsys, arguments, message):
    assert cli.main(["check", "HEAD", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_point_of_ones_own(monkeypatch, tmp_path):
    """Of any problem, at any size; the head makes the reference: the base may not be able to."""
    broken = changed_library(tmp_path, "\nGGN.eigvalsh = None\n")
    compared = []
    original = Versions.compare

    def compare(self, points):
        assert self._reference_by == "head"
        compared.extend(points)
        yield from original(self, points)

    monkeypatch.setattr(Versions, "compare", compare)
    chosen = ["--problem", "digits_mlp", "--batch-size", "5", "--k", "2"]
    few = ["--processes", "1", "--samples", "2", "--confidence", "0.4"]
    output = tmp_path / "check.json"
    cli.main(["check", str(broken), str(ROOT), *chosen, *few, "--output", str(output)])
    assert compared == [Point("digits_mlp", 5, Task.leading(2))]
    verdicts = [f["verdict"] for f in json.loads(output.read_text())["figures"]]
    assert "failed" not in verdicts


def test_points_of_chosen_problems():
    points = default_points(["digits_mlp"])
    assert {point.problem for point in points} == {"digits_mlp"}
    computed = {point.task.computed for point in default_points()}
    assert computed == {grid.computed for grid in GRIDS.values()}
    assert regressions.THREADS == 1
