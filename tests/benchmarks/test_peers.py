"""The original package: its environment, its shims, and how it is asked. A fake stands for it."""

import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from backpack.extensions import BatchGrad, SqrtGGNExact, SqrtGGNMC
from benchmark_cases import TASKS, small_problem
from torch import nn

from benchmarks.grid.comparison import Comparison
from benchmarks.methods import METHODS, NotApplicableError, original
from benchmarks.methods.backpack_form import NOTE, backpack_form
from benchmarks.methods.original import SHIM, symeig
from benchmarks.problems.layers import PadChannels, Residual
from benchmarks.records.record import Quantity, RecordStore, Status
from benchmarks.records.tasks import FAMILY, Approximation, Task
from benchmarks.run.process import PEER_PYTHON, PEER_WORKER, ROOT, open_worker
from benchmarks.run.reference import make_reference, residual_of_pairs
from benchmarks.run.runner import Runner
from vivit import GGN

COMPARISON = Comparison("eigenvalues", "digits_mlp", ("original",), 8, Task(), repeats=1)
REFUSED = {
    *("Gram matrix", "spectral density", "preconditioned gradient"),
    *(computed.label for computed in FAMILY),
}


class Fake:
    """The original's interface, on BackPACK's extensions and our own library."""

    def __init__(self, **options):
        of_ggn = "_ggn" if isinstance(self, FakeNewton) else ""
        self.subsampling = options.pop(f"subsampling{of_ggn}", None)
        self.mc_samples = options.pop(f"mc_samples{of_ggn}", 0)
        assert options in ({}, {"warn_small_eigvals": 0.0})

    def get_extension(self):
        kind = SqrtGGNMC if self.mc_samples else SqrtGGNExact
        return kind(subsampling=self.subsampling)

    def get_extension_hook(self, groups):
        return lambda module: None


class FakeEigvalsh(Fake):
    def get_result(self, group):
        return self.decompose(group, vectors=False)[0]

    def decompose(self, group, vectors):
        name = self.get_extension().savefield
        factors = [
            getattr(p, name).flatten(start_dim=2).flatten(end_dim=1) for p in group["params"]
        ]
        scale = 1.0 if self.subsampling is None else 16 / len(self.subsampling)
        self.factor = torch.cat(factors, dim=1) * scale**0.5
        return (self.factor @ self.factor.T).symeig(eigenvectors=vectors)


class FakeEigh(FakeEigvalsh):
    def get_result(self, group):
        values, vectors = self.decompose(group, vectors=True)
        kept = group["criterion"](values)
        flat = (vectors[:, kept].T @ self.factor) / values[kept].sqrt()[:, None]
        parts = flat.split([p.numel() for p in group["params"]], dim=1)
        shapes = [p.shape for p in group["params"]]
        pieces = zip(parts, shapes, strict=True)
        return values[kept], [part.reshape(len(kept), *shape) for part, shape in pieces]


class FakeNewton(Fake):
    problem = small_problem(batch_size=16)

    def get_extensions(self):
        return [BatchGrad(), self.get_extension()]

    def get_result(self, group):
        p = self.problem
        ggn = GGN(p.model, p.loss_func, (p.inputs, p.targets))
        values = ggn.eigvalsh()
        damping = group["damping"](values, None, None, None)
        assert (damping == 1.0).all()
        kept = group["criterion"](values)
        return list(ggn.newton_step(1.0, k=len(kept)).values())


class FakeDerivatives(FakeNewton):
    def get_result(self, group):
        p = self.problem
        ggn = GGN(p.model, p.loss_func, (p.inputs, p.targets))
        kept = group["criterion"](ggn.eigvalsh())
        found = ggn.directional_derivatives(k=len(kept))
        return -found.gammas, found.lambdas  # signs are arbitrary


@pytest.fixture
def package(monkeypatch):
    """Something that passes for the installed original."""
    fake = types.ModuleType("vivit")
    fake.__file__ = "/elsewhere/vivit/__init__.py"
    fake.EigvalshComputation, fake.EighComputation = FakeEigvalsh, FakeEigh
    fake.DirectionalDampedNewtonComputation = FakeNewton
    fake.DirectionalDerivativesComputation = FakeDerivatives
    monkeypatch.setattr(original, "import_module", lambda name: fake)
    monkeypatch.setattr(original, "version", lambda name: "1.0.0")
    monkeypatch.setattr(torch.Tensor, "symeig", None)
    return fake


@pytest.mark.parametrize("title", TASKS)
@pytest.mark.parametrize("name", ["original", "original_lean"])
def test_every_task(package, name, title):
    problem, task, method = small_problem(batch_size=16), TASKS[title], METHODS[name]
    if title in REFUSED:
        with pytest.raises(NotApplicableError, match=f"The computations give no {title}"):
            method.prepare(problem, task)
        return
    reference, _ = make_reference(problem, task)
    run = method.prepare(problem, task)
    for _ in range(2):
        outcome = run()
        check = method.check(outcome, problem, task, reference)
        sampled = task.approximation is Approximation.MONTE_CARLO
        # few pairs are found by an iteration, which ends at the root of the precision
        assert check.error < (check.tolerance if sampled else 1e-8)
    assert outcome.details["shims"] == [SHIM]
    assert outcome.details["package"]["vivit-for-pytorch"] == "1.0.0"
    assert all(p.grad is None for p in problem.model.parameters())


