"""Trainings: what is learnt, and that a killed one goes on as if nothing had happened."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import pytest
import torch

from benchmarks.problems.datasets import DataError
from benchmarks.run.process import ROOT
from benchmarks.training.curvature import (
    BootstrapNewton,
    Directions,
    LanczosNewton,
    Newton,
    Start,
)
from benchmarks.training.data import Sets
from benchmarks.training.loop import Training
from benchmarks.training.recipe import Optimizer, Recipe

OWN = """
import torch
from torch import nn


def classes(batch_size, device, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(batch_size, 6, generator=generator)
    y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
    middle = nn.ReLU(), nn.BatchNorm1d(8), nn.Dropout()
    model = nn.Sequential(nn.Linear(6, 8), *middle, nn.Linear(8, 3))
    return model.to(device, dtype), nn.CrossEntropyLoss(), X.to(device, dtype), y.to(device)


def smooth(batch_size, device, dtype, seed):
    # no BatchNorm, with which there is no curvature of single samples
    _, loss, X, y = classes(batch_size, device, dtype, seed)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))
    return model.to(device, dtype), loss, X, y


def values(batch_size, device, dtype, seed):
    model, _, X, _ = classes(batch_size, device, dtype, seed)
    return model, nn.MSELoss(), X, torch.stack([X[:, 0], X[:, 1], X[:, 2]], dim=1)


def unbounded(batch_size, device, dtype, seed):
    _, loss, X, y = values(batch_size, device, dtype, seed)
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)), loss, X, y
"""

PER_EPOCH = 6

CURVATURES = [
    Newton(1.0, Directions.ALL),
    BootstrapNewton(Directions.LEADING),
    LanczosNewton(1.0, 3, Start.RANDOM),
    LanczosNewton(1.0, 3, Start.GRADIENT),
]


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(OWN)

    def recipe(function="classes", optimizer=Optimizer.SGD, rate=0.1, **options):
        options = {"batch_size": 10, "epochs": 4, "samples": 72} | options
        return Recipe(f"{file}:{function}", optimizer, rate, **options)

    return recipe


def kept(steps_per_epoch):
    return [0, 1, steps_per_epoch, 2 * steps_per_epoch + 3, 4 * steps_per_epoch]


def everything(training):
    """Parameters, buffers, optimizer and curve, at the end and at the steps that are kept."""
    found = {file.name: torch.load(file, weights_only=True) for file in training.folder.iterdir()}
    curve = found["state.pt"]["curve"]
    assert len(curve.pop("seconds")) == len(curve["train_loss"])
    return found


def assert_same_bits(first, second):
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert isinstance(second, dict)
        assert [*first] == [*second]
        for name in first:
            assert_same_bits(first[name], second[name])
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same_bits(one, other)
    else:
        assert first == second


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("function", "optimizer"),
    [
        *product(["classes", "values"], Optimizer),
        *(("smooth", curvature) for curvature in CURVATURES),
    ],
    ids=str,
)
def test_killed_anywhere_it_goes_on_to_the_same_bits(
    tmp_path, monkeypatch, own, function, optimizer
):
    """Dropout, running statistics, momentum and moments of Adam, random vectors among them."""
    recipe = own(function, optimizer)
    whole = Training(recipe, tmp_path / "whole", kept)
    whole.run()
    begin = torch.get_rng_state()
    for step in (0, 2, PER_EPOCH, 2 * PER_EPOCH + 3, 4 * PER_EPOCH):
        training = Training(recipe, tmp_path / "killed", kept)
        keep = training._keep

        def kill(at, step=step, keep=keep):
            keep(at)
            if at == step:
                raise Killed

        monkeypatch.setattr(training, "_keep", kill)
        with pytest.raises(Killed):
            training.run()
    last = Training(recipe, tmp_path / "killed", kept)
    last.run()
    assert_same_bits(everything(whole), everything(last))
    assert torch.equal(torch.get_rng_state(), begin)


SCRIPT = """
import sys
from pathlib import Path
import torch
from benchmarks.training.loop import Training
from benchmarks.training.recipe import Optimizer, Recipe
torch.set_num_threads(1)
recipe = Recipe("digits_mlp", Optimizer.ADAM, 1e-3, 32, epochs=int(sys.argv[2]))
Training(recipe, Path(sys.argv[1])).run()
"""


def test_a_killed_process_leaves_what_the_next_one_needs(tmp_path):
    """SIGKILL, at a time of its own choosing."""
    epochs = 60
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "killed"), str(epochs)]
    process = subprocess.Popen(command, cwd=ROOT)
    while not [*tmp_path.glob("killed/*/state.pt")] and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trainings = [
            Training(Recipe("digits_mlp", Optimizer.ADAM, 1e-3, 32, epochs), tmp_path / name)
            for name in ("killed", "whole")
        ]
        left = [torch.load(file) for file in tmp_path.glob("killed/*/state.pt")]
        curves = [training.run() for training in trainings]
    finally:
        torch.set_num_threads(threads)
    assert 0 < left[0]["epoch"] < epochs
    assert curves[0] == curves[1]
    assert_same_bits(*(everything(training) for training in trainings))


def test_networks_learn(tmp_path, own):
    """Real digits, and a problem of the user's own; the first entry is from before."""
    curve = Training(Recipe("digits_mlp", Optimizer.ADAM, 5e-3, 32, 5), tmp_path).run()
    assert curve.test_accuracy[0] < 0.2 < 0.8 < curve.test_accuracy[-1]
    assert curve.train_loss[0] > 5 * curve.train_loss[-1]
    assert len(curve.test_loss) == len(curve.train_accuracy) == 6
    regression = Training(own("values", epochs=8), tmp_path).run()
    assert regression.test_accuracy == []
    assert regression.test_loss[-1] < 0.8 * regression.test_loss[0]


