"""The plan of a Gram matrix is what is done, and memory is checked before it begins."""

import gc
import re
import resource
import weakref
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import CASES, conv2d, mlp
from torch import nn

import vivit
from vivit import memory as system
from vivit.gram import division, matrices, memory
from vivit.gram.matrices import group_matrices
from vivit.gram.sweep import stores_of_run
from vivit.layers import factor_store
from vivit.layers.affine import Workspace
from vivit.layers.column_store import ColumnStore
from vivit.layers.cost import Evaluation, evaluation_cost
from vivit.layers.factor_store import FactorStore
from vivit.layers.store import DenseStore
from vivit.memory import human_bytes

CE = nn.CrossEntropyLoss()
BATCH = torch.randn(4, 5), torch.tensor([0, 1, 2, 0])
KEPT = {ColumnStore: "columns", FactorStore: "factors", DenseStore: "dense"}


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def ggn(request):
    if request.param.generic or request.param.name == "merged adapter":
        pytest.skip("the plan is made before it is known that a rule does not fit")
    model, loss_func, x, y = request.param.make()
    return vivit.GGN(model, loss_func, (x, y))


def tensors(kept):
    """Bytes of the tensors that a store owns."""
    owned = [v for v in vars(kept).values() if isinstance(v, torch.Tensor)]
    return sum(x.numel() * x.element_size() for x in owned)


def test_what_is_kept(ggn):
    """Stores, their parameters and bytes are the planned ones."""
    memory = Workspace(2**20, ggn._curvature.like)
    carrying = next(ggn._curvature.each()).carrying()
    total = carrying[1].num_samples
    stores = stores_of_run(iter([carrying]), total, memory, ggn._curvature.parameters).values()
    done = sorted(
        (sorted(filter(None, kept.parameters)), KEPT[type(kept)], tensors(kept)) for kept in stores
    )
    planned = sorted((sorted(x.parameters), x.kept, x.kept_bytes) for x in ggn.plan().layers)
    assert planned == done


def test_evaluations(ggn, monkeypatch):
    """Layers are contracted as planned, and no other order is predicted to be faster."""
    done = Counter()
    original = factor_store.evaluate

    def evaluate(evaluation, *args, **options):
        done[evaluation] += 1
        original(evaluation, *args, **options)

    monkeypatch.setattr(factor_store, "evaluate", evaluate)
    ggn.gram()
    small = ggn.shape[0] <= ggn.num_columns
    planned = {x.evaluation for x in ggn.plan().layers if x.kept == "factors" and not small}
    assert set(done) == planned
    for layer in ggn._curvature.sizes[0].layers:
        shape = layer.shape(ggn._curvature.sizes[0].columns, {layer.weight, layer.bias} - {None})
        by_pairs = Evaluation.HADAMARD if shape.positions == 1 else Evaluation.PAIRWISE
        times = {e: evaluation_cost(e, shape).time(8) for e in (by_pairs, Evaluation.DIRECT)}
        for row in ggn.plan().layers:
            if row.kept == "factors" and not small and layer.weight in row.parameters:
                assert times[row.evaluation] == min(times.values())


@pytest.mark.parametrize("groups", ["layer", "parameter", {"all": ["*"]}])
def test_groups_share_what_is_kept(groups):
    model, data = conv2d(), (torch.randn(4, 2, 6, 7), torch.randint(3, (4,)))
    whole = vivit.GGN(model, CE, data).plan()
    plan = next(iter(vivit.block_diagonal(model, CE, data, groups).values())).plan()
    assert plan.kept_bytes == whole.kept_bytes
    assert plan.num_columns == whole.num_columns == 8
    names = Counter(name for layer in plan.layers for name in layer.parameters)
    assert names == Counter(name for name, _ in model.named_parameters())


def test_subset_and_batches_count():
    """Only samples that carry curvature do, in whatever batch they are."""
    model = mlp()
    one = vivit.GGN(model, CE, BATCH, subset=[0, 3]).plan()
    two = vivit.GGN(model, CE, [BATCH, BATCH], subset=[0, 3]).plan()
    assert one == two
    assert one.num_columns == 4
    whole = vivit.GGN(model, CE, [BATCH, BATCH]).plan()
    assert whole.num_columns == 16
    assert whole.kept_bytes == 4 * one.kept_bytes


