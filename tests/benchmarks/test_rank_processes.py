"""The method `ranks`: its processes, what they tell of themselves, and how they end."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmark_cases import small_problem
from torch import nn

from benchmarks.grid.profiles import PROFILES
from benchmarks.grid.suites import SUITES
from benchmarks.methods import METHODS, NotApplicableError
from benchmarks.methods.gram import curvature_of
from benchmarks.methods.rank_processes import RankProcesses, flops_of
from benchmarks.records.tasks import Computed, Task
from benchmarks.run.worker import Worker
from benchmarks.scaling_cost import Machine, Share, cost_of

ROOT = Path(__file__).resolve().parents[2]
METHOD, GRAM = METHODS["ranks"], Task(Computed.GRAM)


@pytest.fixture(scope="module")
def run():
    found = METHOD.prepare(small_problem(batch_size=6), GRAM)
    yield found
    found.processes.close()


def is_running(pid):
    """A process that ended, but was not waited for, does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ended(pids, seconds=20):
    begin = time.monotonic()
    while any(map(is_running, pids)) and time.monotonic() < begin + seconds:
        time.sleep(0.05)
    return not any(map(is_running, pids))


def test_facts(run):
    """Bytes are counted as planned; what one rank sends, the other receives."""
    outcome = run()
    details = outcome.details
    assert outcome.values.shape == (18, 18)
    assert (details["ranks"], details["num_columns"]) == (2, 18)
    for way in ("sent", "received"):
        assert details[f"planned_{way}_bytes"] == details[f"{way}_bytes"]
    assert details["sent_bytes"] == details["received_bytes"][::-1]
    assert min(details["sent_bytes"]) >= 18 * 18 * 8  # the matrix, which is added up
    assert all(0.2 < share < 0.9 for share in details["share_of_flops"])


def test_the_simulation_has_the_bytes_that_are_sent(run):
    """Of two ranks, where the only step of the ring is one between opposite ranks."""
    problem = small_problem(torch.float32, batch_size=6).first(3)
    share = Share.of(curvature_of(problem, GRAM).plan())
    cost = cost_of(share, 2, Machine())
    assert cost.sum_bytes == cost.matrix_bytes == 18 * 18 * 4
    simulated = 2 * (cost.ring_bytes + cost.matrix_bytes)
    assert sum(run().details["sent_bytes"]) == 2 * simulated  # which were in double precision


def test_peak_is_that_of_the_processes(run):
    assert 0 <= METHOD.peak(run, "cpu") < 2**28
    with pytest.raises(TypeError, match="expected what `prepare` gave, got function"):
        METHOD.peak(lambda: None, "cpu")


def test_a_single_sample():
    """The second rank has nothing."""
    problem = small_problem(batch_size=1)
    shared = METHOD.prepare(problem, GRAM)
    alone = METHODS["gram"].prepare(problem, GRAM)()
    torch.testing.assert_close(shared().values, alone.values)
    shared.processes.close()


def test_flops_of_a_product():
    assert flops_of(lambda: torch.ones(2, 3) @ torch.ones(3, 5)) == 2 * 2 * 3 * 5


def test_processes_end_with_what_holds_them():
    processes = RankProcesses(small_problem(), Computed.GRAM, 2)
    pids = processes.pids
    assert all(map(is_running, pids))
    del processes
    assert ended(pids)


def test_a_process_that_is_gone_or_fails_is_told():
    processes = RankProcesses(small_problem(), Computed.GRAM, 1)
    with pytest.raises(RuntimeError, match="Rank 0 failed at 'dance': KeyError: 'dance'"):
        processes.ask("dance")
    os.kill(processes.pids[0], signal.SIGKILL)
    assert ended(processes.pids)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="The process of rank 0 ended at 'run'"):
            processes.ask("run")
    processes.close()


PARENT = """
import sys
sys.path.insert(0, "tests")
from benchmark_cases import small_problem
from benchmarks.methods.rank_processes import RankProcesses
from benchmarks.methods.gram import curvature_of
from benchmarks.records.tasks import Computed

if __name__ == "__main__":
    processes = RankProcesses(small_problem(), Computed.GRAM, 2)
    print(*processes.pids, flush=True)
    while True:
        processes.ask("run")
"""


def test_a_killed_parent_leaves_no_process(tmp_path):
    """Nor one that computes."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=environment) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(is_running, pids))
        parent.kill()
    assert ended(pids)


def test_what_cannot_be_sent_is_refused():
    problem = small_problem()
    hooked = nn.Sequential(problem.model)
    hooked.register_forward_hook(lambda module, inputs, output: None)
    with pytest.raises(NotApplicableError, match="to other processes, which pickle cannot: "):
        METHOD.prepare(replace(problem, model=hooked), GRAM)


def test_another_device_is_refused():
    problem = small_problem()
    with pytest.raises(
        NotApplicableError, match="ranks is measured on a CPU, by gloo, not on meta"
    ):
        METHOD.prepare(replace(problem, model=problem.model.to("meta")), GRAM)


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        ("footprint", "the footprint"),
        ("tensors", "what tensors hold"),
        ("probe", "the smallest memory to get by with"),
    ],
)
def test_figures_of_this_process_alone_are_refused(figure, words):
    worker = Worker("digits_mlp", "ranks", 4, GRAM.parameters, "cpu", 1, 0)
    with pytest.raises(NotApplicableError, match=f"processes of its own, of which {words} is not"):
        getattr(worker, figure)()


def test_profile():
    comparisons = PROFILES["ranks"].comparisons()
    assert {c.methods for c in comparisons} == {SUITES["ranks"].methods}
    assert PROFILES["ranks"].threads == 2
