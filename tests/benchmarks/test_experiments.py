"""The published experiments: all run, go on where they stopped, and compute what they say."""

import gc
import json
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from oracle import jacobian, loss_hessian

from benchmarks.cli import main
from benchmarks.experiments import EXPERIMENTS
from benchmarks.experiments.base import Measurement, Request, Scale, attempt, ok
from benchmarks.experiments.eigenspaces import Network
from benchmarks.experiments.run import Experiments
from benchmarks.experiments.trainings import Watched, moments
from benchmarks.problems import PROBLEMS
from benchmarks.records.record import Quantity, RecordStore, Status
from benchmarks.records.tasks import Approximation, Subset
from benchmarks.run.cells import Cell
from benchmarks.training.curvature import LanczosNewton, Start

OWN = """
import torch
from torch import nn


def make(batch_size, device, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(batch_size, 6, generator=generator)
    y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    return model.to(device, dtype), nn.CrossEntropyLoss(), X.to(device, dtype), y.to(device)


class Named(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x["x"])


def nested(batch_size, device, dtype, seed):
    model, loss, X, y = make(batch_size, device, dtype, seed)
    return Named(model), loss, {"x": X}, y


def values(batch_size, device, dtype, seed):
    model, _, X, _ = make(batch_size, device, dtype, seed)
    return model, nn.MSELoss(), X, X[:, :3].contiguous()
"""


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    return file


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Folder of all experiments, done once in the smallest scale."""
    folder = tmp_path_factory.mktemp("smoke")
    assert experiment("all", "--profile", "smoke", "--output", str(folder)) == 0
    return folder / "smoke"


def experiment(*words):
    return main(["experiment", *words, "--threads", "1"])


def records_of(folder, name):
    return RecordStore(folder / f"{name}.jsonl").read()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs(smoke, name):
    records = records_of(smoke, name)
    assert {record.suite for record in records} <= {name, "reference"}
    assert any(record.suite == name for record in records)
    probed = [r for r in records if r.quantity is Quantity.PROBE]
    assert all(r.status is Status.OK or r in probed for r in records), [r.reason for r in records]
    assert all(record.samples for record in records if record.status is Status.OK)


def test_what_is_done_is_not_done_again(smoke, capsys):
    before = {file: file.read_bytes() for file in smoke.glob("*.jsonl")}
    assert experiment("all", "--profile", "smoke", "--output", str(smoke.parent)) == 0
    assert {file: file.read_bytes() for file in smoke.glob("*.jsonl")} == before
    assert f"Report:  python -m reports --input {smoke}" in capsys.readouterr().out


def test_the_list_names_all(capsys):
    assert experiment("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*EXPERIMENTS]
    assert len(lines) == 17


@pytest.mark.parametrize("scale", [*Scale])
def test_a_dry_run_shows_what_would_be_done(scale, capsys, tmp_path):
    arguments = ("--profile", scale.value, "--dry-run", "--output", str(tmp_path))
    assert experiment("all", *arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split(":")[0] for line in lines} == {*EXPERIMENTS}
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["spectral-densty"],
            "Unknown experiment 'spectral-densty': did you mean",
        ),
        (["all", "--profile", "quik"], "Unknown scale 'quik': did you mean quick?"),
        (["all", "--samples", "0"], "expected a positive whole number, got '0'"),
    ],
)
def test_wrong_arguments(words, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        experiment(*words)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["linear-gram", "noisy-quadratic"])
def test_experiments_about_a_problem_of_their_own(name, capsys):
    assert experiment(name, "--problem", "digits_mlp") == 2
    assert f"error: {name} runs on its own problem only: leave out" in capsys.readouterr().err
    assert experiment("all", "--problem", "digits_mlp", "--dry-run") == 0
    assert name not in capsys.readouterr().out


def test_a_budget_that_would_not_run_out_is_refused_before_anything_is_done(tmp_path, capsys):
    words = ("--profile", "quick", "--budget", "9999GiB", "--output", str(tmp_path))
    assert experiment("all", *words) == 2
    assert "cannot be told from the memory that this machine has" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("name", "scale", "problems", "given", "threads"),
    [
        ("training-overlap", Scale.QUICK, None, None, 1),
        ("training-overlap", Scale.PAPER, None, None, 3),
        ("training-overlap", Scale.QUICK, ("cifar10_3c3d",), None, 3),
        ("training-overlap", Scale.QUICK, None, 2, 2),
        ("spectral-density", Scale.QUICK, None, None, 3),
        ("linear-gram", Scale.QUICK, None, None, 3),
    ],
)
def test_small_networks_have_one_thread(monkeypatch, name, scale, problems, given, threads):
    """Several threads wait for each other, and longer than they work."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    request = Request(scale, Path("unused"), problems)
    runs = Experiments(request, Path("unused"), given)
    assert runs.threads(EXPERIMENTS[name]) == threads


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("learning-rate-grid", ["--problem", "cifar10_3c3d"], "needs the data set CIFAR10: name"),
        ("training-overlap", ["--profile", "paper"], "needs the data set FashionMNIST: name"),
        ("training-derivatives", ["--problem", "mlp_linear"], "Unknown problem to be trained"),
        ("all", ["--profile", "paper"], "needs the data set"),
    ],
)
def test_what_cannot_be_trained_is_told_before_anything_is_done(
    tmp_path, capsys, name, words, message
):
    words = [*words, "--budget", "1GiB", "--output", str(tmp_path)]
    assert experiment(name, *words) == 2
    assert message in capsys.readouterr().err
    assert not [*tmp_path.rglob("*.jsonl")]


