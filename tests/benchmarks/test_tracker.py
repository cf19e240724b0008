"""The deterministic count of bytes."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.grid.comparison import Comparison
from benchmarks.measure.tracker import AllocationTracker, SimulatedOutOfMemoryError, tracked_peak
from benchmarks.problems import PROBLEMS
from benchmarks.records.tasks import Computed, Task
from benchmarks.run.process import RETURNING, open_worker
from benchmarks.run.worker import Worker

KIB = 1024

OPERATION = "operation"


def zeros(kib):
    return torch.zeros(kib * KIB // 4)


def test_the_peak_is_what_lives_at_once():
    def run():
        a = zeros(8)
        b = a + 1  # 16
        del a
        c = b.view(2, -1)  # no memory of its own
        d = c * 2  # 16
        del b, c, d
        zeros(12)

    assert tracked_peak(run, []) == 16 * KIB
    assert tracked_peak(run, []) == 16 * KIB


def test_what_was_there_does_not_count():
    model, x = nn.Linear(64, 64), zeros(4).view(16, 64)
    alone = tracked_peak(lambda: model(x).relu_(), [*model.parameters(), x])
    assert alone == 16 * 64 * 4
    counted = AllocationTracker()
    counted.count([x])
    assert counted.peak == 4 * KIB


def test_what_is_given_was_there():
    """Also if nobody said so before."""
    x = zeros(64)
    assert tracked_peak(lambda: x.view(2, -1) + 1, []) == 64 * KIB


def test_backward_passes_count():
    x = zeros(8).requires_grad_()
    peak = tracked_peak(lambda: x.square().sum().backward(), [x])
    assert peak >= 16 * KIB  # the square, and the gradient


def test_a_budget_ends_in_the_error_of_a_real_one():
    run = lambda: zeros(8) + zeros(8)  # noqa: E731
    with AllocationTracker(budget=24 * KIB):
        run()
    with AllocationTracker(budget=24 * KIB - 1):
        with pytest.raises(
            SimulatedOutOfMemoryError, match="exceed the simulated budget of 24575"
        ):
            run()


RESIDENT = {"cnn_c5_w16": 128, "cnn_c10_w16": 64, "mlp_linear": 512, "cifar10_3c3d": 48}
PROFILED = {**RESIDENT, "cifar10_3c3d": 16, "fmnist_2c2d": 32, "tiny_transformer": 32}
"""Batch sizes at which tensors hold some MB at least."""


def test_the_drop_in_path_counts_no_weights():
    """BackPACK's model is a copy, whose weights were there before; gradients are computed."""
    comparison = Comparison("drop_in", "mlp_linear", ("gram",), 4, Task(), 1)
    found = []
    for method in ("gram", "drop_in"):
        with open_worker(comparison, method, None, None) as worker:
            worker.start(60)
            found.append(worker.ask("footprint", 60)["details"]["tensors"])
    gradients = 4 * PROBLEMS["mlp_linear"].num_parameters
    assert gradients < found[1] < 1.2 * (gradients + found[0])


class Marked(TorchDispatchMode):
    """Marks in a profile where each operation that the count sees begins and ends."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        with record_function(OPERATION):
            return function(*args, **(kwargs or {}))


def of_allocator(run):
    """Peak of what torch's allocator hands out, and the most that one operation holds inside.

    What an operation allocates and frees before it returns depends on the processor: convolutions
    choose their algorithm by its instructions.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled, Marked():
        run()
    begin, allocation, end = range(3)
    moments = []
    for event in profiled.profiler.kineto_results.events():
        if event.name() == OPERATION:
            moments += [(event.start_ns(), begin, 0), (event.end_ns(), end, 0)]
        elif event.name() == "[memory]":
            moments.append((event.start_ns(), allocation, event.nbytes()))
    held = peak = inside = 0
    running = []  # of the operations that have begun: held before, and the peak since
    for _, kind, size in sorted(moments):
        if kind == begin:
            running.append((held, held))
        elif kind == allocation:
            held += size
            peak = max(peak, held)
            running = [(before, max(most, held)) for before, most in running]
        else:
            before, most = running.pop()
            inside = max(inside, most - max(before, held))
    return peak, inside


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_allocator_sees_inside_of_operations(two_threads):
    """Else the comparison below would compare a count with itself."""

    def run():
        a = zeros(8)
        torch.cdist(a.view(64, -1), a.view(64, -1), compute_mode="use_mm_for_euclid_dist")

    peak, inside = of_allocator(run)
    assert inside > 0
    assert tracked_peak(run, []) <= peak <= tracked_peak(run, []) + inside


@pytest.mark.parametrize("name", PROFILED)
def test_agrees_with_the_allocator(name, two_threads):
    """It counts what torch allocates, but for what a single operation holds inside of it."""
    worker = Worker(name, "gram", PROFILED[name], Task(Computed.GRAM).parameters, "cpu", 2, 0)
    (counted,) = worker.tensors()["samples"]
    peak, inside = of_allocator(worker.prepare())
    unseen = 0.001 * counted + 16 * KIB  # numbers of Python's that become tensors, and the like
    assert counted - unseen <= peak <= counted + inside + unseen


@pytest.mark.parametrize("name", RESIDENT)
def test_what_is_counted_is_resident(name):
    """Beside it are the buffers of libraries, whose size is up to the processor."""
    task = Task(Computed.GRAM)
    comparison = Comparison("engine", name, ("gram",), RESIDENT[name], task, 1, threads=2)
    with open_worker(comparison, "gram", None, None, RETURNING) as worker:
        assert worker.start(60)["status"] == "ok"
        (resident,) = worker.ask("memory", 120)["samples"]
        tensors = worker.ask("footprint", 120)["details"]["tensors"]
    assert tensors <= 1.1 * resident  # pages that are never written to are not resident
