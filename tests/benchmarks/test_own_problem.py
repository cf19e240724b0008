"""Problems of the user's own: what is accepted, and what errors say."""

import pytest
import torch
from benchmark_cases import NESTED

from benchmarks.problems import PROBLEMS
from benchmarks.problems.own import OwnProblem, ProblemError, find_problem
from benchmarks.records.tasks import Approximation, Computed, Grouping, Subset, Task
from benchmarks.run.worker import Worker

GOOD = """
import torch
from torch import nn

def make(batch_size, device, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    X = torch.rand(batch_size, 3, generator=generator).to(device, dtype)
    y = torch.randint(4, (batch_size,), generator=generator).to(device)
    return nn.Linear(3, 4).to(device, dtype), nn.CrossEntropyLoss(), X, y
"""


@pytest.fixture
def write(tmp_path):
    def write(text, function="make"):
        file = tmp_path / "mine.py"
        file.write_text(text)
        return OwnProblem.parse(f"{file}:{function}")

    return write


def test_an_instance(write):
    problem = write(GOOD)
    state = torch.random.get_rng_state()
    first, again = (problem.make(5, "cpu", torch.float64, 3) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.num_parameters == 16
    assert first.inputs.shape == (5, 3)
    assert first.inputs.dtype == torch.float64
    assert torch.equal(first.model.weight, again.model.weight)
    assert not first.model.training
    assert problem.name == "mine.py:make"
    assert find_problem(problem.spec) == problem
    assert find_problem("digits_mlp") is PROBLEMS["digits_mlp"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("def make", "def other"), "has no function 'make'. There is: other"),
        (GOOD.replace("def make", "def maker"), r"'make': did you mean maker\? There is: maker"),
        ("import nonsense", "mine.py cannot be imported: ModuleNotFoundError"),
        ("def make(n): ...", "mine.py:make failed with TypeError.*Expected a function"),
        (GOOD.replace("X, y\n", "X\n"), r"returned \(Linear, CrossEntropyLoss, Tensor\)"),
        (GOOD.replace(", X, y\n", ", 1, y\n"), r"returned \(Linear, CrossEntropyLoss, int, Te"),
        (
            GOOD.replace(", X, y\n", ", {'a': 1}, y\n"),
            r"returned \(Linear, CrossEntropyLoss, dict",
        ),
        (GOOD.replace("(batch_size, 3", "(2, 3"), "asked for 5 samples, but X has 2: samples lie"),
        (
            GOOD.replace(", X, y\n", ", {'a': X, 'b': (X[1:],)}, y[0]\n"),
            r"asked for 5 samples, but X\['b'\]\[0\] has 4, y has 0: .* as a buffer",
        ),
        (
            GOOD.replace(", X, y\n", ", {'a': X, 'b': {1, 2}}, y\n"),
            r"returned an X\['b'\] of type set. Expected a function .* dicts, lists and tuples",
        ),
        (
            GOOD.replace("nn.Linear(3, 4).to(device, dtype)", "nn.Linear(3, 4)"),
            "asked for parameters of torch.float64, but some are of torch.float32",
        ),
    ],
    ids=[
        "name",
        "near name",
        "import",
        "signature",
        "three",
        "int",
        "no tensor",
        "size",
        "nested",
        "set",
        "dtype",
    ],
)
def test_errors_say_what_is_expected(write, text, message):
    with pytest.raises(ProblemError, match=message):
        write(text).make(5, "cpu", torch.float64, 0)


def test_both_precisions_are_compared(write):
    write(GOOD).check("cpu", 0)
    drawn = GOOD.replace("generator=generator).to(device, dtype)", "dtype=dtype)")
    with pytest.raises(ProblemError, match=r"gives another X in float64 .*draw .* in float32"):
        write(drawn).check("cpu", 0)


def test_all_tensors_of_both_precisions_are_compared(write):
    nest = GOOD.replace(", X, y\n", ", {'a': X, 'b': [X[:, 0], None, 1.5]}, y\n")
    write(nest).check("cpu", 0)
    with pytest.raises(ProblemError, match=r"gives another X\['b'\]\[0\] in float64"):
        write(nest.replace("X[:, 0]", "torch.rand(batch_size, dtype=dtype)")).check("cpu", 0)
    with pytest.raises(ProblemError, match=r"same tensors .* gives X\['c'\], .* of X\['a'\]"):
        write(nest.replace("'a'", "'a' if dtype is torch.float32 else 'c'")).check("cpu", 0)


