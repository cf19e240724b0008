"""The processes that measure: what they answer, and what is made of those that do not."""

import errno
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.grid.comparison import Comparison
from benchmarks.measure.critical import Limits
from benchmarks.measure.time_and_memory import is_out_of_memory as measured_as_out_of_memory
from benchmarks.records.tasks import Task
from benchmarks.run.process import WorkerProcess
from vivit.errors import is_out_of_memory

ROOT = Path(__file__).resolve().parents[2]
COMPARISON = Comparison("eigenvalues", "digits_mlp", ("gram",), 8, Task(), repeats=1)


def test_what_a_failing_process_said_is_kept():
    with WorkerProcess(replace(COMPARISON, problem="absent"), "gram", None) as worker:
        answer = worker.start(60)
    assert answer["status"] == "error"
    assert "Unknown problem 'absent'" in answer["details"]["stderr"]
    assert str(ROOT) not in answer["details"]["stderr"]


def test_worker_that_dies_is_an_error():
    with WorkerProcess(COMPARISON, "gram", None) as worker:
        assert worker.start(60)["status"] == "ok"
        os.kill(worker._process.pid, signal.SIGSEGV)
        answer = worker.ask("memory", 60)
    assert answer["status"] == "error"
    assert "killed by signal 11 during memory" in answer["reason"]


def test_worker_that_is_killed_ran_out_of_memory():
    with WorkerProcess(COMPARISON, "gram", None) as worker:
        worker.start(60)
        os.kill(worker._process.pid, signal.SIGKILL)
        answer = worker.ask("memory", 60)
    assert answer["status"] == "oom"
    assert "killed by signal 9" in answer["reason"]


def test_prints_do_not_disturb_the_protocol(monkeypatch):
    """Neither of Python nor of C code or subprocesses."""
    code = (
        "import os, sys; from benchmarks.run import serve;"
        "serve.Worker.time = lambda self: (print('hello'), os.system('echo hi'), {})[-1];"
        "serve.main()"
    )
    monkeypatch.setattr("benchmarks.run.process.WORKER", [sys.executable, "-c", code])
    with WorkerProcess(COMPARISON, "gram", None) as worker:
        assert worker.start(60) == {"status": "ok"}
        assert worker.ask("time", 60) == {"status": "ok"}


def test_answers_that_are_not_json_are_errors(monkeypatch):
    monkeypatch.setattr("benchmarks.run.process.WORKER", [sys.executable, "-c", "print('what?')"])
    with WorkerProcess(COMPARISON, "gram", None) as worker:
        answer = worker.start(60)
    assert answer["status"] == "error"
    assert "which is not JSON" in answer["reason"]


def test_records_do_not_tell_where_files_lie(monkeypatch):
    """Neither in what went wrong nor in what was said of it."""
    code = (
        "import json, os, sys; place = os.getcwd() + '/lib/x.py'; print(place, file=sys.stderr);"
        "print(json.dumps({'status': 'error', 'reason': f'OSError: {place}'}))"
    )
    monkeypatch.setattr("benchmarks.run.process.WORKER", [sys.executable, "-c", code])
    with WorkerProcess(COMPARISON, "gram", None) as worker:
        answer = worker.start(60)
    assert answer["reason"] == "OSError: lib/x.py"
    assert answer["details"]["stderr"] == "lib/x.py\n"


def test_a_probe_that_is_killed_did_not_run_out_of_its_budget():
    search = replace(COMPARISON, limits=Limits(2**32))
    with WorkerProcess(search, "gram", None) as worker:
        worker.start(60)
        os.kill(worker._process.pid, signal.SIGKILL)
        answer = worker.ask("probe", 60)
    assert answer["status"] == "error"
    assert "killed by signal 9" in answer["reason"]


def test_who_was_killed_by_us_did_not_run_out_of_memory():
    with WorkerProcess(COMPARISON, "gram", None) as worker:
        assert worker.start(0.01)["status"] == "timeout"
        assert worker.ask("memory", 60)["status"] == "error"


def test_worker_that_is_slow_is_killed():
    with WorkerProcess(COMPARISON, "gram", None) as worker:
        answer = worker.start(0.01)
        assert (answer["status"], answer["reason"]) == ("timeout", "start took more than 0.01 s")
        worker._process.wait(10)


def test_worker_tells_out_of_memory_from_errors():
    large = replace(COMPARISON, batch_size=1400)  # a Gram matrix of 635 MB
    with WorkerProcess(large, "gram", memory_limit=2**29) as worker:
        assert worker.start(60)["status"] == "ok"
        answer = worker.ask("memory", 60)
    assert answer["status"] == "oom", answer
    with WorkerProcess(COMPARISON, "gram", None) as worker:
        worker.start(60)
        answer = worker.ask("accuracy", 60, reference=[1.0] * 72, facts={})
        early = worker.ask("nonsense", 60)
    assert answer["status"] == "error"
    assert "exceeds the method's tolerance" in answer["reason"]
    assert early["status"] == "error"


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_of_a_worker_are_those_of_torch(monkeypatch, threads):
    """Whatever is set where it is started from; NumPy and SciPy have one, not to spin beside."""
    code = (
        "import json, numpy, scipy.linalg, torch; from threadpoolctl import threadpool_info;"
        "found = [(x['internal_api'], x['num_threads']) for x in threadpool_info()];"
        "print(json.dumps({'status': 'ok', 'found': found}))"
    )
    monkeypatch.setattr("benchmarks.run.process.WORKER", [sys.executable, "-c", code])
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "7")
    with WorkerProcess(replace(COMPARISON, threads=threads), "gram", None) as worker:
        found = worker.start(60)["found"]
    numbers = {api: {n for of, n in found if of == api} for api, _ in found}
    assert numbers.pop("openblas") == {1}
    assert numbers.pop("openmp") == {threads}
    assert set().union(*numbers.values()) <= {threads}  # MKL, where torch has it


@pytest.mark.parametrize(
    ("error", "is_told"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("of a GPU"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (RuntimeError("shapes do not fit"), False),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), "site-packages/sympy"), True),
        (OSError(errno.ENOENT, os.strerror(errno.ENOENT), "site-packages/sympy"), False),
        (ImportError("libx.so: cannot map segment: Cannot allocate memory"), True),
        (ImportError("No module named 'sympy'"), False),
        (ValueError("out of memory"), False),
    ],
    ids=repr,
)
def test_what_is_about_memory(error, is_told):
    """The library and its measurement, which may not import it, agree."""
    assert measured_as_out_of_memory(error) == is_out_of_memory(error) == is_told


def test_time_needs_accuracy_first():
    with WorkerProcess(COMPARISON, "gram", None) as worker:
        worker.start(60)
        answer = worker.ask("time", 60)
    assert "accuracy is checked before the time" in answer["reason"]
