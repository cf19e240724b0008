"""What is said of names that nobody knows."""

import pytest

from benchmarks.commits.regressions import CommitError, commit_of
from benchmarks.grid.points import GRIDS, SELECTION
from benchmarks.grid.profiles import PROFILES
from benchmarks.grid.suites import SUITES
from benchmarks.measure.critical import BudgetMode
from benchmarks.methods import METHODS
from benchmarks.problems import PROBLEMS
from benchmarks.records.names import did_you_mean
from benchmarks.records.record import Quantity, Status
from benchmarks.records.tasks import Approximation, Computed, Grouping, Subset, Task


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smok", ": did you mean smoke?"),
        ("SMOKE", ": did you mean smoke?"),
        ("wrn", ": did you mean cifar10_wrn16_4?"),
        ("sm", ""),
        ("nothing", ""),
        ("", ""),
    ],
)
def test_near_matches(name, expected):
    assert did_you_mean(name, ["smoke", "quick", "cifar10_wrn16_4"]) == expected


@pytest.mark.parametrize("registry", [METHODS, PROBLEMS, PROFILES, SUITES, GRIDS])
def test_registries(registry):
    name = next(iter(registry))
    with pytest.raises(KeyError, match=f"Unknown [a-z]+ '{name}x': did you mean {name}"):
        registry[f"{name}x"]


@pytest.mark.parametrize(
    "kind", [Approximation, BudgetMode, Computed, Grouping, Quantity, Status, Subset]
)
def test_values(kind):
    first = next(iter(kind))
    value = first.value
    with pytest.raises(ValueError, match=f"Unknown [a-z ]+ '{value}x': did you mean {value}"):
        kind(f"{value}x")
    assert kind(value) is first


def test_tasks():
    with pytest.raises(ValueError, match="Unknown subset 'eigth': did you mean eighth"):
        Task.from_parameters({"subset": "eigth"})
    with pytest.raises(ValueError, match="Unknown grouping 'layers': did you mean layer"):
        Task.from_parameters({"grouping": "layers"})


def test_points_of_a_grid(monkeypatch):
    monkeypatch.setenv(SELECTION, "som")
    with pytest.raises(ValueError, match="'some' or 'all', got 'som': did you mean some"):
        _ = GRIDS["leading"].selected


def test_branches(monkeypatch):
    answers = {"for-each-ref": "main\nother"}
    monkeypatch.setattr("benchmarks.commits.regressions.git", lambda *words: answers.get(words[0]))
    with pytest.raises(CommitError, match="got 'mian': did you mean main"):
        commit_of("mian")
