"""The command line as a user meets it, with real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benchmark_cases import NESTED

from benchmarks import cli
from benchmarks.grid.profiles import PROFILES
from benchmarks.grid.suites import SUITES
from benchmarks.methods import METHODS
from benchmarks.problems import PROBLEMS
from benchmarks.records.record import Quantity, RecordStore, Status
from benchmarks.run.process import PEER_PYTHON

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--profile", "smoke", "--suite", "eigenvalues", "--repeats", "2"]


def test_list(capsys):
    assert cli.main(["list"]) == 0
    shown = capsys.readouterr().out
    for name in [*PROBLEMS, *METHODS, *SUITES, *PROFILES]:
        assert f"  {name}" in shown
    assert "[settings: tolerance=0.001, most_iterations=100]" in shown
    assert cli.main(["list", "methods"]) == 0
    assert "problems" not in capsys.readouterr().out


def test_run(tmp_path, capsys):
    output = tmp_path / "records.jsonl"
    arguments = [
        "run",
        *SMALL,
        "--method",
        "gram",
        "--method",
        "gradient",
        "--output",
        str(output),
    ]
    assert cli.main(arguments) == 0
    records = RecordStore(output).read()
    assert [r.status for r in records] == [Status.OK] * 7
    assert {r.quantity for r in records} == {
        Quantity.SPECTRUM,
        Quantity.ACCURACY,
        Quantity.TIME,
        Quantity.MEMORY,
    }
    times = [r for r in records if r.quantity is Quantity.TIME]
    assert all(len(r.samples) == 2 and min(r.samples) > 0 for r in times)
    assert all(r.details["interleaved_with"] == ["gram", "gradient"] for r in times)
    errors = [r.samples[0] for r in records if r.quantity is Quantity.ACCURACY]
    assert max(errors) < 1e-5
    assert records[0].environment["machine"]["cores"] >= 1
    assert "python -m reports --input" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--problem", "mnist"], "Unknown problem 'mnist': did you mean fmnist_2c2d"),
        (["--problem", "mine.py"], "Or give path/to/file.py:function."),
        (["--profile", "Smoke"], "Unknown profile 'Smoke': did you mean smoke?"),
        (["--suite", "eigenvalue"], "Unknown suite 'eigenvalue': did you mean eigenvalues?"),
        (["--method", "grma"], "Unknown method 'grma': did you mean gram"),
        (["--method", "x"], "Unknown method 'x'. Choose from: gram, block_lanczos"),
        (["--method", "grma:steps=1"], "Unknown method 'grma': did you mean gram"),
        (["--method", "gram:steps=1"], "gram has no settings, got 'steps'"),
        (["--method", "lanczos:tol=1"], "Unknown setting of lanczos 'tol': did you mean toleranc"),
        (["--method", "lanczos:tolerance"], "expected settings as in lanczos:name=value,name=val"),
        (["--method", "lobpcg:tolerance=1,tolerance=2"], "each once, got 'lobpcg:tolerance=1,to"),
        (["--method", "lanczos:tolerance=-1"], "tolerance must be a positive number, got '-1'"),
        (["--method", "lanczos:tolerance=nan"], "tolerance must be a positive number, got 'nan'"),
        (["--method", "lanczos:tolerance=few"], "tolerance must be a positive number, got 'few'"),
        (["--method", "quadrature:steps=inf"], "steps must be a positive whole number, got 'inf'"),
        (["--method", "quadrature:steps=1.5"], "steps must be a positive whole number, got '1.5'"),
        (["--budgte", "1GiB"], "unrecognized arguments: --budgte 1GiB: did you mean --budget"),
        (["--device", "tpu"], "got 'tpu': did you mean cpu?"),
        (["--device", "cdua"], "got 'cdua': did you mean cuda?"),
        (["--device", "cpu:x"], "expected cpu or cuda, or one of several such as cuda:1, got"),
        (["--device", "cuda:99"], "CUDA devices on this machine, got 'cuda:99'"),
        (["--repeats", "0"], "expected a positive whole number, got '0'"),
        (["--threads", "two"], "expected a positive whole number, got 'two'"),
        (["--threads", "-2"], "expected a positive whole number, got '-2'"),
        (["--workers", "-.5"], "expected a positive whole number, got '-.5'"),
        (["--batch-size", "\u00b2"], "expected a positive whole number, got '\u00b2'"),
        (["--shard", "-1/2"], "expected i/n with i from 1 to n, such as 2/8, got '-1/2'"),
        (["--budget", "-1GiB"], "expected a positive size such as 4GiB or 512MiB, got '-1GiB'"),
        (["--budget", "9" * 400 + "XiB"], "expected a positive size such as 4GiB"),
        (["--budget", "4GB"], "expected a positive size such as 4GiB or 512MiB, got '4GB'"),
        (["--budget", "0MiB"], "expected a positive size such as 4GiB or 512MiB, got '0MiB'"),
        (["--budget-mode", "simulate"], "Unknown budget mode 'simulate': did you mean simulated?"),
        (["--shard", "3/2"], "expected i/n with i from 1 to n, such as 2/8, got '3/2'"),
        (["--shard", "0/2"], "expected i/n with i from 1 to n, such as 2/8, got '0/2'"),
        (["--shard", "half"], "expected i/n with i from 1 to n, such as 2/8, got 'half'"),
        (["--problem", "absent.py:make"], "there is no file 'absent.py'"),
    ],
)
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["run", *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], "Unknown command 'rnu': did you mean run?"),
        (["list", "method"], "Unknown kind 'method': did you mean methods?"),
        (["submit", "--on", "slrum", "--shards", "1"], "Unknown on 'slrum': did you mean slurm?"),
        (["submit", "--minutes", "-3", "--shards", "1"], "a positive whole number, got '-3'"),
        (["check", "HEAD", "--problem", "digits"], "'digits': did you mean digits_"),
        (["check", "HEAD", "--threshold", "-1.5"], "a ratio above 1 such as 1.1, got '-1.5'"),
        (["check", "HEAD", "--threshold", "-inf"], "a ratio above 1 such as 1.1, got '-inf'"),
        (["check", "HEAD", "--threshold", "nan"], "a ratio above 1 such as 1.1, got 'nan'"),
        (["merge", "a", "b", "--ouptut"], "unrecognized arguments: --ouptut"),
    ],
)
def test_wrong_arguments_of_other_commands(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert message in capsys.readouterr().err


def test_a_reader_who_has_read_enough():
    """As ``| head`` does; that is no error of ours."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-u", "-m", "benchmarks", "list"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    "command", ["", "list", "run", "experiment", "submit", "merge", "check", "profile"]
)
def test_help_fits_a_screen(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        cli.main([*filter(None, [command]), "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("given", "python", "threads", "workers"),
    [
        ([], PEER_PYTHON, 2, 1),
        (["--peer-python", "elsewhere/python"], Path.cwd() / "elsewhere" / "python", 2, 1),
        (["--threads", "1"], PEER_PYTHON, 1, 1),
        (["--workers", "3"], PEER_PYTHON, 2, 3),
    ],
    ids=["defaults", "interpreter of peers", "threads", "workers"],
)
def test_settings_reach_the_runner(monkeypatch, tmp_path, given, python, threads, workers):
    class FakeRunner:
        made = ()

        def __init__(self, *arguments):
            assert arguments[-2:] == (python, workers)

        def run(self, comparisons):
            assert {c.threads for c in comparisons} == {threads}
            assert {c.repeats for c in comparisons} == {PROFILES["engine"].repeats}

    monkeypatch.setattr(cli, "Runner", FakeRunner)
    output = str(tmp_path / "records.jsonl")
    assert cli.main(["run", "--profile", "engine", *given, "--output", output]) == 0


@pytest.mark.parametrize(
    ("text", "size"), [("4GiB", 2**32), ("1.5 KiB", 1536), ("11264MiB", 11 * 2**30), ("7B", 7)]
)
def test_budget(monkeypatch, tmp_path, text, size):
    class FakeRunner:
        made = ()

        def __init__(self, *arguments):
            pass

        def run(self, comparisons):
            assert {c.limits.budget for c in comparisons} == {size}

    monkeypatch.setattr(cli, "Runner", FakeRunner)
    output = str(tmp_path / "records.jsonl")
    run = ["run", "--profile", "critical", "--budget", text, "--output", output]
    assert cli.main(run) == 0


OWN = """
import torch
from torch import nn

def make(batch_size, device, dtype, seed):
    X = torch.rand(batch_size, 3, generator=torch.Generator().manual_seed(seed)).to(device, dtype)
    return nn.Linear(3, 2).to(device, dtype), nn.MSELoss(), X, X[:, :2].contiguous()
"""


def test_a_problem_of_ones_own(tmp_path, monkeypatch, capsys):
    """From another folder; what is recorded names no place of this machine."""
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    run = ["run", *SMALL, "--problem", "mine.py:make", "--batch-size", "5"]
    assert cli.main([*run, "--method", "gram", "--output", "records.jsonl"]) == 0
    records = RecordStore(tmp_path / "records.jsonl").read()
    assert {r.status for r in records} == {Status.OK}
    assert {(r.problem, r.parameters["data"]) for r in records} == {("mine.py:make", "own")}
    (memory,) = [r for r in records if r.quantity is Quantity.MEMORY]
    assert memory.details["num_parameters"] == 8
    assert 0 < memory.details["tensors"] < 100_000 < memory.details["whole_process"]
    assert str(tmp_path) not in str([{**vars(r), "environment": None} for r in records])
    (tmp_path / "mine.py").write_text(OWN.replace("X, X[", "X[1:], X["))
    assert cli.main(run) == 2
    assert "was asked for 2 samples, but X has 1" in capsys.readouterr().err


@pytest.mark.parametrize("function", ["in_dict", "in_tuple"])
def test_inputs_may_be_nested(tmp_path, function):
    """What runs inside BackPACK refuses them in words."""
    (tmp_path / "mine.py").write_text(NESTED)
    output = tmp_path / "records.jsonl"
    run = ["run", *SMALL, "--problem", f"{tmp_path}/mine.py:{function}", "--batch-size", "16"]
    chosen = ["--method", "gram", "--method", "naive_gram", "--repeats", "1"]
    assert cli.main([*run, *chosen, "--output", str(output)]) == 0
    records = RecordStore(output).read()
    assert {r.status for r in records if r.method != "naive_gram"} == {Status.OK}
    refused = [r for r in records if r.method == "naive_gram"]
    assert {r.status for r in refused} == {Status.SKIPPED}
    assert all("BackPACK, whose modules take a single tensor" in r.reason for r in refused)


def test_a_dry_run_measures_nothing(tmp_path, capsys):
    output = tmp_path / "records.jsonl"
    assert cli.main(["run", "--profile", "laptop", "--dry-run", "--output", str(output)]) == 0
    shown = capsys.readouterr().out
    assert "cifar10_3c3d N=128 all eigenvalues: gram, drop_in, gradient" in shown
    assert " cells in " in shown
    assert not output.exists()


def test_data_that_is_not_there_ends_at_once(tmp_path, capsys):
    run = ["run", "--problem", "cifar10_3c3d", "--data-root", str(tmp_path)]
    assert cli.main([*run, "--output", str(tmp_path / "records.jsonl")]) == 2
    assert "error: " in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_merge(tmp_path, capsys):
    output, joined = tmp_path / "records.jsonl", tmp_path / "all.jsonl"
    run = ["run", *SMALL, "--method", "gradient", "--repeats", "1", "--output", str(output)]
    assert cli.main(run) == 0
    assert cli.main(["merge", str(joined), str(output)]) == 0
    assert RecordStore(joined).read() == RecordStore(output).read()
    assert "4 added" in capsys.readouterr().out
    assert cli.main(["merge", str(joined), str(tmp_path / "absent.jsonl")]) == 2


def test_a_budget_beyond_the_machine(capsys):
    assert cli.main(["run", "--profile", "critical", "--budget", "4000GiB"]) == 2
    assert "cannot be told from the memory that this machine has" in capsys.readouterr().err
    shared = ["run", "--profile", "critical", "--budget", "4GiB", "--workers", "1000"]
    assert cli.main(shared) == 2
    assert "or fewer --workers" in capsys.readouterr().err


def test_nothing_selected(capsys):
    assert cli.main(["run", *SMALL, "--method", "power_iteration"]) == 2
    assert "nothing in the grid matches" in capsys.readouterr().err


def test_corrupt_records_are_named(tmp_path, capsys):
    output = tmp_path / "records.jsonl"
    output.write_text("nonsense\n")
    assert cli.main(["run", *SMALL, "--output", str(output)]) == 2
    assert f"{output}, line 1" in capsys.readouterr().err


@pytest.fixture
def interruptible():
    """What starts in the background of a shell script ignores SIGINT, and so do its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL", "SIGINT side by side"])
def test_killed_run_keeps_its_records_and_leaves_no_process(tmp_path, name):
    output = tmp_path / "records.jsonl"
    name, _, beside = name.partition(" ")
    command = [sys.executable, "-m", "benchmarks", "run", *SMALL, "--output", str(output)]
    command += ["--workers", "2"] if beside else []
    with subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True
    ) as run:
        try:
            wait_for(lambda: output.exists() and children(run.pid))
            workers = children(run.pid)
            run.send_signal(getattr(signal, name))
            _, errors = run.communicate(timeout=30)
        finally:
            run.kill()
    wait_for(lambda: not any(alive(pid) for pid in workers))
    assert RecordStore(output).read()
    if name == "SIGKILL":
        assert run.returncode == -signal.SIGKILL
    else:
        assert run.returncode == 130
        assert "all finished cells are kept" in errors


def children(pid: int) -> list[int]:
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and parent(int(entry.name)) == pid
    ]


def parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
