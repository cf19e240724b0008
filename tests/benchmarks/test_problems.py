"""Problems are what they say, and the same each time."""

import copy

import pytest
import torch
from sklearn.datasets import load_digits

from benchmarks.problems import PROBLEMS
from benchmarks.problems.digits import (
    EPOCHS,
    TRAIN_SAMPLES,
    digits,
    digits_batch,
    trained_on_digits,
)
from benchmarks.problems.digits_networks import digits_mlp
from benchmarks.problems.problem import Problem
from benchmarks.problems.scaled_cnn import FAMILY
from benchmarks.problems.vision_transformer import VisionTransformer
from benchmarks.records.label import Label
from benchmarks.records.registry import Registry


@pytest.mark.parametrize("name", PROBLEMS)
def test_instances_are_reproducible(name):
    """Parameter counts are asserted on construction."""
    state = torch.get_rng_state()
    first, second = (PROBLEMS[name].make(3, "cpu", torch.float64, seed=0) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.num_parameters == PROBLEMS[name].num_parameters
    assert len(first.inputs) == len(first.targets) == 3
    assert first.inputs.dtype is (
        torch.int64 if name in ("tiny_transformer", "language_model") else torch.float64
    )
    assert not first.model.training
    for one, other in [
        (first.inputs, second.inputs),
        (first.targets, second.targets),
        *zip(first.model.parameters(), second.model.parameters(), strict=True),
    ]:
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("cifar10_3c3d", 895_210),
        ("fmnist_2c2d", 3_274_634),
        ("cifar10_resnet32", 464_154),
        ("cifar100_allcnnc", 1_387_108),
        ("mlp_linear", 699_690),
    ],
)
def test_published_parameter_counts(name, count):
    assert PROBLEMS[name].num_parameters == count


def test_synthetic_data_depends_on_the_seed():
    first, second = (PROBLEMS["fmnist_2c2d"].make(2, "cpu", torch.float32, s) for s in (0, 1))
    assert not torch.equal(first.inputs, second.inputs)


def test_digits_are_those_of_scikit_learn():
    images, classes = load_digits(return_X_y=True)
    inputs, labels = digits()
    assert torch.equal(inputs.flatten(1) * 16, torch.as_tensor(images).float())
    assert torch.equal(labels, torch.as_tensor(classes))


def test_digits_are_learnt_by_torchs_adam():
    """In every bit."""
    torch.manual_seed(0)
    model, (inputs, labels) = digits_mlp(), digits()
    other = copy.deepcopy(model)
    trained_on_digits(model, accuracy=0.9, seed=3)
    generator = torch.Generator().manual_seed(3)
    optimizer = torch.optim.Adam(other.parameters(), lr=1e-2)
    for _ in range(EPOCHS):
        for batch in torch.randperm(TRAIN_SAMPLES, generator=generator).split(128):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(other(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    for p, wanted in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, wanted)
        assert p.grad is None


def test_digits_need_scikit_learn(monkeypatch):
    monkeypatch.setattr("benchmarks.problems.digits.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="scikit-learn has the digits: install the ex"):
        digits()


@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn"])
def test_digits_are_classified(name):
    instance = PROBLEMS[name].make(8, "cpu", torch.float32, seed=0)
    inputs, labels = digits()
    with torch.no_grad():
        predicted = instance.model(inputs[TRAIN_SAMPLES:]).argmax(1)
    assert (predicted == labels[TRAIN_SAMPLES:]).float().mean() >= 0.9


def test_training_must_reach_its_accuracy():
    with pytest.raises(RuntimeError, match=r"test accuracy of 0\.\d+ < 1.1"):
        trained_on_digits(digits_mlp(), accuracy=1.1, seed=0)


@pytest.mark.parametrize("size", [0, TRAIN_SAMPLES + 1])
def test_digits_have_limits(size):
    with pytest.raises(ValueError, match=f"batches of 1 to {TRAIN_SAMPLES}, got {size}"):
        digits_batch(size)


@pytest.mark.parametrize(("classes", "width"), FAMILY)
def test_family_has_the_sizes_that_it_says(classes, width):
    problem = PROBLEMS[f"cnn_c{classes}_w{width}"]
    instance = problem.make(2, "cpu", torch.float32, seed=0)
    assert problem.sizes == {"classes": classes, "width": width}
    assert instance.model(instance.inputs).shape == (2, classes)
    assert instance.model[0].out_channels == width


@pytest.mark.parametrize("token", [True, False])
def test_a_class_token_is_one_more_position(token):
    model = VisionTransformer(size=8, patch=4, width=16, depth=1, classes=3, token=token)
    assert model.positions.shape == (1, 4 + token, 16)
    assert model(torch.rand(2, 3, 8, 8)).shape == (2, 3)
    assert (model.token is not None) == token


def test_running_statistics_are_filled():
    model = PROBLEMS["cifar10_resnet32"].make(4, "cpu", torch.float32, seed=0).model
    assert model[1].num_batches_tracked == 5
    assert model[1].running_mean.abs().max() > 0


def test_instances_can_be_cut_and_copied():
    instance = PROBLEMS["mlp_linear"].make(4, "cpu", torch.float32, seed=0)
    first, double = instance.first(2), instance.double()
    assert first.model is instance.model
    assert (len(first.inputs), len(first.targets)) == (2, 2)
    assert {t.dtype for t in (double.inputs, double.targets)} == {torch.float64}
    assert next(instance.model.parameters()).dtype is torch.float32


def test_wrong_parameter_count():
    problem = Problem("wrong", Label("wrong"), "", "real", 1, PROBLEMS["fmnist_2c2d"].maker)
    with pytest.raises(ValueError, match="'wrong' has 3274634 parameters, expected 1"):
        problem.make(1, "cpu", torch.float32, 0)


def test_registry():
    entry = PROBLEMS["digits_mlp"]
    with pytest.raises(ValueError, match="two problems called 'digits_mlp'"):
        Registry("problem", [entry, entry])
    with pytest.raises(
        KeyError,
        match=r"Unknown problem 'mnist': did you mean fmnist_2c2d\? Choose from: digits_mlp, ",
    ):
        PROBLEMS["mnist"]
    assert "mnist" not in PROBLEMS
    assert len(PROBLEMS) == len(list(PROBLEMS))
