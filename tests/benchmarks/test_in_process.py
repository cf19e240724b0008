"""What asv and pytest-benchmark measure within their own processes."""

import pytest
import torch

from benchmarks import in_process
from benchmarks.grid import GRIDS, Point
from benchmarks.in_process import InProcess, ratio_of_times, simulated_critical_batch_size
from benchmarks.tasks import Task

MIB = 2**20
POINT = GRIDS["eigenvalues"].point(("digits_mlp", 16, "exact", "network"))


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def checked() -> InProcess:
    ours = InProcess(POINT)
    ours.check(ours.reference())
    return ours


def test_a_result_is_checked_before_it_is_timed():
    ours = InProcess(POINT)
    with pytest.raises(RuntimeError, match="The accuracy is checked before the time is measured"):
        _ = ours.run
    reference = ours.reference()
    assert 0 <= ours.check(reference) < 1e-4
    assert ours.details["num_columns"] == ours.num_columns == 16 * 9
    assert ours.details["num_parameters"] == 6570
    assert ours.seconds() > 0
    assert ours.number >= 1


def test_a_wrong_result_is_not_timed():
    ours = InProcess(POINT)
    reference = ours.reference()
    reference["samples"] = [2 * value for value in reference["samples"]]
    with pytest.raises(ArithmeticError, match="its time does not count"):
        ours.check(reference)
    with pytest.raises(RuntimeError, match="The accuracy is checked"):
        ours.seconds()


def test_a_point_needs_a_batch_size():
    with pytest.raises(
        ValueError, match=r"Expected a point with a batch size, got digits_mlp N=\?"
    ):
        InProcess(Point("digits_mlp", None, Task()))


def test_backward_passes_are_counted(checked):
    """One per column: the loss Hessian of ten classes has nine. Checks of the graph add some."""
    few = InProcess(GRIDS["eigenvalues"].point(("digits_mlp", 16, "monte_carlo", "network")))
    few.check(few.reference())
    assert checked.backward_passes() == few.backward_passes() + 8
    gradient = InProcess(POINT, "gradient")
    gradient.check(gradient.reference())
    assert gradient.backward_passes() == 1


def test_bytes_of_tensors_are_the_same_every_time(checked):
    columns = 16 * 9
    peak = checked.peak_of_tensors()
    assert peak == checked.peak_of_tensors()
    assert peak > columns**2 * 4  # the Gram matrix


def test_ratios_of_times(checked):
    class Stub:
        def __init__(self, *samples):
            self.samples = [*samples]

        def seconds(self):
            return self.samples.pop(0)

    assert ratio_of_times(Stub(1, 1, 9), Stub(3, 50, 3), repeats=3) == 3
    gradient = InProcess(POINT, "gradient")
    gradient.check(gradient.reference())
    assert ratio_of_times(checked, gradient, repeats=2) > 0


def test_the_critical_batch_size_of_a_simulated_budget():
    found = simulated_critical_batch_size(POINT, MIB)
    assert found == simulated_critical_batch_size(POINT, MIB)
    assert 8 < found < simulated_critical_batch_size(POINT, 2 * MIB) < in_process.LARGEST


def test_another_failure_is_no_verdict_on_memory():
    with pytest.raises(Exception, match="naive_gram is measured for"):
        simulated_critical_batch_size(
            GRIDS["newton"].point(("digits_mlp", 16)), 4 * MIB, "naive_gram"
        )