@pytest.mark.parametrize("title", [title for title in TASKS if title not in REFUSED])
def test_ours_under_the_same_interface(title):
    """Checked as the harness does it, with vectors against another implementation."""
    problem, task, method = (
        small_problem(torch.float32, batch_size=16),
        TASKS[title],
        METHODS["drop_in"],
    )
    reference, _ = make_reference(problem.double(), task)
    outcome = method.prepare(problem, task)()
    check = method.check(outcome, problem, task, reference)
    assert check.error <= check.tolerance
    if outcome.vectors is not None and task.approximation is Approximation.EXACT:
        assert residual_of_pairs(outcome, problem, task) < 1e-3
    assert all(p.grad is None for p in problem.model.parameters())


@pytest.mark.parametrize(
    ("found", "place", "whose"),
    [
        ("1.0.0", ROOT / "vivit", "this repository's library"),
        ("0.9", "/elsewhere/vivit", "another module"),
    ],
)
def test_another_package_of_that_name_is_refused(package, monkeypatch, found, place, whose):
    package.__file__ = str(Path(place) / "__init__.py")
    monkeypatch.setattr(original, "version", lambda name: found)
    with pytest.raises(RuntimeError, match=rf"got {whose} .*{found}.*tox run -e peer --notest"):
        METHODS["original"].prepare(small_problem(), Task())


def test_our_own_library_is_not_taken_for_the_original():
    with pytest.raises(RuntimeError, match=r"got this repository's library .*package: none"):
        METHODS["original"].prepare(small_problem(), Task())


@pytest.mark.parametrize("upper", [True, False])
def test_symeig(upper):
    full = torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    full = full @ full.T
    half = full.triu() if upper else full.tril()
    values, vectors = symeig(half, eigenvectors=True, upper=upper)
    assert torch.allclose(full @ vectors, vectors * values)
    alone, nothing = symeig(half, upper=upper)
    assert torch.allclose(alone, values)
    assert nothing.shape == (0,)


def test_residual_networks_are_rewritten():
    block = Residual(
        nn.Conv2d(2, 4, 3, 2, 1), nn.Sequential(nn.AvgPool2d(1, 2), PadChannels(1, 1))
    )
    model = nn.Sequential(block, nn.ReLU())
    form, notes = backpack_form(model)
    x = torch.rand(3, 2, 6, 6)
    assert torch.equal(form(x), model(x))
    assert notes == (NOTE,)
    for p, q in zip(form.parameters(), model.parameters(), strict=True):
        assert torch.equal(p, q)
    assert isinstance(model[0], Residual)  # the model itself is left alone
    plain = small_problem().model
    assert backpack_form(plain) == (plain, ())


def test_without_its_environment_a_peer_is_skipped(tmp_path):
    with open_worker(COMPARISON, "original", None, tmp_path / "bin" / "python") as worker:
        answers = [worker.start(1), worker.ask("memory", 1)]
        worker.close()
    assert {answer["status"] for answer in answers} == {"skipped"}
    assert all("tox run -e peer --notest" in answer["reason"] for answer in answers)
    assert str(tmp_path) not in answers[0]["reason"]


def test_a_skipped_peer_leaves_records(tmp_path):
    store = RecordStore(tmp_path / "records.jsonl")
    runner = Runner(store, {}, 60, 10, None, lambda what, count: None, tmp_path / "python")
    runner.run([COMPARISON])
    reference, *records = store.read()
    assert reference.status is Status.OK
    assert {r.quantity for r in records} == {Quantity.ACCURACY, Quantity.TIME, Quantity.MEMORY}
    assert {r.status for r in records} == {Status.SKIPPED}
    assert all("tox run -e peer --notest" in r.reason for r in records)


def test_the_usual_place_is_named():
    assert PEER_PYTHON == ROOT / ".tox" / "peer" / "bin" / "python"
    answer = original_absent(PEER_PYTHON.with_name("absent"))
    assert "at .tox/peer/bin/absent" in answer["reason"]


def original_absent(python):
    return open_worker(COMPARISON, "original_lean", None, python).ask("time", 1)


def test_peers_run_isolated_with_their_own_interpreter(tmp_path):
    """A fake interpreter tells with what it is started."""
    python = tmp_path / "python"
    code = 'import json, sys; print(json.dumps({"status": "ok", "argv": sys.argv[1:]}))'
    python.write_text(f"#!{sys.executable}\n{code}\n")
    python.chmod(0o755)
    with open_worker(COMPARISON, "original", None, python) as worker:
        assert worker.ask("start", 60)["argv"] == PEER_WORKER
    with open_worker(COMPARISON, "gram", None, python) as worker:
        assert worker.start(60) == {"status": "ok"}


def test_the_repository_does_not_hide_an_installed_package(tmp_path):
    """The real entry point, which serves no command before its input ends."""
    (tmp_path / "vivit.py").touch()
    code = (
        f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r});"
        f"runpy.run_path({PEER_WORKER[-1]!r}, run_name='__main__');"
        "print(sys.modules['vivit'].__file__, file=sys.stderr)"
    )
    command = [sys.executable, *PEER_WORKER[:-1], "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, input="", check=True)
    assert done.stderr.split()[-1] == str(tmp_path / "vivit.py")