@pytest.mark.parametrize("name", ["training-overlap", "training-derivatives"])
def test_too_few_samples_for_a_mini_batch(tmp_path, capsys, own, name):
    words = ("--profile", "smoke", "--problem", f"{own}:make", "--samples", "60")
    assert experiment(name, *words, "--output", str(tmp_path)) == 2
    message = f"{name} needs a training set of at least 128 samples, that of own.py:make has 50"
    assert message in capsys.readouterr().err


def test_a_failing_job_says_why():
    def run():
        raise MemoryError("too large")

    cells = tuple(Cell("a", "b", name, Quantity.OVERLAP, {}) for name in "xy")
    answers = attempt(cells, run)
    assert [*answers] == [*cells]
    assert {answer["status"] for answer in answers.values()} == {"oom"}
    assert {answer["reason"] for answer in answers.values()} == {"MemoryError: too large"}
    both = {cell: ok([1.0]) for cell in cells}
    assert attempt(cells, lambda: both) == both
    some = attempt(cells, lambda: {cells[0]: ok([1.0])})
    assert {answer["reason"] for answer in some.values()} == {
        "LookupError: there is no answer, or one too many; lacking: ['y']"
    }


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("spectral-density", "make"),
        ("training-overlap", "make"),
        ("training-overlap", "nested"),
        ("training-overlap", "values"),
        ("training-derivatives", "make"),
        ("learning-rate-grid", "values"),
        ("second-order-training", "nested"),
        ("second-order-training", "values"),
        ("runtime-eigenpairs", "make"),
    ],
)
def test_problems_of_the_users_own(tmp_path, own, name, function):
    """The same figures by one option; that it is another network makes it another record."""
    words = ("--profile", "smoke", "--problem", f"{own}:{function}", "--samples", "200")
    assert experiment(name, *words, "--output", str(tmp_path)) == 0
    found = records_of(tmp_path / "smoke", name)
    records = [record for record in found if record.suite == name]
    assert all(record.status is Status.OK for record in records)
    assert {record.problem for record in records} == {f"own.py:{function}"}
    assert {record.parameters["data"] for record in records} == {"own"}
    assert len({record.parameters["source"] for record in records}) == 1


def test_a_hessian_that_fails_leaves_the_rest(tmp_path, monkeypatch):
    def refuse(network):
        raise RuntimeError("no second derivative")

    monkeypatch.setattr(Network, "hessian_pairs", refuse)
    words = ("--profile", "smoke", "--output", str(tmp_path))
    assert experiment("training-overlap", *words) == 1
    records = records_of(tmp_path / "smoke", "training-overlap")
    failed = {r.method for r in records if r.status is Status.ERROR}
    assert failed == {"hessian"}
    assert {r.method for r in records if r.status is Status.OK} == {
        *("sgd", "adam", "mini_batch", "subset", "monte_carlo", "both", "slope", "curvature")
    }


def test_one_training_at_a_time_is_in_memory(tmp_path):
    """Each holds a whole data set, and a grid of learning rates has dozens of them."""
    request = Request(Scale.SMOKE, tmp_path)
    experiment = EXPERIMENTS["training-overlap"]
    first, second = (Watched(experiment, x, request) for x in experiment.recipes(request))
    held = weakref.ref(first.training)
    assert first.training is held()
    assert second.training.recipe == second.recipe
    gc.collect()
    assert held() is None


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_quick_is_a_part_of_what_was_published(name):
    """The same tasks and methods, at no larger batch sizes."""
    found = EXPERIMENTS[name]
    assert found.published
    assert found.scaled.endswith(".")
    assert found.description.endswith("?")
    if isinstance(found, Measurement):
        published = {(p.problem, p.task): p for p in found.points(Scale.PAPER)}
        of_paper = {problem for problem, _ in published}
        assert len(found.points(Scale.SMOKE)) <= len(found.points(Scale.QUICK))
        for point in found.points(Scale.QUICK):
            assert point.suite == name
            if point.problem in of_paper:
                whole = published[point.problem, point.task]
                assert {*point.methods} <= {*whole.methods}
                assert (point.batch_size or 0) <= (whole.batch_size or 0)
    else:
        counts = {s: len(found.jobs(Request(s, Path("unused")))) for s in Scale}
        assert counts[Scale.SMOKE] <= counts[Scale.QUICK]


