"""Counts of operations, the phases in which they are, and the command that shows them."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import cli
from benchmarks.methods import find_method
from benchmarks.problems import PROBLEMS
from benchmarks.profiling import phases, tables
from benchmarks.profiling.as_gpu import counted_as_gpu
from benchmarks.profiling.command import REPEATS
from benchmarks.profiling.operations import Count, by_operation, by_phase, counted, total
from benchmarks.profiling.roofline import Roofline
from benchmarks.records.record import Quantity, RecordStore
from benchmarks.records.tasks import Computed, Task

CPU = torch.device("cpu")
A, B = torch.randn(4, 5), torch.randn(5, 6)


def count(run):
    with counted(lambda: "all", CPU) as counts:
        run()
    return by_operation(counts)


def multiply_in_place(x):
    return x.addmm_(A, B)


RUNS = {
    "product": (lambda: A @ B, "mm", 1, 4 * (20 + 30 + 24), 2 * 4 * 5 * 6, 0),
    "in place": (
        lambda: multiply_in_place(torch.zeros(4, 6)),
        "addmm_",
        1,
        4 * (24 + 20 + 30 + 24),
        2 * 4 * 5 * 6,
        0,
    ),
    "convolution": (
        lambda: conv2d(torch.ones(2, 3, 5, 5), torch.ones(4, 3, 3, 3)),
        "convolution",
        1,
        4 * (2 * 3 * 25 + 4 * 27 + 2 * 4 * 9),
        2 * 2 * 4 * 9 * 27,
        0,
    ),
    "entries": (lambda: A + A, "add", 1, 4 * 3 * 20, 0, 0),
    "expanded": (lambda: A[:, :1].expand(4, 9).add(1), "add", 1, 4 * (4 + 36), 0, 0),
    "into a given one": (
        lambda: torch.mm(A, B, out=torch.empty(4, 6)),
        "mm",
        1,
        4 * (20 + 30 + 24),
        2 * 4 * 5 * 6,
        0,
    ),
    "a copy": (lambda: torch.empty(4, 5).copy_(A), "copy_", 1, 4 * 40, 0, 0),
    "zeros": (lambda: torch.empty(4, 5).zero_(), "zero_", 1, 4 * 20, 0, 0),
    "a comparison": (lambda: torch.equal(A, A), "equal", 1, 4 * 40, 0, 1),
    "a number": (lambda: A.sum().item(), "_local_scalar_dense", 0, 0, 0, 1),
    "a choice": (lambda: A[torch.ones(4, 5) > 0], "index", 1, 4 * 20 + 20 + 4 * 20, 0, 1),
}


@pytest.mark.parametrize(
    ("run", "name", "calls", "size", "flops", "waits"), RUNS.values(), ids=RUNS.keys()
)
def test_what_an_operation_takes(run, name, calls, size, flops, waits):
    found = count(run)
    one = found[name]
    assert (one.calls, one.bytes, one.flops, one.waits) == (calls, size, flops, waits)
    assert one.seconds > 0


def test_views_and_allocations_do_nothing():
    assert count(lambda: torch.empty(3, 4).view(2, 6).T.detach()[0]) == {}


def test_backward_passes_count():
    model, x = nn.Linear(5, 6), torch.randn(7, 5)
    with FlopCounterMode(display=False) as flops:
        model(x).sum().backward()
    found = Count()
    for one in count(lambda: model(x).sum().backward()).values():
        found.add(one)
    assert found.flops == flops.get_total_flops() > 0


def as_gpu(problem="digits_cnn", size=16, computed=Computed.GRAM):
    instance = PROBLEMS[problem].make(size, "cpu", torch.float32, 0)
    method = find_method("gram")
    return counted_as_gpu(instance, lambda given: method.prepare(given, Task(computed)))


def test_phases_of_the_library():
    phases = by_phase(as_gpu(computed=Computed.EIGENVALUES))
    assert {"forward", "backward", "columns", "contraction", "loss", "eigensolver"} <= {*phases}
    assert "probe" not in phases  # all is known from the graph
    assert "outside of the library" not in phases
    instance = PROBLEMS["digits_cnn"].make(16, "cpu", torch.float32, 0)
    with FlopCounterMode(display=False) as flops:
        instance.model(instance.inputs)
    assert phases["forward"].flops == flops.get_total_flops()


def test_what_the_graph_does_not_tell_is_probed():
    assert "probe" in by_phase(as_gpu("tiny_transformer", 4))


def test_products_have_phases():
    found = by_phase(as_gpu("digits_mlp", computed=Computed.PRODUCT))
    assert {"forward", "backward"} <= {*found}


def test_what_is_not_the_library():
    assert phases.phase() == "outside of the library"


def test_counts_are_the_same_each_time():
    first, second = (
        {key: (c.calls, c.bytes, c.flops, c.waits) for key, c in as_gpu().items()}
        for _ in range(2)
    )
    assert first == second


def test_a_gpu_is_treated_otherwise():
    """It is given several columns of any layer at once, hence fewer operations."""
    from vivit import devices

    before = dict(devices.KINDS)
    on_gpu = total(as_gpu("cifar10_3c3d", 2)).calls
    assert before == devices.KINDS
    instance = PROBLEMS["cifar10_3c3d"].make(2, "cpu", torch.float32, 0)
    run = find_method("gram").prepare(instance, Task(Computed.GRAM))
    with counted(lambda: "all", CPU) as counts:
        run()
    assert on_gpu < total(counts).calls


def test_an_older_library_does_not_tell_devices_apart(monkeypatch):
    from vivit import devices

    monkeypatch.delattr(devices, "KINDS")
    with pytest.raises(NotImplementedError, match=r"has no vivit\.devices"):
        as_gpu()


def test_the_limit_is_the_slower_of_both():
    roofline = Roofline(flops=100.0, bandwidth=10.0)
    assert roofline.seconds(Count(flops=50, bytes=1)) == 0.5
    assert roofline.seconds(Count(flops=50, bytes=20)) == 2.0


def test_the_limit_of_this_machine():
    found = Roofline.measured(CPU)
    assert 1e8 < found.flops < 1e15
    assert 1e8 < found.bandwidth < 1e14


def test_table():
    counts = {
        "small": Count(calls=3, bytes=1_500, seconds=1e-3),
        "large": Count(calls=2000, bytes=2_000_000, flops=10**9, waits=4, seconds=0.5),
    }
    assert tables.table("phase", counts, Roofline(4e9, 1e9)).splitlines() == [
        "phase  calls   bytes  flops  waits      time  share of limit",
        "large  2,000    2 MB    1 G      4  500.0 ms            0.50",
        "small      3  1.5 kB                  1.0 ms            0.00",
        "total  2,003    2 MB    1 G      4  501.0 ms            0.50",
    ]
    assert tables.table("phase", counts, None).splitlines()[0].split() == [
        *("phase", "calls", "bytes", "flops", "waits")
    ]


def test_a_long_table_ends_in_what_is_left():
    counts = {f"op{i}": Count(calls=1, bytes=100 - i) for i in range(30)}
    lines = tables.table("operation", counts, None).splitlines()
    assert len(lines) == 1 + tables.LONGEST + 1 + 1
    assert lines[-2].split() == ["10", "others", "10", "755", "B"]


def test_command(capsys, tmp_path):
    output = tmp_path / "counts.jsonl"
    arguments = ["profile", "digits_mlp", "--batch-size", "8", "--threads", "1"]
    assert cli.main([*arguments, "--output", str(output)]) == 0
    shown = capsys.readouterr().out
    assert "digits_mlp N=8 Gram matrix, gram, cpu, 1 thread(s)" in shown
    assert "share of limit" in shown
    assert "are Python and launching" in shown
    records = {record.quantity: record for record in RecordStore(output).read()}
    counted = {Quantity.CALLS, Quantity.TRAFFIC, Quantity.FLOPS, Quantity.WAITS}
    assert {*records} == {*counted, Quantity.TIME, Quantity.LIMIT}
    calls = records[Quantity.CALLS]
    assert calls.samples == [sum(calls.details.values())]
    assert calls.unit == "calls"
    assert calls.parameters["as_gpu"] is False
    assert calls.details["backward"] > 0
    time, limit = records[Quantity.TIME], records[Quantity.LIMIT]
    assert len(time.samples) == REPEATS
    assert time.unit == limit.unit == "s"
    assert {*time.details} == {*calls.details}
    rates = Roofline(*(limit.details[name] for name in ("flops", "bandwidth")))
    flops, traffic = (records[q].samples[0] for q in (Quantity.FLOPS, Quantity.TRAFFIC))
    assert limit.samples == [rates.seconds(Count(flops=flops, bytes=traffic))]
    of_phase = Count(
        flops=records[Quantity.FLOPS].details["backward"],
        bytes=records[Quantity.TRAFFIC].details["backward"],
    )
    assert limit.details["backward"] == rates.seconds(of_phase)


def test_command_as_gpu(capsys, tmp_path):
    output = tmp_path / "counts.jsonl"
    arguments = ["profile", "digits_mlp", "--batch-size", "8", "--as-gpu"]
    assert cli.main([*arguments, "--output", str(output)]) == 0
    found = {record.quantity for record in RecordStore(output).read()}
    assert found == {Quantity.CALLS, Quantity.TRAFFIC, Quantity.FLOPS, Quantity.WAITS}
    shown = capsys.readouterr().out
    assert "a CPU, treated as a GPU" in shown
    assert "time" not in shown


def test_another_method_and_own_problem(capsys, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def make(batch_size, device, dtype, seed):\n"
        "    x = torch.randn(batch_size, 5, device=device, dtype=dtype)\n"
        "    y = torch.arange(batch_size, device=device) % 3\n"
        "    model = torch.nn.Linear(5, 3).to(device, dtype)\n"
        "    return model, torch.nn.CrossEntropyLoss(), x, y\n"
    )
    problem = f"{tmp_path / 'mine.py'}:make"
    options = ["--computed", "eigenpairs", "--directions", "2"]
    assert cli.main(["profile", problem, "--method", "lanczos", *options]) == 0
    assert "outside of the library" in capsys.readouterr().out


def test_what_cannot_be_profiled(capsys):
    given = ["profile", "digits_mlp", "--method", "power_iteration", "--batch-size", "4"]
    assert cli.main(given) == 2
    assert "power_iteration is measured for" in capsys.readouterr().err