def test_table():
    plan = vivit.GGN(mlp(), CE, BATCH).plan()
    lines = str(plan).splitlines()
    assert lines[0].split() == ["parameters", "keeps", "evaluation", "GFLOP", "kept", "working"]
    assert re.match(r"0.weight, 0.bias +factors +hadamard +0.00 +192 B +", lines[2])
    assert lines[-2] == "M x M, inner products of columns, for M = 8 < D = 79"
    assert lines[-1].startswith(
        "8 columns, 0.0 GFLOP; matrices 256 B, S at once 96 B, eigensolver 256 B; peak "
    )


def test_peak_is_that_of_the_largest_phase():
    plan = vivit.GGN(mlp(), CE, BATCH).plan()
    sizes = 4 * torch.tensor([6, 4, 3]) * 4  # outputs of the layers, float32
    kept, working = int(2 * sizes.sum()), max(x.working_bytes for x in plan.layers)
    assert plan.kept_bytes == kept
    sent = plan.sent_bytes + plan.columns_per_pass * 3 * int(sizes.max())
    assert plan.peak_bytes == kept + max(sent, 256 + working)


@pytest.mark.parametrize(
    "size", [(0, "0 B"), (2048, "2 KiB"), (3 * 2**20, "3 MiB"), (1.5 * 2**30, "1.5 GiB")]
)
def test_human_bytes(size):
    assert human_bytes(size[0]) == size[1]


QUANTITIES = {
    "gram": lambda ggn: ggn.gram(),
    "eigvalsh": lambda ggn: ggn.eigvalsh(),
    "eigh": lambda ggn: ggn.eigh(k=1, method=vivit.FullGram()),
    "newton_step": lambda ggn: ggn.newton_step(),
}


@pytest.mark.parametrize("quantity", QUANTITIES.values(), ids=QUANTITIES.keys())
def test_too_little_memory(monkeypatch, quantity):
    """Refused with sizes and with what would fit, and possible once there is more."""
    ggn = vivit.GGN(mlp(), CE, BATCH)
    monkeypatch.setattr(memory, "available_bytes", lambda _: 600)
    message = (
        r"Gram matrix of 8 columns needs \d+ .*kept of the layers 416 B\), but 600 B are "
        r"available. What would fit: .*\d samples, or subset=range\(\d\) \(\d+ B\)"
    )
    with pytest.raises(vivit.InsufficientMemoryError, match=message) as caught:
        quantity(ggn)
    assert isinstance(caught.value, MemoryError)
    assert isinstance(caught.value, vivit.VivitError)
    monkeypatch.setattr(memory, "available_bytes", lambda _: 10**6)
    quantity(ggn)


def test_what_would_fit_is_what_fits(monkeypatch):
    model = mlp()
    available = vivit.GGN(model, CE, BATCH, approximation=vivit.MonteCarlo(1)).plan().peak_bytes
    monkeypatch.setattr(memory, "available_bytes", lambda _: available)
    with pytest.raises(vivit.InsufficientMemoryError, match=r"MonteCarlo\(samples=1\)"):
        vivit.GGN(model, CE, BATCH).gram()
    vivit.GGN(model, CE, BATCH, approximation=vivit.MonteCarlo(1)).gram()


@pytest.mark.parametrize("quantity", QUANTITIES.values(), ids=QUANTITIES.keys())
def test_products_fit_where_matrices_do_not(monkeypatch, quantity):
    model, data = mlp(), (torch.randn(60, 5), torch.randint(3, (60,)))
    monkeypatch.setattr(memory, "available_bytes", lambda _: 10_000)
    ggn = vivit.GGN(model, CE, data)
    offered = (
        r"products, ggn @ v or scipy's solvers on ggn.to_scipy\(\) \(\d+ KiB\)|products with it"
    )
    with pytest.raises(vivit.InsufficientMemoryError, match=offered):
        quantity(ggn)
    assert (ggn @ torch.ones(ggn.shape[0])).isfinite().all()


