"""Data sets of torchvision, for which a fake stands."""

import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.problems import PROBLEMS
from benchmarks.problems.datasets import DataError, images
from benchmarks.training.data import Sets
from benchmarks.training.loop import Training
from benchmarks.training.recipe import Optimizer, Recipe


class FakeCifar:
    def __init__(self, root, train, download):
        assert not download
        if not root.exists():
            raise RuntimeError("Dataset not found or corrupted.")
        generator = np.random.default_rng(0 if train else 1)
        self.data = generator.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
        self.targets = [i % 10 for i in range(20)]

    def __len__(self):
        return len(self.data)


class FakeFashion(FakeCifar):
    def __init__(self, root, train, download):
        super().__init__(root, train, download)
        self.data = torch.from_numpy(self.data[:, 2:30, 2:30, 0].copy())
        self.targets = torch.tensor(self.targets)


@pytest.fixture
def torchvision(monkeypatch):
    datasets = types.SimpleNamespace(CIFAR10=FakeCifar, FashionMNIST=FakeFashion)
    module = types.ModuleType("torchvision")
    module.datasets = datasets
    monkeypatch.setitem(sys.modules, "torchvision", module)


@pytest.mark.parametrize("name", ["cifar10_3c3d", "fmnist_2c2d", "cifar10_resnet32"])
def test_real_images_take_the_place_of_noise(torchvision, tmp_path, name):
    problem = PROBLEMS[name]
    real, noise = (problem.make(4, "cpu", torch.float32, 0, root) for root in (tmp_path, None))
    assert real.inputs.shape == noise.inputs.shape
    assert real.targets.tolist() == [0, 1, 2, 3]
    assert 0 <= real.inputs.min() < 0.1 < 0.9 < real.inputs.max() <= 1
    assert not torch.equal(real.inputs, noise.inputs)
    assert torch.equal(*(next(x.model.parameters()) for x in (real, noise)))
    assert (problem.kind_of_data(tmp_path), problem.kind_of_data(None)) == ("real", "synthetic")


def test_channels_come_first(torchvision, tmp_path):
    found, _ = images("CIFAR10", tmp_path, count=2)
    pixels = FakeCifar(tmp_path, True, False).data
    assert torch.equal(found[1, 2] * 255, torch.from_numpy(pixels[1, :, :, 2]).float())


def test_what_is_lacking_is_told(torchvision, tmp_path):
    with pytest.raises(DataError, match=r"Expected CIFAR10 in .*absent, as torchvision.datasets"):
        images("CIFAR10", tmp_path / "absent", count=2)
    for train, kind in ((True, "training"), (False, "test")):
        with pytest.raises(DataError, match=f"has 20 {kind} images, but 21 were asked for"):
            images("CIFAR10", tmp_path, train, 21)


def test_without_torchvision(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(DataError, match=r"CIFAR10 needs a torchvision that fits.*--data-root"):
        images("CIFAR10", tmp_path, count=2)


@pytest.mark.parametrize("name", ["cifar10_3c3d", "fmnist_2c2d", "cifar10_resnet32"])
def test_trainings_read_both_sets(torchvision, tmp_path, name):
    """And nothing of the problem but its untrained network, from the seed."""
    recipe = Recipe(name, Optimizer.SGD, 0.1, 8, 1, data_root=tmp_path)
    sets = Sets.of(recipe)
    assert recipe.parameters["data"] == "real"
    assert sets.train.num_samples == sets.test.num_samples == 20
    assert not torch.equal(sets.train.inputs, sets.test.inputs)
    assert sets.train.num_parameters == PROBLEMS[name].num_parameters
    again, other = (Sets.of(replace(recipe, seed=seed)) for seed in (0, 1))
    first, second, third = (next(x.train.model.parameters()) for x in (sets, again, other))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert Training(recipe, tmp_path).run().diverged is None