def test_published_grids_are_complete():
    """As the protocol counts: problems, approximations, blocks and numbers of pairs."""
    points = EXPERIMENTS["runtime-eigenpairs"].points(Scale.PAPER)
    assert len(points) == 5 * 10 * 4 * 2
    for name in ("eigenvalues", "eigenpair", "newton"):
        assert len(EXPERIMENTS[f"critical-batch-{name}"].points(Scale.PAPER)) == 5 * 4 * 2
    (tolerances,) = EXPERIMENTS["power-tolerance"].points(Scale.PAPER)
    assert len(tolerances.methods) == 1 + 21
    assert len(EXPERIMENTS["gram-power"].points(Scale.PAPER)) == 10
    request = Request(Scale.PAPER, Path("unused"))
    assert len(EXPERIMENTS["learning-rate-grid"].jobs(request)) == 2 * 36
    jobs = EXPERIMENTS["training-overlap"].jobs(request)
    assert sum("training-overlap: training" in job.title for job in jobs) == 4 * 2


@pytest.mark.parametrize("scale", [*Scale])
def test_optimizers_are_compared_in_the_same_trainings(scale):
    """The same batches, epochs and seed; equally many settings, the published one among them."""
    experiment = EXPERIMENTS["second-order-training"]
    recipes = experiment.recipes(Request(scale, Path("unused"), seed=3))
    assert len({recipe.digest for recipe in recipes}) == len(recipes)
    assert {(x.batch_size, x.seed) for x in recipes} == {(128, 3)}
    assert len({x.epochs for x in recipes}) == 1
    counts = Counter((x.problem, x.optimizer.value) for x in recipes)
    assert len({*counts.values()}) == 1
    assert len(counts) == 5 * len(experiment.problems[scale])
    rates = {
        x.learning_rate for x in recipes if x.optimizer == LanczosNewton(10, 10, Start.RANDOM)
    }
    assert rates == {1.0}


def test_moments_of_a_training_are_those_of_the_protocol():
    found = moments(100, 100)
    expected = np.geomspace(1, 100, 100) - 1
    assert found[0] == 0
    assert found[-1] == 99
    np.testing.assert_allclose(found, expected, atol=1e-4)


def largest_eigenvalues(instance, count):
    """Of ``J^T H J``, from the small matrix ``H^(1/2) J J^T H^(1/2)``."""
    names = [name for name, _ in instance.model.named_parameters()]
    j = jacobian(instance.model, instance.inputs, names).flatten(end_dim=1)
    outputs = instance.model(instance.inputs)
    values, vectors = torch.linalg.eigh(
        loss_hessian(instance.loss_func, outputs, instance.targets)
    )
    factor = (vectors * values.clamp(min=0).sqrt()).T @ j
    return torch.linalg.eigvalsh(factor @ factor.T)[-count:]


def test_derivatives_of_a_training_add_up(smoke):
    """The gradient lies in the range of V: shares of all directions sum up to one."""
    rows = records_of(smoke, "training-derivatives")
    found = [record for record in rows if record.quantity is Quantity.DERIVATIVES]
    assert [record.parameters["epoch"] for record in found] == [0, 1]
    for record in found:
        details = record.details
        assert len(details["slopes"]) == len(record.samples)
        total = sum(slope**2 for slope in details["slopes"])
        assert total == pytest.approx(details["squared_gradient"], rel=1e-2)
        assert record.samples == sorted(record.samples)


def test_spectra_are_those_of_the_approximations(smoke):
    instance = PROBLEMS["digits_mlp"].make(32, "cpu", torch.float32, 0)
    records = {
        (r.parameters["approximation"], r.parameters["subset"]): r
        for r in records_of(smoke, "spectral-density")
    }
    assert {*records} == {(a.value, s.value) for a in Approximation for s in Subset}
    for subset, first in ((Subset.WHOLE, 32), (Subset.EIGHTH, 4)):
        values = largest_eigenvalues(instance.first(first).double(), 9 * first)
        found = torch.tensor(records["exact", subset.value].samples).double()
        torch.testing.assert_close(found, values, rtol=1e-3, atol=1e-5 * float(values.max()))


def test_records_are_plain(smoke):
    """JSON without what JSON lacks, and no place of this machine in it."""
    for file in smoke.glob("*.jsonl"):
        text = file.read_text()
        assert str(Path.home()) + "/" not in text
        for line in text.splitlines():
            json.loads(line, parse_constant=pytest.fail)