def test_steps_that_are_kept_are_those_of_the_training(tmp_path, own):
    recipe = own()
    training = Training(recipe, tmp_path, kept)
    start = {name: x.clone() for name, x in training.model.state_dict().items()}
    training.run()
    end = {name: x.clone() for name, x in training.model.state_dict().items()}
    assert_same_bits(training.at(4 * PER_EPOCH).train.model.state_dict(), end)
    sets = training.at(0)
    assert_same_bits(sets.train.model.state_dict(), start)
    assert sets.test.model is sets.train.model
    assert not sets.train.model.training
    with pytest.raises(
        FileNotFoundError, match=r"no checkpoint of own.py:classes sgd 0.1 at step 3"
    ):
        training.at(3)
    further = Training(recipe, tmp_path, lambda steps: [3])
    before = everything(training)
    further.run()
    assert further.has(3)
    after = everything(training)
    assert_same_bits(before, {name: after[name] for name in before})


def test_order_of_the_data_does_not_depend_on_the_optimizer(tmp_path, monkeypatch, own):
    orders = []
    for optimizer in (*Optimizer, *CURVATURES):
        training, seen = Training(own("smooth", optimizer), tmp_path), []
        samples = type(training.sets.train).samples

        def spy(instance, chosen, seen=seen, samples=samples):
            if isinstance(chosen, torch.Tensor):
                seen.append(chosen.tolist())
            return samples(instance, chosen)

        monkeypatch.setattr(type(training.sets.train), "samples", spy)
        training.run()
        monkeypatch.undo()
        orders.append(seen)
    assert all(order == orders[0] for order in orders)
    each = [orders[0][n : n + PER_EPOCH] for n in range(0, 4 * PER_EPOCH, PER_EPOCH)]
    epochs = [[sample for batch in batches for sample in batch] for batches in each]
    assert all(sorted(epoch) == [*range(60)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_a_single_sample_that_is_left_goes_with_those_before(tmp_path, own):
    """BatchNorm refuses a batch of one."""
    training = Training(own(samples=73, batch_size=10), tmp_path)
    assert training.sets.train.num_samples == 61
    assert training.steps_per_epoch == 6
    assert len(training.run().train_loss) == 5


def test_other_data_is_another_training(tmp_path, own):
    training = Training(own(), tmp_path)
    other = replace(training.sets.train, targets=1 - training.sets.train.targets)
    assert training.sets.digest in training.folder.name
    assert replace(training.sets, train=other).digest != training.sets.digest


def test_what_diverges_ends_and_says_when(tmp_path, own):
    training = Training(own("values", rate=1e6), tmp_path, kept)
    curve = training.run()
    assert curve.diverged is not None
    assert 1 <= curve.diverged <= 4
    assert len(curve.train_loss) == curve.diverged
    assert Training(own("values", rate=1e6), tmp_path, kept).run() == curve
    with pytest.raises(FileNotFoundError, match="the training diverged, or did not come that far"):
        training.at(4 * PER_EPOCH)


def test_a_step_that_cannot_be_made_ends_the_training(tmp_path, own):
    """In the midst of an epoch, which a training that is told to go on does not begin again."""
    recipe = own("unbounded", Newton(1e-6, Directions.ALL), rate=1e9)
    training = Training(recipe, tmp_path, lambda steps: range(4 * steps))
    curve = training.run()
    assert curve.diverged == len(curve.train_loss) == len(curve.seconds)
    assert not training.has(curve.diverged * PER_EPOCH)
    again = Training(recipe, tmp_path, lambda steps: range(4 * steps))
    again._run_epoch = pytest.fail
    assert again.run() == curve


def test_seconds_of_steps_are_added_up_over_kills(tmp_path, monkeypatch, own):
    """With a clock that goes on by a second whenever it is read; of lost steps they are lost."""
    times = iter(range(10_000))
    monkeypatch.setattr(Training, "_now", lambda self: float(next(times)))
    training = Training(own(), tmp_path)
    keep, last = training._keep, 2 * PER_EPOCH + 3

    def kill(step):
        keep(step)
        if step == last:
            raise Killed

    monkeypatch.setattr(training, "_keep", kill)
    with pytest.raises(Killed):
        training.run()
    curve = Training(own(), tmp_path).run()
    assert curve.seconds == [PER_EPOCH * epoch for epoch in range(5)]


def test_seconds_are_those_of_the_steps(tmp_path, own):
    seconds = Training(own(), tmp_path).run().seconds
    assert seconds[0] == 0.0
    assert all(before < after for before, after in pairwise(seconds))


def test_a_recipe_with_other_code_or_settings_is_another(own):
    recipe = own()
    others = [own(rate=0.2), own(optimizer=Optimizer.ADAM), own("values"), own(epochs=5)]
    others += [own(optimizer=curvature) for curvature in CURVATURES]
    others += [replace(recipe, seed=1), replace(recipe, threads=2), own(samples=80)]
    assert len({recipe.digest, *(other.digest for other in others)}) == 1 + len(others)
    assert own().digest == (before := recipe.digest)
    file = Path(recipe.problem.rpartition(":")[0])
    file.write_text(file.read_text() + "\n# changed\n")
    assert own().digest != before


def test_a_training_with_curvature_is_another_with_another_library(monkeypatch, own):
    folders = {}
    for optimizer in (Optimizer.SGD, CURVATURES[0]):
        read = set()
        monkeypatch.setattr(
            "benchmarks.training.recipe.fingerprint",
            lambda files, root, read=read: read.update(f.relative_to(root) for f in files),
        )
        assert own(optimizer=optimizer).digest
        folders[optimizer] = {file.parts[:2] for file in read}
    without, curved = folders.values()
    assert {("benchmarks", "training"), ("benchmarks", "problems")} == without
    assert curved > without
    assert ("vivit", "ggn.py") in curved


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (("cifar10_3c3d", {}), "needs the data set CIFAR10: name its folder by --data-root, as"),
        (("mlp_linear", {}), "Unknown problem to be trained 'mlp_linear'.*digits_mlp"),
    ],
)
def test_what_cannot_be_trained(recipe, message):
    problem, options = recipe
    with pytest.raises(DataError, match=message):
        Sets.of(Recipe(problem, Optimizer.SGD, 0.1, 8, 1, **options))


def test_too_few_samples(own):
    with pytest.raises(
        DataError, match=r"own.py:classes needs at least 2 samples.*1: .*--samples"
    ):
        Sets.of(own(samples=1))
