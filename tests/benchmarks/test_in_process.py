"""What asv and pytest-benchmark measure within their own processes."""

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch

from benchmarks.commits import in_process
from benchmarks.commits.in_process import (
    backward_passes,
    check,
    num_columns,
    ratio_of_times,
    simulated_critical_batch_size,
    worker_at,
)
from benchmarks.grid.points import GRIDS, Point
from benchmarks.methods import METHODS
from benchmarks.problems import PROBLEMS
from benchmarks.records.tasks import Grouping, Task
from benchmarks.run.reference import residual_of_pairs
from benchmarks.run.worker import Worker
from vivit import devices

MIB = 2**20
POINT = GRIDS["eigenvalues"].point(("digits_mlp", 16, "exact", "network"))


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def checked(point=POINT, method="gram") -> Worker:
    worker = worker_at(point, method)
    check(worker, worker.reference())
    return worker


@pytest.fixture
def ours() -> Worker:
    return checked()


def test_a_result_is_checked_before_it_is_timed():
    ours = worker_at(POINT)
    with pytest.raises(RuntimeError, match="The accuracy is checked before the time is measured"):
        _ = ours.run
    answer = check(ours, ours.reference())
    (error,), details = answer["samples"], answer["details"]
    assert 0 <= error < 1e-4
    assert details["num_columns"] == num_columns(POINT) == 16 * 9
    assert details["num_parameters"] == 6570
    assert ours.time()["samples"][0] > 0
    assert ours.number >= 1
    assert ours.first > 0


@pytest.mark.parametrize(("first", "runs"), [(0.004, 5), (0.5, 5), (2.0, 1)])
def test_a_first_run_may_be_slow(first, runs):
    """It imports, too: how many runs make a sample is known from the next, if that is soon had."""
    ours = worker_at(POINT)
    reference = ours.reference()
    with (
        patch("benchmarks.run.worker.perf_counter", side_effect=[0.0, first]),
        patch("benchmarks.run.worker.seconds_per_run", return_value=0.004),
    ):
        check(ours, reference)
    assert (ours.first, ours.number) == (first, runs)


def test_a_wrong_result_is_not_timed():
    ours = worker_at(POINT)
    reference = ours.reference()
    reference["samples"] = [2 * value for value in reference["samples"]]
    with pytest.raises(ArithmeticError, match="its time does not count"):
        check(ours, reference)
    with pytest.raises(RuntimeError, match="The accuracy is checked"):
        ours.time()


@pytest.mark.parametrize("method", ["gram", "drop_in"])
@pytest.mark.parametrize("k", [1, 10])
def test_residuals_do_not_cancel_for_confident_predictions(k, method):
    """In single precision, curvlinops' products alone are 1.2e-3 off."""
    worker = worker_at(GRIDS["leading"].point(("digits_cnn", 16, k, "first_eighth")), method)
    assert check(worker, worker.reference())["details"]["residual"] < 1e-5


def test_residuals_do_not_depend_on_near_ties():
    """Of a max pooling, which double precision decides otherwise: 2.7e-4 there."""
    task = Task.leading(1, grouping=Grouping.LAYER)
    problem = PROBLEMS["cifar10_3c3d"].make(128, "cpu", torch.float32, 0)
    outcome = METHODS["gram"].prepare(problem, task)()
    assert residual_of_pairs(outcome, problem, task) < 1e-5


@pytest.mark.parametrize("of_point", [worker_at, num_columns])
def test_a_point_needs_a_batch_size(of_point):
    with pytest.raises(
        ValueError, match=r"Expected a point with a batch size, got digits_mlp N=\?"
    ):
        of_point(Point("digits_mlp", None, Task()))


def test_backward_passes_are_counted(ours):
    """One for all columns of a small network; one for each of a large one's nine."""
    assert backward_passes(ours.run) == 1
    large = checked(GRIDS["eigenvalues"].point(("digits_mlp", 16, "exact", "network")))
    with patch.dict(devices.KINDS, {"cpu": replace(devices.CPU, busy=0.0)}):
        assert backward_passes(large.run) == 9
    assert backward_passes(checked(method="gradient").run) == 1


def test_bytes_of_tensors_are_the_same_every_time(ours):
    columns = 16 * 9
    (peak,) = ours.tensors()["samples"]
    assert [peak] == ours.tensors()["samples"]
    assert peak > columns**2 * 4  # the Gram matrix


def test_ratios_of_times(ours):
    class Stub:
        def __init__(self, *samples):
            self.samples = [*samples]

        def time(self):
            return {"samples": [self.samples.pop(0)]}

    assert ratio_of_times(Stub(1, 1, 9), Stub(3, 50, 3), repeats=3) == 3
    assert ratio_of_times(ours, checked(method="gradient"), repeats=2) > 0


def test_the_critical_batch_size_of_a_simulated_budget():
    found = simulated_critical_batch_size(POINT, MIB)
    assert found == simulated_critical_batch_size(POINT, MIB)
    assert 8 < found < simulated_critical_batch_size(POINT, 2 * MIB) < in_process.LARGEST


def test_another_failure_is_no_verdict_on_memory():
    with pytest.raises(Exception, match="naive_gram is measured for"):
        simulated_critical_batch_size(
            GRIDS["newton"].point(("digits_mlp", 16)), 4 * MIB, "naive_gram"
        )
