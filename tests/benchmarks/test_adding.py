"""How it feels to add things: each is a new file and its line, or an entry, and is measured."""

import pytest
from copies import Copy

from benchmarks.records.record import Quantity, RecordStore, Status

METHOD = '''
"""What gram computes, sorted once more."""

from benchmarks.measure.accuracy import Outcome
from benchmarks.methods.base import Method
from benchmarks.records.label import Label
from vivit import GGN


class Sorted(Method):
    name = "sorted"
    label = Label("eigenvalues, sorted twice")
    description = "what gram gives, sorted once more"
    tolerance = 1e-4

    def prepare(self, instance, task):
        data = (instance.inputs, instance.targets)
        return lambda: Outcome(GGN(instance.model, instance.loss_func, data).eigvalsh().sort()[0])
'''

PROBLEM = '''
"""A linear layer on noise."""

from torch import nn

from benchmarks.problems.makers import on_noise
from benchmarks.problems.problem import Problem
from benchmarks.records.label import Label

PROBLEM = Problem(
    "linear",
    Label("one linear layer"),
    "a linear layer on noise",
    "synthetic",
    8 * 3 + 3,
    on_noise(lambda: nn.Linear(8, 3), (8,), 3),
)
'''

SUITE = '        Suite("question", Label("a question"), "of a test", ("gram", "gradient")),\n'

PROFILE = """
        Profile(
            "tiny",
            "a test's",
            (Cell("question", "digits_mlp", 4),),
            repeats=1,
            timeout=60,
            patience=1,
        ),
"""

TARGET = '    Target("digits_mlp", 8, Task(), ("gradient",), 1e-9),\n'

SMOKE = ("--profile", "smoke", "--suite", "eigenvalues")


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path)


def measured(copy, *words):
    """Problems and methods whose times a run gives."""
    words = ("run", "--repeats", "1", "--threads", "1", "--output", "records.jsonl", *words)
    copy.run("benchmarks", *words)
    records = RecordStore(copy.path / "records.jsonl").read()
    assert all(r.status is Status.OK for r in records), [r.reason for r in records]
    return {(r.problem, r.method) for r in records if r.quantity is Quantity.TIME}


def shown(copy):
    """All pages of what was measured."""
    copy.run("reports", "--input", "records.jsonl", "--output", "page")
    return "".join(page.read_text() for page in (copy.path / "page").glob("*.html"))


def test_a_method(copy):
    copy.add("benchmarks/methods/sorted.py", METHOD)
    registry = "benchmarks/methods/__init__.py"
    copy.insert(registry, "import Quadrature\n", "from benchmarks.methods.sorted import Sorted\n")
    copy.insert(registry, "        Gram(),\n", "        Sorted(),\n")
    assert "what gram gives, sorted once more" in copy.run("benchmarks", "list", "methods")
    found = measured(copy, *SMOKE, "--method", "gram", "--method", "sorted")
    assert found == {("digits_mlp", "gram"), ("digits_mlp", "sorted")}
    assert "eigenvalues, sorted twice" in shown(copy)


def test_a_problem(copy):
    copy.add("benchmarks/problems/linear.py", PROBLEM)
    registry = "benchmarks/problems/__init__.py"
    copy.insert(registry, "    digits_networks,\n", "    linear,\n")
    copy.insert(registry, "        mlp_linear.PROBLEM,\n", "        linear.PROBLEM,\n")
    found = measured(copy, *SMOKE, "--problem", "linear", "--method", "gram")
    assert found == {("linear", "gram")}
    assert "one linear layer" in shown(copy)


def test_a_suite_and_a_profile(copy):
    copy.insert("benchmarks/grid/suites.py", '    "suite",\n    [\n', SUITE)
    copy.insert("benchmarks/grid/profiles.py", '    "profile",\n    [', PROFILE)
    found = measured(copy, "--profile", "tiny")
    assert found == {("digits_mlp", "gram"), ("digits_mlp", "gradient")}
    assert "a question" in shown(copy)


def test_a_target(copy):
    """It is measured by the profile engine, and appears in the table of targets."""
    copy.insert("benchmarks/grid/targets.py", "\nTARGETS = (\n", TARGET)
    found = measured(copy, "--profile", "engine", "--problem", "digits_mlp")
    assert found == {("digits_mlp", "gram"), ("digits_mlp", "gradient")}
    assert "digits MLP" in shown(copy)
    rows = (copy.path / "page" / "csv" / "targets.csv").read_text().splitlines()
    assert any("digits_mlp" in row or "digits MLP" in row for row in rows)
