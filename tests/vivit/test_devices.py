"""What is done differently on a GPU, on whatever devices there are.

Without a GPU, a CPU passes for one: all but the kernels is the same.
"""

from copy import deepcopy

import pytest
import torch
from cases import CASES, Permuted
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import vivit
from vivit import devices
from vivit.backprop import forward
from vivit.backprop.forward import checked_indices

CUDA = torch.cuda.is_available()
FUSED = {"weight norm": 1e-6}
"""Cases whose kernels on a GPU are less precise than float64."""


@pytest.fixture(params=["cpu", *(["cuda"] if CUDA else [])])
def gpu(request, monkeypatch):
    """A device that counts as a GPU."""
    monkeypatch.setitem(devices.KINDS, request.param, devices.GPU)
    return torch.device(request.param)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_results_are_those_of_a_cpu(case, gpu, monkeypatch):
    model, loss_func, x, y = case.make()
    on_gpu = deepcopy(model).to(gpu), deepcopy(loss_func).to(gpu), (x.to(gpu), y.to(gpu))
    found = vivit.GGN(*on_gpu)
    gram, values = found.gram(), found.eigh(k=1).values
    assert gram.device.type == values.device.type == gpu.type
    few = (
        vivit.GGN(*on_gpu).eigh(k=1, method=vivit.Lanczos(1e-6)) if found.num_columns > 1 else None
    )
    monkeypatch.setitem(devices.KINDS, "cpu", devices.CPU)
    expected = vivit.GGN(model, loss_func, (x, y))
    tolerance = FUSED.get(case.name, 1e-10) if gpu.type == "cuda" else 1e-12
    scale = float(expected.gram().abs().max())
    assert torch.allclose(gram.cpu(), expected.gram(), rtol=0, atol=tolerance * scale)
    largest = expected.eigh(k=1).values
    assert torch.allclose(values.cpu(), largest, rtol=100 * tolerance, atol=0)
    if few is not None:
        assert torch.allclose(few.values.cpu(), largest, rtol=1e-5, atol=0)


INDEXED = {
    "index": lambda x, i: x[i],
    "second axis": lambda x, i: x[:, i],
    "list": lambda x, i: x[i.tolist()],
    "assignment": lambda x, i: x.index_put((i,), x[0]),
    "index_select": lambda x, i: x.index_select(0, i),
    "index_add": lambda x, i: x.index_add(0, i, x[:2]),
    "gather": lambda x, i: x.gather(1, i[None]),
    "scatter": lambda x, i: x.scatter(1, i[None], x),
    "embedding": lambda x, i: nn.functional.embedding(i, x),
    "take": lambda x, i: x.take(i + 9),
}


class Touches(TorchDispatchMode):
    """Notes whether the memory of a tensor is given to an operation that takes indices."""

    def __init__(self, x):
        super().__init__()
        self.pointer, self.touched = x.data_ptr(), False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        if any(x.dtype is torch.int64 for x in tensors):
            self.touched |= any(x.data_ptr() == self.pointer for x in tensors)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("operation", INDEXED.values(), ids=INDEXED.keys())
def test_an_index_out_of_range_does_not_reach_a_gpu(operation, gpu):
    x = torch.randn(3, 4, requires_grad=True, device=gpu)
    inside, outside = torch.tensor([0, 2], device=gpu), torch.tensor([0, 7], device=gpu)
    expected = operation(x, inside)
    with Touches(x) as real, checked_indices(gpu):
        with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds)"):
            operation(x, outside)
        assert not real.touched
        assert torch.equal(operation(x, inside), expected)  # the device is still of use
    assert real.touched


def test_trials_change_nothing(gpu):
    """Numbers on the CPU, and masks, are left as they are."""
    i, mask = torch.arange(3), torch.tensor([True, False, True], device=gpu)
    with checked_indices(gpu):
        i += 1
        mask.logical_not_()
        picked = torch.arange(4.0, device=gpu)[1:][mask]
    assert i.tolist() == [1, 2, 3]
    assert picked.tolist() == [2.0]


def test_what_has_no_kernel_on_a_cpu_is_not_tried(gpu, monkeypatch):
    i = torch.arange(3, device=gpu)
    tried = []

    def refuse(x):
        tried.append(x)
        raise NotImplementedError

    monkeypatch.setattr(forward, "_on_cpu", refuse)
    with checked_indices(gpu):
        assert (i + 1).tolist() == [1, 2, 3]
    assert tried


class Rows(nn.Module):
    """Takes rows of a table that it has for five samples only."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Parameter(torch.randn(5, 3)), nn.Linear(3, 3)

    def forward(self, x):
        index = torch.arange(5 - len(x), 10 - len(x), device=x.device)
        return self.head(x + self.table[index])


def test_trials_on_few_samples_are_checked(gpu):
    model = Rows().to(gpu)
    data = torch.randn(5, 3, device=gpu), torch.arange(5, device=gpu) % 3
    some = vivit.GGN(model, nn.CrossEntropyLoss(), data)._curvature._kept.linearization
    with Touches(model.table) as real:
        assert some.of_samples(torch.arange(2, device=gpu)) is None
    assert not real.touched


def test_a_model_for_one_batch_size(gpu):
    """It cannot run on fewer samples, which is no reason to fail."""
    model = Permuted().double().to(gpu)
    data = torch.randn(5, 3, device=gpu).double(), torch.arange(5, device=gpu) % 3
    block = vivit.GGN(model, nn.CrossEntropyLoss(), data)
    few = torch.arange(2, device=gpu)
    assert block._curvature._kept.linearization.of_samples(few) is None
    pairs = block.eigh(k=1, method=vivit.Lanczos())
    assert torch.allclose(pairs.values, block.eigvalsh()[-1:])


def test_workspace_suits_the_device(gpu):
    model, data = (
        nn.Linear(4, 3).to(gpu),
        (torch.randn(5, 4, device=gpu), torch.zeros(5, 3).to(gpu)),
    )
    assert vivit.GGN(model, nn.MSELoss(), data)._workspace == devices.GPU.workspace
    chosen = vivit.GGN(model, nn.MSELoss(), data, workspace=2**20)
    assert chosen._workspace == 2**20


def test_little_memory_makes_do_with_less(gpu):
    """A smaller workspace, and fewer columns per pass, before anything is refused."""
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 900, 10))
    data = torch.randn(32, 3, 32, 32, device=gpu), torch.arange(32, device=gpu) % 10
    plans = [
        vivit.GGN(model.to(gpu), nn.CrossEntropyLoss(), data, memory=memory)
        for memory in (2**32, 2**30 // 8)
    ]
    ample, scarce = (ggn.plan() for ggn in plans)
    assert [ggn._workspace for ggn in plans] == [2**27, 2**25]
    assert ample.columns_per_pass > scarce.columns_per_pass
    assert len(scarce.sweeps) == 1
    assert scarce.peak_bytes <= 2**30 // 8 < ample.peak_bytes


def test_other_accelerators_count_as_gpus():
    assert devices.traits(torch.device("xpu")) == devices.GPU
    assert devices.traits(torch.device("cpu")) == devices.CPU
