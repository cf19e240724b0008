"""The deterministic count of bytes."""

import pytest
import torch
from torch import nn

from benchmarks.comparison import Comparison
from benchmarks.problems import PROBLEMS
from benchmarks.process import RETURNING, open_worker
from benchmarks.tasks import Computed, Task
from benchmarks.tracker import AllocationTracker, SimulatedOutOfMemoryError, tracked_peak

KIB = 1024


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


SIZES = {
    "digits_mlp": 384,
    "digits_cnn": 384,
    "cifar10_3c3d": 48,
    "fmnist_2c2d": 128,
    "cifar10_resnet32": 8,
    "cifar10_resnet56": 4,
    "cifar100_allcnnc": 1,
    "cifar100_vgg16": 1,
    "cifar10_wrn16_4": 4,
    "tiny_transformer": 32,
    "mlp_linear": 512,
    **{name: 64 for name in PROBLEMS if name.startswith("cnn_")},
    "cnn_c10_w8": 256,
    "cnn_c5_w16": 128,
}


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


@pytest.mark.parametrize("name", PROBLEMS)
def test_agrees_with_resident_memory(name):
    """What it misses, and buffers of libraries, are less than a tenth of the peak."""
    task = Task(Computed.GRAM)
    comparison = Comparison("engine", name, ("gram",), SIZES[name], task, 1, threads=2)
    with open_worker(comparison, "gram", None, None, RETURNING) as worker:
        assert worker.start(60)["status"] == "ok"
        (resident,) = worker.ask("memory", 120)["samples"]
        tensors = worker.ask("footprint", 120)["details"]["tensors"]
    assert tensors == pytest.approx(resident, rel=0.1)