def test_nothing_fits(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda _: 1)
    with pytest.raises(vivit.InsufficientMemoryError, match="No variant of it would fit"):
        vivit.GGN(mlp(), CE, BATCH).eigvalsh()


def test_unknown_memory_is_no_reason_to_refuse(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda _: None)
    assert vivit.GGN(mlp(), CE, BATCH).gram().shape == (8, 8)


def test_available_bytes_of_the_system():
    available = memory.available_bytes(torch.device("cpu"))
    assert 0 < available <= system._field(Path("/proc/meminfo"), "MemTotal")
    assert memory.available_bytes(torch.device("meta")) is None


@pytest.mark.parametrize(
    ("kind", "field"), [(resource.RLIMIT_DATA, "VmData"), (resource.RLIMIT_AS, "VmSize")]
)
def test_available_bytes_within_limits(monkeypatch, kind, field):
    """What the limits of the process leave, and nothing once it is beyond them."""
    used = system._field(Path("/proc/self/status"), field)
    for limit, expected in ((used + 10 * 2**20, 10 * 2**20), (2**20, 0)):
        bounds = {kind: limit}
        monkeypatch.setattr(
            system.resource,
            "getrlimit",
            lambda k, bounds=bounds: (bounds.get(k, resource.RLIM_INFINITY),) * 2,
        )
        assert abs(memory.available_bytes(torch.device("cpu")) - expected) <= 2**20


def test_available_bytes_within_a_control_group(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text("3000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    monkeypatch.setattr(system, "CONTROL_GROUP", tmp_path)
    assert memory.available_bytes(torch.device("cpu")) == 2000
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 300\nactive_file 100\n")
    assert memory.available_bytes(torch.device("cpu")) == 2400
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes(torch.device("cpu")) > 2000


@pytest.mark.parametrize("name", ["workspace", "memory"])
@pytest.mark.parametrize("size", [0, -1, 1.5, "1 GiB"])
def test_numbers_of_bytes(name, size):
    with pytest.raises(vivit.InputError, match=f"{name} must be a number of bytes, at least 1"):
        vivit.GGN(mlp(), CE, BATCH, **{name: size})


def by_sweeps(ggn, sweeps):
    """The matrix, in any sweeps."""
    curvature, of_blocks = ggn._curvature, ggn._matrices
    matrices = group_matrices(
        curvature.carrying,
        of_blocks._runs,
        curvature.parameters,
        of_blocks.groups,
        2**20,
        replace(of_blocks.costs.plan(), sweeps=tuple(sweeps)),
    )
    return matrices[""].gram_matrix()


def smallest_memory(plan):
    """With which each layer has a sweep of its own."""
    kept = max(x.kept_bytes for x in plan.layers)
    backward = plan.column_bytes + 3 * max(x.output_bytes for x in plan.layers)
    working = max(x.working_bytes for x in plan.layers)
    return plan.matrix_bytes + max(kept + max(backward, working), plan.solver_bytes)


def test_several_sweeps_give_the_same(ggn):
    """With little memory, the layers take turns; all that they serve is served once."""
    model, loss_func = ggn._curvature._model, ggn._curvature.kind.loss_func
    batch = ggn._curvature.batches[0]
    plan = ggn.plan()
    memory = smallest_memory(plan)
    lean = replace(plan, columns_at_once=1, columns_per_pass=1)
    if memory >= lean.peak_bytes or len(plan.layers) == 1:
        pytest.skip("one sweep does it")
    some = vivit.GGN(model, loss_func, (batch.x, batch.y), memory=memory)
    sweeps = some.plan().sweeps
    assert len(sweeps) > 1
    assert sum(map(len, sweeps)) == len(frozenset().union(*sweeps))
    assert some.plan().peak_bytes <= memory
    assert f"\n{len(sweeps)} sweeps; " in str(some.plan())
    assert torch.allclose(some.gram(), ggn.gram(), rtol=1e-12, atol=1e-12)
    assert again(ggn).plan() == plan, "what is remembered of it is for all the memory it takes"


def again(ggn):
    """The same, planned anew."""
    batch = ggn._curvature.batches[0]
    return vivit.GGN(ggn._curvature._model, ggn._curvature.kind.loss_func, (batch.x, batch.y))


def test_two_sweeps_where_they_save_much(ggn, monkeypatch):
    """Of any size, and whatever they cost."""
    one = ggn.plan()
    monkeypatch.setattr(division, "LEAN", 0)
    monkeypatch.setattr(division, "SLOWER", 100.0)
    lean = again(ggn)
    plan = lean.plan()
    if len(plan.sweeps) == 2:
        assert plan.peak_bytes <= division.SAVED * one.peak_bytes
        assert 1 <= plan.passes <= 2
        assert sorted(map(sorted, plan.sweeps)) != sorted(map(sorted, one.sweeps))
    else:
        assert replace(plan, done=None) == replace(one, done=None)
    assert torch.allclose(lean.gram(), ggn.gram(), rtol=1e-12, atol=1e-12)


def two_that_keep_much():
    """Passes to the second one end before what takes long."""
    convolutions = [nn.Conv2d(i, 32, 3, padding=1) for i in (3, 32, 32)]
    layers = [layer for x in convolutions for layer in (x, nn.ReLU())]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 64, 30))