def test_some_samples_of_nested_inputs(write):
    problem = write(GOOD.replace(", X, y\n", ", {'a': X, 'b': (y, 'mean', y.sum())}, y\n"))
    instance = problem.make(5, "cpu", torch.float32, 0)
    assert instance.num_samples == 5
    few = instance.first(2)
    assert few.inputs["a"].shape == (2, 3)
    assert few.inputs["b"][1:] == ("mean", instance.targets.sum())
    assert torch.equal(few.inputs["b"][0], few.targets)
    assert torch.equal(instance.samples(slice(3, 4)).inputs["a"], instance.inputs["a"][3:4])
    double = instance.double()
    assert [x.dtype for x in (double.inputs["a"], double.inputs["b"][0], double.like)] == [
        torch.float64,
        torch.int64,
        torch.float64,
    ]


METHODS_AND_TASKS = [
    ("gram", Task()),
    ("gram", Task(subset=Subset.EIGHTH)),
    ("gram", Task.leading(2, subset=Subset.EIGHTH)),
    ("gram", Task(approximation=Approximation.MONTE_CARLO)),
    ("gram", Task(grouping=Grouping.LAYER)),
    ("gram", Task(Computed.NEWTON_STEP)),
    ("gram", Task(Computed.DERIVATIVES, 2)),
    ("gram", Task(Computed.FISHER)),
    ("gram", Task(Computed.NTK)),
    ("gram", Task(Computed.PRODUCT)),
    ("gram", Task(Computed.SOLVE)),
    ("gram", Task(Computed.TRACE)),
    ("conjugate_gradients", Task(Computed.SOLVE)),
    ("skerch_trace:products=8", Task(Computed.TRACE)),
    ("matrix_free_product", Task(Computed.PRODUCT)),
    ("eigenthings", Task(Computed.PRODUCT)),
    ("eigenthings_differences", Task(Computed.PRODUCT)),
    ("lanczos", Task.leading(2)),
    ("power_iteration", Task.leading(2)),
    ("gram_power_iteration", Task.leading(2)),
    ("gradient", Task()),
    ("matrix_product", Task(Computed.GRAM)),
    ("matrix_memory", Task()),
    ("kfac_expand", Task(Computed.PRECONDITIONED)),
]


@pytest.mark.parametrize("function", ["in_dict", "in_tuple"])
@pytest.mark.parametrize(
    ("method", "task"), METHODS_AND_TASKS, ids=[f"{m} {t.title}" for m, t in METHODS_AND_TASKS]
)
def test_methods_take_nested_inputs(write, function, method, task):
    spec = write(NESTED, function).spec
    threads = torch.get_num_threads()
    worker = Worker(spec, method, 16, task.parameters, "cpu", threads, 0, budget=2**26)
    reference = {"samples": [], "details": {}}
    if task.computed is not Computed.PRECONDITIONED:
        reference = worker.reference()
    worker.accuracy(reference["samples"], reference["details"])
    assert worker.tensors()["samples"][0] > 0
    assert worker.probe()["samples"][0] > 0


def test_modules_are_loaded_as_others_are(write):
    """Seeded, and found by what looks modules up: dataclasses do."""
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n" + GOOD + "\n"
        "@dataclass\nclass Settings:\n    width: int = 3\n\nMODEL = nn.Linear(3, 4)\n"
    )
    problem = write(text.replace("nn.Linear(3, 4).to(", "MODEL.to("))
    problem.check("cpu", 0)


@pytest.mark.parametrize("error", ["MemoryError()", "RuntimeError('can\\'t allocate memory')"])
def test_what_does_not_fit_is_told_as_it_is(write, error):
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        write(f"def make(*_): raise {error}").make(5, "cpu", torch.float64, 0)
    assert not isinstance(caught.value, ProblemError)


def test_a_file_that_is_not_there():
    with pytest.raises(ProblemError, match=r"there is no file 'absent.py'"):
        OwnProblem.parse("absent.py:make")
