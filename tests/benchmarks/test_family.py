"""The suite of kernels, Fisher, solves, traces and products: its grid, and every cell in small."""

import pytest
import torch
from benchmark_cases import NESTED, small_problem
from torch import nn

import vivit
from benchmarks.grid.family import FAMILY_METHODS, POINTS
from benchmarks.grid.profiles import PROFILES
from benchmarks.grid.suites import SUITES, Cell
from benchmarks.methods import METHODS, NotApplicableError, find_method
from benchmarks.methods.family import NEEDED, missing_of_family
from benchmarks.methods.gram import missing_parts
from benchmarks.problems.own import OwnProblem
from benchmarks.problems.problem import Instance
from benchmarks.records.tasks import FAMILY, Computed, Task
from benchmarks.run.worker import Worker

CELLS = [(c, name) for c, names in FAMILY_METHODS.items() for name in names]


@pytest.mark.parametrize(("computed", "name"), CELLS, ids=[f"{c.value} {n}" for c, n in CELLS])
def test_every_cell_in_small(computed, name):
    """As a process of the harness does it: reference, accuracy, time, bytes of tensors."""
    task = Task(computed, 3 if computed is Computed.PAIRS else None)
    worker = Worker("digits_cnn", name, 8, task.parameters, "cpu", torch.get_num_threads(), seed=0)
    reference = worker.reference()
    answer = worker.accuracy(reference["samples"], reference["details"])
    assert answer["samples"][0] >= 0
    assert worker.time()["samples"][0] > 0
    assert worker.tensors()["samples"][0] > 0


def test_comparisons_have_the_methods_of_their_result():
    family = SUITES["family"]
    for computed, names in FAMILY_METHODS.items():
        assert names[0] == "gram"
        assert set(names) <= set(METHODS)
        assert set(names) <= set(family.methods)
        assert family.methods_for(computed) == names
    cells = PROFILES["family"].comparisons()
    assert {c.task.computed for c in cells} == {*FAMILY, Computed.PAIRS}
    assert [c.methods for c in cells] == [FAMILY_METHODS[task.computed] for _, _, task in POINTS]
    chosen = Cell("family", "digits_mlp", 8, Task(Computed.NTK), ("gram",))
    assert chosen.comparison(1).methods == ("gram",)
    assert family.methods_for(Computed.GRAM) == family.methods
    assert SUITES["newton"].methods_for(Computed.NEWTON_STEP) == SUITES["newton"].methods


@pytest.mark.parametrize("computed", NEEDED)
def test_old_commits_lack_parts(computed):
    """What is asked for is what the task needs, and no more."""

    class Old:
        class GGN:
            pass

    class New(Old):
        ntk = EmpiricalFisher = None

        class GGN:
            solve = trace = __matmul__ = None

    assert missing_of_family(Old, computed) == missing_parts(Old, Task(computed))
    assert missing_of_family(Old, computed) == [NEEDED[computed]]
    assert missing_parts(New, Task(computed)) == missing_parts(vivit, Task(computed)) == []


@pytest.mark.parametrize(
    ("name", "computed"), [("ntk_jacobian", "ntk"), ("per_sample_gradients", "fisher")]
)
def test_maps_over_samples_are_of_one_tensor(tmp_path, name, computed):
    (tmp_path / "own.py").write_text(NESTED)
    problem = OwnProblem.parse(f"{tmp_path}/own.py:in_dict").make(4, "cpu", torch.float32, 0)
    with pytest.raises(NotApplicableError, match=f"{name} maps over the samples of a single tens"):
        METHODS[name].prepare(problem, Task(Computed(computed)))


def test_kfac_solves_for_parameters_that_it_knows():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    problem = Instance(model, nn.MSELoss(), torch.ones(2, 3), torch.ones(2, 2))
    with pytest.raises(
        NotApplicableError, match="kfac_expand knows 26 of 34 parameters: those of"
    ):
        METHODS["kfac_expand"].prepare(problem, Task(Computed.SOLVE))


@pytest.mark.parametrize("products", [3, 56, 100])
def test_products_of_a_trace(products):
    """Half of an even number find the subspace; as many as parameters would give it exactly."""
    method = find_method(f"skerch_trace:products={products}")
    with pytest.raises(NotApplicableError, match=rf"below the number .*, 56, got {products}\."):
        method.prepare(small_problem(), Task(Computed.TRACE))


def test_sketches_need_parameters():
    with pytest.raises(NotApplicableError, match="takes 60 random vectors for 50 pairs, got 56"):
        METHODS["sketched_eigh"].prepare(small_problem(), Task.leading(50))


def test_settings_of_the_family_are_used():
    problem = small_problem()
    traces = [
        find_method(f"{name}:products=8").prepare(problem, Task(Computed.TRACE))().details
        for name in ("curvlinops_trace", "skerch_trace")
    ]
    assert traces == [{"products": 8}] * 2
    sketched = find_method("sketched_eigh:oversampling=2").prepare(problem, Task.leading(3))()
    assert sketched.details == {"products": 10}
    kernels = [
        find_method(text).prepare(problem, Task(Computed.NTK))().values
        for text in ("ntk_products", "ntk_products:chunk=4")
    ]
    torch.testing.assert_close(*kernels)
