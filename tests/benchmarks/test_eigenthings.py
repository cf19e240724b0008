"""hessian-eigenthings: the matrix is the GGN, and finite differences have the error of theirs."""

from dataclasses import replace
from functools import cache

import oracle
import pytest
import torch
from benchmark_cases import regression_problem, small_problem
from torch import nn

from benchmarks.grid.matrix_free import MATRIX_FREE_METHODS, MATRIX_FREE_POINTS
from benchmarks.grid.profiles import PROFILES
from benchmarks.grid.suites import SUITES
from benchmarks.measure.vectors import fixed_vector
from benchmarks.methods import METHODS, NotApplicableError, find_method
from benchmarks.problems.problem import Instance
from benchmarks.records.tasks import Computed, Task
from benchmarks.run.worker import Worker

PRODUCT = Task(Computed.PRODUCT)
CELLS = [
    (task, problem, name)
    for problem, _, task in MATRIX_FREE_POINTS
    for name in MATRIX_FREE_METHODS[task.computed]
    if name.startswith("eigenthings")
]


def at_positions():
    """Smooth, with logits ``[N, C, positions]`` as of a language model."""
    p = small_problem()
    layers = nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 6), nn.Unflatten(1, (3, 2))
    model = nn.Sequential(nn.Flatten(), *layers).double()
    return replace(p, model=model, targets=p.targets[:, None].expand(-1, 2) % 3)


PROBLEMS = {"positions": at_positions, "square loss": regression_problem}


def exact_product(p):
    names = [name for name, _ in p.model.named_parameters()]
    ggn = oracle.ggn(p.model, p.loss_func, p.inputs, p.targets, names)
    return ggn @ fixed_vector(p.num_parameters).double()


def error_of_product(p, method):
    before = [x.clone() for x in p.model.parameters()]
    found, exact = find_method(method).prepare(p, PRODUCT)().values, exact_product(p)
    assert not found.requires_grad
    assert all(torch.equal(x, y) for x, y in zip(p.model.parameters(), before, strict=True))
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_matrix_is_the_ggn(problem):
    """Differences are central: an error of second order in the step."""
    p = PROBLEMS[problem]()
    assert error_of_product(p, "eigenthings") < 1e-12
    fine, rough = (
        error_of_product(p, f"eigenthings_differences:step={step}") for step in (1e-3, 1e-2)
    )
    assert fine < 1e-5
    assert rough / fine == pytest.approx(100, rel=0.1)


def test_differences_do_not_depend_on_the_length_of_the_vector(monkeypatch):
    """The step is along a vector of length one."""
    p, method = at_positions(), METHODS["eigenthings_differences"]
    short = method.prepare(p, PRODUCT)().values
    monkeypatch.setattr(
        "benchmarks.methods.eigenthings.fixed_vector", lambda size: 128 * fixed_vector(size)
    )
    torch.testing.assert_close(method.prepare(p, PRODUCT)().values, 128 * short)


def test_runs_go_on_until_pairs_have_converged():
    p = at_positions()
    products = [
        find_method(f"eigenthings:tolerance={tolerance}")
        .prepare(p, Task.leading(2))()
        .details["products"]
        for tolerance in (10, 1e-3)
    ]
    assert products == [4, 4 + 8 + 16]


def test_runs_end_with_as_many_iterations_as_parameters():
    torch.manual_seed(0)
    model, x = nn.Linear(2, 3).double(), torch.rand(5, 2).double()
    p = Instance(model, nn.CrossEntropyLoss(), x, torch.tensor([0, 1, 2, 0, 1]))
    outcome = find_method("eigenthings:tolerance=1e-300").prepare(p, Task.leading(2))()
    assert 4 + 8 < outcome.details["products"] <= 4 + 8 + 9
    exact = torch.linalg.eigvalsh(oracle.ggn(model, p.loss_func, x, p.targets, ["weight", "bias"]))
    torch.testing.assert_close(outcome.values, exact[-2:])


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(weight=torch.ones(4).double()),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.CrossEntropyLoss(ignore_index=0),
        nn.BCEWithLogitsLoss(),
    ],
    ids=["weights", "smoothing", "ignored", "another"],
)
def test_losses_whose_hessian_at_predictions_is_another_matrix(loss):
    p = replace(small_problem(), loss_func=loss)
    assert (p.targets == 0).any()
    with pytest.raises(
        NotApplicableError, match=r"the square loss, and cross-entropy without .* Got \w+Loss\("
    ):
        METHODS["eigenthings_differences"].prepare(p, PRODUCT)


@pytest.mark.parametrize(
    ("task", "problem", "name"), CELLS, ids=[f"{p} {t.title} {n}" for t, p, n in CELLS]
)
def test_every_cell_of_its_own_in_small(task, problem, name):
    """As a process of the harness does it: accuracy, time, bytes of tensors."""
    task = task if task.k is None else Task.leading(1)
    work = worker(problem, name, task)
    answer = work.accuracy(*reference(problem, task))
    assert answer["samples"][0] >= 0
    assert work.time()["samples"][0] > 0
    assert work.tensors()["samples"][0] > 0


def worker(problem, name, task):
    return Worker(problem, name, 1, task.parameters, "cpu", torch.get_num_threads(), seed=0)


@cache
def reference(problem, task):
    answer = worker(problem, "gram", task).reference()
    return answer["samples"], answer["details"]


def test_the_suite_has_the_methods_of_each_result():
    for comparison in PROFILES["matrix_free"].comparisons():
        assert comparison.methods == MATRIX_FREE_METHODS[comparison.task.computed]
        assert {"gram", "gradient"} < set(comparison.methods) <= set(SUITES["matrix_free"].methods)