@pytest.mark.parametrize(
    ("changes", "sweeps"),
    [
        ({}, 1),  # small
        ({"LEAN": 0}, 2),
        ({"LEAN": 0, "SLOWER": 1.0}, 1),
        ({"LEAN": 0, "SAVED": 0.1}, 1),
    ],
)
def test_two_sweeps_need_a_reason(changes, sweeps, monkeypatch):
    """A large peak, little time, and much to save."""
    model, data = two_that_keep_much(), (torch.randn(8, 3, 8, 8), torch.arange(8))
    exact = vivit.GGN(model, CE, data).gram()
    for name, value in changes.items():
        monkeypatch.setattr(division, name, value)
    ggn = vivit.GGN(model, CE, data, workspace=2**17)
    plan = ggn.plan()
    assert len(plan.sweeps) == sweeps
    if sweeps == 2:
        late, early = plan.sweeps
        assert late == {"4.weight", "4.bias", "7.weight", "7.bias"}
        assert early == {"0.weight", "0.bias", "2.weight", "2.bias"}
        assert 1 < plan.passes < 1.1
    assert torch.allclose(ggn.gram(), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", ["layer", "parameter"])
def test_several_sweeps_of_blocks(groups):
    """Small blocks, too, and batches whose graphs are made anew for each sweep."""
    model = conv2d().double()
    data = [(torch.randn(2, 2, 6, 7).double(), torch.randint(3, (2,))) for _ in range(3)]
    whole = vivit.block_diagonal(model, CE, data, groups)
    plan = next(iter(whole.values())).plan()
    parts = vivit.block_diagonal(model, CE, data, groups, memory=smallest_memory(plan))
    assert len(next(iter(parts.values())).plan().sweeps) > 1
    for name, block in whole.items():
        assert torch.allclose(parts[name].gram(), block.gram(), rtol=1e-12, atol=1e-12)


def test_a_sweep_leaves_nothing_behind(monkeypatch):
    model = mlp()
    ggn = vivit.GGN(model, CE, BATCH)
    alive, original = [], matrices.stores_of_run

    def stores(*args):
        gc.collect()
        assert not any(reference() for reference in alive)
        made = original(*args)
        alive.extend(map(weakref.ref, made.values()))
        return made

    monkeypatch.setattr(matrices, "stores_of_run", stores)
    sweeps = [["4.weight", "4.bias"], ["2.weight", "2.bias"], ["0.weight", "0.bias"]]
    matrix = by_sweeps(ggn, sweeps)
    assert len(alive) == 3
    assert torch.allclose(matrix, vivit.GGN(model, CE, BATCH).gram())


class Either(nn.Module):
    """Uses other parameters for other widths."""

    def __init__(self):
        super().__init__()
        self.narrow, self.wide = nn.Linear(3, 4), nn.Linear(5, 4)

    def forward(self, x):
        return (self.narrow if x.shape[1] == 3 else self.wide)(x)


@pytest.mark.parametrize("memory", [None, 10**4])
def test_batches_that_use_different_parameters(memory):
    """Those that the first batch does not use count as well, and are planned for."""
    model = Either().double()
    y = torch.tensor([0, 1, 2])
    data = [(torch.randn(3, 3).double(), y), (torch.randn(3, 5).double(), y)]
    ggn = vivit.GGN(model, CE, data, memory=memory)
    v = torch.randn(ggn.num_columns).double()
    assert torch.allclose(ggn.gram() @ v, ggn.gram_operator() @ v)
    names = {name for layer in ggn.plan().layers for name in layer.parameters}
    assert names == set(ggn.parameter_names)
    assert {layer.kept for layer in ggn.plan().layers} == {"dense"}


def test_a_gram_matrix_of_few_parameters_may_not_fit():
    """Though their D x D matrix does."""
    data = torch.randn(50, 5), torch.randint(3, (50,))
    ggn = vivit.GGN(mlp(), CE, data, params=["4.bias"], memory=30_000)
    message = r"Gram matrix of 100 columns has 39 KiB, but 29 KiB are available. Use fewer samples"
    with pytest.raises(vivit.InsufficientMemoryError, match=message):
        ggn.gram()
    assert len(ggn.eigvalsh()) == 3


def test_late_layers_need_short_backward_passes():
    """A sweep for the last layer does not come by those before."""
    ggn = vivit.GGN(mlp(), CE, BATCH)
    batch = next(ggn._curvature.each())
    linearization, visited = batch.linearization, []
    middle = linearization.layout.edges[1][0].node
    hook = middle.register_prehook(lambda grads: visited.append(len(grads)))
    received = []

    def receive(i, some, _):
        received.append((i, some.start, some.stop))

    for wanted in ([2], [0]):
        linearization.send_back(batch.factor, wanted, receive, at_a_time=1, made_at_once=1)
        assert bool(visited) == (wanted == [0])
    hook.remove()
    assert received == [(2, 0, 1), (2, 1, 2), (0, 0, 1), (0, 1, 2)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_any_sweeps_give_the_same(case):
    """Also where parameters share a tensor that is made of them, or need the generic rule."""
    model, loss_func, x, y = case.make()
    ggn = vivit.GGN(model, loss_func, (x, y))
    sweeps = [[name] for name in reversed(ggn.parameter_names)]
    matrix = by_sweeps(ggn, sweeps)
    expected = ggn.gram()
    difference = (matrix - expected).abs().max()
    assert difference <= 1e-12 * expected.abs().max()


class MeanOfPositions(nn.Module):
    """A linear layer on sequences of any length."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.outer(self.inner(x).tanh().mean(1))


def test_like_batches_are_one_run(monkeypatch):
    """Their layers are contracted once; those of other lengths are runs of their own."""
    lengths, sizes = [2, 2, 3, 3, 3, 2], [2, 3, 1, 2, 2, 4]
    data = [
        (torch.randn(n, t, 5).double(), torch.arange(n) % 3)
        for n, t in zip(sizes, lengths, strict=True)
    ]
    model, calls, original = MeanOfPositions().double(), Counter(), factor_store.evaluate

    def evaluate(evaluation, *args, **options):
        calls[evaluation] += 1
        original(evaluation, *args, **options)

    monkeypatch.setattr(factor_store, "evaluate", evaluate)
    ggn = vivit.GGN(model, CE, data)
    assert [n for n, _ in ggn._matrices._runs] == [5, 5, 4]
    v = torch.randn(ggn.num_columns).double()
    assert torch.allclose(ggn.gram() @ v, ggn.gram_operator() @ v)
    assert sum(calls.values()) == 6 * 2  # pairs of runs, layers
    calls.clear()
    like = [(x[:, :2], y) for x, y in data]
    block = vivit.GGN(model, CE, like)
    assert [n for n, _ in block._matrices._runs] == [14]
    gram = block.gram()
    assert sum(calls.values()) <= 2
    whole = torch.cat([x for x, _ in like]), torch.cat([y for _, y in like])
    assert torch.allclose(gram, vivit.GGN(model, CE, whole).gram())
    subset = vivit.GGN(model, CE, data, subset=[0, 9, 13])
    assert [n for n, _ in subset._matrices._runs] == [1, 1, 1]
