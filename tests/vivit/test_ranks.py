"""Several processes with a share of the batch each: all is as in one, and all tell mistakes.

Processes are started once for each number of ranks, and go through the whole table of
`rank_cases`.
"""

import atexit
import contextlib
import multiprocessing
import os
import re
import shutil
import signal
import tempfile
import time
from functools import cache
from pathlib import Path

import pytest
import rank_cases
import torch
import torch.distributed as dist
from rank_cases import CASES, MISTAKES, Case

import vivit
from vivit import InputError
from vivit.ranks import steps_of, turns_of

SECONDS = 100
"""By when processes must have ended."""

PRELOADED = ["rank_cases", "torch._dynamo", "torch._decomp.decompositions_for_jvp"]
"""What all processes import sooner or later: once for all of them."""

EXACT, SINGLE = 1e-10, 1e-3
"""Errors relative to the largest entry."""


@pytest.fixture(params=(2, 3, 4))
def reports(request):
    """What each of some ranks found, how they ended, and what they said of the end of one."""
    folder, ends = ran(request.param)
    ranks = range(request.param)
    found = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in ranks]
    dead = [folder / f"{rank}-dead.pt" for rank in ranks]
    return found, ends, [torch.load(path) if path.exists() else None for path in dead]


@cache
def ran(size):
    """Where so many ranks, which run once, have left what they found; and their exit codes."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    work = rank_cases.work
    processes = [
        context.Process(target=work, args=(rank, size, str(folder))) for rank in range(size)
    ]
    try:
        for process in processes:
            process.start()
        deadline = time.monotonic() + SECONDS
        for process in processes:
            process.join(max(deadline - time.monotonic(), 0))
        return folder, [process.exitcode for process in processes]
    finally:
        for process in processes:
            process.kill()


@cache
def alone(name):
    """The curvature of all batches in this process."""
    return CASES[name].alone()


@cache
def expected(name, what):
    """Of one process."""
    return torch.as_tensor(rank_cases.computed_of(name, 3)[what](alone(name)))


def is_close(found, wanted, name):
    tolerance = SINGLE if CASES[name].dtype is torch.float32 else EXACT
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max().clamp(min=1)


EACH = [(size, name) for size in (2, 3, 4) for name in rank_cases.cases_of(size)]
"""Numbers of ranks, and cases."""


@pytest.mark.parametrize(("reports", "name"), EACH, indirect=["reports"])
def test_all_ranks_have_what_one_process_has(reports, name):
    found, *_ = reports
    for what in rank_cases.computed_of(name, len(found)):
        of_ranks = [report["results"][name][what] for report in found]
        assert all(torch.equal(x, of_ranks[0]) for x in of_ranks), what
        is_close(of_ranks[0], expected(name, what), name)


@pytest.mark.parametrize(("reports", "name"), EACH, indirect=["reports"])
def test_derivatives_are_those_of_own_samples(reports, name):
    found, *_ = reports
    for what, wanted in rank_cases.derivatives(alone(name)).items():
        joined = torch.cat([report["derivatives"][name][what] for report in found])
        is_close(joined, wanted, name)


@cache
def whole_kernel(name):
    """Of one process."""
    return rank_cases.kernel(name)


@pytest.mark.parametrize("name", rank_cases.KERNELS)
def test_rows_of_a_kernel_are_those_of_own_samples(reports, name):
    found, *_ = reports
    joined = torch.cat([report["kernels"][name] for report in found])
    order = rank_cases.order_of_kernel(name, len(found))
    wanted = whole_kernel(name)
    assert joined.shape == wanted.shape
    assert (joined - wanted[:, order]).abs().max() <= EXACT * wanted.abs().max()


@pytest.mark.parametrize("name", rank_cases.HELD_OUT)
def test_monitors_see_what_one_of_all_samples_sees(reports, name, tmp_path):
    found, *_ = reports
    alone, _ = rank_cases.monitor(name, tmp_path / "alone.jsonl")
    wanted = alone(0).quantities
    for report in found:
        seen = report["monitors"]["seen"][name]
        assert seen.keys() == wanted.keys()
        for what, value in wanted.items():
            assert seen[what] == (
                value if value is None else pytest.approx(value, rel=1e-6, abs=1e-9)
            ), what


def test_monitors_keep_to_the_budget_and_the_file_of_the_first(reports):
    found, *_ = reports
    for rank, report in enumerate(found):
        monitors = report["monitors"]
        assert monitors["looked"] == [True, True]
        assert "no luck today" in monitors["failed"]
        assert monitors["written"] == (rank == 0)
        assert len(monitors["warned"]) == (rank == 0)
        assert all("could not observe all of step 2" in text for text in monitors["warned"])


def test_matrix_that_fits_no_rank_lies_in_blocks(reports):
    found, *_ = reports
    for report in found:
        room = report["small room"]
        assert room["blocks"] < room["whole"]
        assert room["has blocks"] == [""]
        assert torch.allclose(room["values"], room["wanted"], rtol=SINGLE)
        assert re.search(r"The Gram matrix of \d+ columns needs", room["refused"])


def test_plan_tells_the_bytes_that_pass_through_the_group(reports):
    found, *_ = reports
    for report in found:
        for name, sent in report["sent"].items():
            assert sent["planned"] == sent["counted"] == sent["told"], name


def test_processes_end_by_themselves(reports):
    found, ends, _ = reports
    assert ends == ([0, -signal.SIGKILL, 0] if len(found) == 3 else [0] * len(found))


TOLD = {
    "values": ("InputError", "Ranks 0 and 1 differ in values of the model's .*: '0.bias'"),
    "dtype": ("InputError", "'0.weight' is .*float64 and .*float32"),
    "model": ("InputError", r"differ in the selected parameters: .* and \['weight', 'bias'\]"),
    "mode": ("InputError", "differ in training mode of the model: True and False"),
    "loss": ("InputError", "'label_smoothing' is 0.0 and 0.1. Give all ranks the same"),
    "reduction": ("InputError", "'reduction' is mean and sum"),
    "columns": ("InputError", "Exact and MonteCarlo"),
    "kind": ("InputError", "GaussNewton and Gradients"),
    "subset": ("InputError", "differ in the subset of samples"),
    "parameters": ("InputError", "differ in the selected parameters"),
    "samples": ("InputError", "differ in what a sample is: 'mixing' is False and True"),
    "nothing": ("InputError", "No rank has any samples"),
    "sharded": ("UnsupportedError", "The model is sharded over processes"),
    "data": ("InputError", "targets are outside of the classes"),
    "model that raises": ("RankError", "Rank 1, in setting up: ValueError: no luck today"),
    "stale": ("StaleError", "Parameter '0.weight' was changed"),
    "stale inverse": ("StaleError", "Parameter '0.weight' was changed"),
    "in the middle": ("RankError", "Rank 1, in gram: ValueError: no luck today"),
    "in the middle, of ours": ("InputError", "no luck at all"),
    "other call": ("RankError", "All ranks must call the same methods in the same order"),
    "kernel of other outputs": ("InputError", "differ in the kernel: full, sets: 1 and trace"),
    "kernel of two sets": ("InputError", "differ in the kernel: .*sets: 1 and .*sets: 2"),
    "kernel that does not fit": (
        "InsufficientMemoryError",
        "The kernel of .* Use outputs='trace', or fewer samples, or more ranks",
    ),
    "kernel of nothing": ("InputError", "No rank has any samples"),
    "kernel with nothing": ("InputError", "The set X2 is empty on all ranks"),
    "left": ("RankError", r"waits in vain: rank \d left while 'a test' was moved \(gone\)"),
    "late": (
        "RankError",
        "waits in vain: rank.* did not come to 'the layers of a sweep'.* Then: This process "
        "group cannot be used any more",
    ),
}
"""Class and text of the error that the others raise; rank 1 raises its own."""

OWN = {"model that raises", "in the middle"}
"""Where that is one that is not of this library."""


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize("reports", [3], indirect=True)
def test_mistakes_of_one_are_told_on_all(reports, name):
    found, *_ = reports
    kind, text = TOLD[name]
    for rank, report in enumerate(found):
        own_kind, own_text = report["mistakes"][name]
        if rank == 1 and name in OWN:
            assert (own_kind, own_text) == ("ValueError", "no luck today")
            continue
        assert own_kind == kind
        assert re.search(text, own_text)


@pytest.mark.parametrize("reports", [3], indirect=True)
def test_late_rank_is_named(reports):
    (first, _, last), *_ = reports
    for report in (first, last):
        assert "waits in vain: rank 1 did not come" in report["mistakes"]["late"][1]


@pytest.mark.parametrize("reports", [3], indirect=True)
def test_group_goes_on_after_mistakes(reports):
    found, *_ = reports
    for report in found:
        for what in ("after all", "wrapped"):
            is_close(report[what], expected("exact", "gram"), "exact")


@pytest.mark.parametrize("reports", [3], indirect=True)
def test_what_differs_is_that_of_the_first(reports):
    found, *_ = reports
    for report in found:
        assert torch.equal(report["agreed"][0], torch.zeros(2, 1, dtype=torch.int64))


@pytest.mark.parametrize("reports", [3], indirect=True)
def test_end_of_a_rank_is_told_at_once(reports):
    *_, (first, killed, last) = reports
    assert killed is None
    for kind, text, seconds in (first, last):
        assert kind == "RankError"
        assert "rank 1" in text
        assert "the Gram matrix, layer" in text
        assert seconds < 10


@pytest.mark.parametrize("size", range(2, 8))
def test_each_rank_gets_from_each_other_all_around_the_ring(size):
    steps = [steps_of(rank, size, None) for rank in range(size)]
    for rank, own in enumerate(steps):
        assert sorted(step.source for step in own) == [x for x in range(size) if x != rank]
        for number, step in enumerate(own):
            assert steps[step.source][number].target == rank


@pytest.mark.parametrize("size", range(2, 8))
def test_each_pair_of_ranks_meets_once(size):
    for turn in range(2):
        steps = [steps_of(rank, size, turn) for rank in range(size)]
        met = []
        for of_step in zip(*steps, strict=True):
            for rank, step in enumerate(of_step):
                if step.source is not None:
                    assert of_step[step.source].target == rank
                    met.append({rank, step.source})
        assert len(met) == size * (size - 1) // 2
        assert all(met.count(pair) == 1 for pair in met)


def test_opposite_ranks_have_as_much_work():
    assert turns_of([1, 1, 1, 1]) == [0, 1, 0, 1]
    assert turns_of([5, 1, 2, 1, 3]) == [0, 1, 1, 1, 1]


@pytest.fixture
def group_of_one(tmp_path):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()
    del os.environ["GLOO_SOCKET_IFNAME"]


@pytest.mark.usefixtures("group_of_one")
def test_group_of_one_is_no_group():
    curvature = Case().shared(0, 1)
    assert curvature.ranks.size == 1
    assert torch.equal(curvature.gram(), expected("exact", "gram"))
    assert curvature.plan().travel is None


DOORS = (vivit.GGN, vivit.EmpiricalFisher, vivit.block_diagonal)


@pytest.mark.parametrize("door", DOORS)
def test_missing_group_is_refused(door):
    model, loss, batches = Case().made()
    with pytest.raises(InputError, match="process_group is given, but there is none yet"):
        door(model, loss, batches, process_group=dist.group.WORLD)


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("given", [None, -100, "gloo"])
def test_what_is_no_group_is_refused(given):
    model, loss, batches = Case().made()
    with pytest.raises(InputError, match="process_group must be a group of"):
        vivit.GGN(model, loss, batches, process_group=given)


def test_only_a_share_may_be_empty():
    model, loss, _ = Case().made()
    with pytest.raises(InputError, match="data has no batches"):
        vivit.GGN(model, loss, [])


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NCCL needs two GPUs")
def test_nccl(tmp_path):
    context = multiprocessing.get_context("spawn")
    work = rank_cases.work_on_gpus
    processes = [context.Process(target=work, args=(rank, str(tmp_path))) for rank in range(2)]
    with contextlib.ExitStack() as stack:
        for process in processes:
            process.start()
            stack.callback(process.kill)
        for process in processes:
            process.join(SECONDS)
    for rank in range(2):
        gram = torch.load(tmp_path / f"{rank}.pt").cpu()
        is_close(gram, expected("exact", "gram"), "exact")
