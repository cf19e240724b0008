"""Models that are called in another way: the same quantities, under the model's own names."""

import pytest
import torch
from cases import CASES
from torch import nn

import vivit
from vivit.errors import InputError, UnsupportedError

ON_EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def forward(model, batch):
    return model(batch["inputs"])


def close(actual, expected):
    return torch.allclose(actual, expected, rtol=1e-9, atol=1e-12 * float(expected.abs().max()))


@ON_EVERY_CASE
def test_quantities(case):
    model, loss_func, x, y = case.make()
    plain = vivit.GGN(model, loss_func, (x, y))
    called = vivit.GGN(model, loss_func, ({"inputs": x}, y), forward=forward)
    assert called.parameter_names == plain.parameter_names
    assert close(called.eigvalsh(), plain.eigvalsh())
    assert called.plan().done.served_by == plain.plan().done.served_by
    v = torch.linspace(-1, 1, plain.shape[0], dtype=x.dtype)
    assert close(called @ v, plain @ v)
    for name, x in plain.gradient().items():
        assert torch.equal(called.gradient()[name], x)


def test_subsets_fishers_and_blocks():
    model, loss_func, x, y = CASES[0].make()
    data, other = (x, y), ({"inputs": x}, y)
    for subset in (None, [0, 2]):
        for kind in (vivit.GGN, vivit.EmpiricalFisher):
            plain = kind(model, loss_func, data, subset=subset)
            called = kind(model, loss_func, other, subset=subset, forward=forward)
            assert close(called.eigvalsh(), plain.eigvalsh())
    blocks = vivit.block_diagonal(model, loss_func, data)
    called = vivit.block_diagonal(model, loss_func, other, forward=forward)
    assert [*called] == [*blocks]
    assert all(close(called[group].eigvalsh(), blocks[group].eigvalsh()) for group in blocks)


def test_modes_and_names_are_the_models_own():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    data = {"inputs": torch.randn(4, 3)}, torch.zeros(4).long()
    with pytest.raises(UnsupportedError, match="BatchNorm1d '1' uses"):
        vivit.GGN(model, nn.CrossEntropyLoss(), data, forward=forward)
    model.eval()
    assert vivit.GGN(model, nn.CrossEntropyLoss(), data, forward=forward).parameter_names
    assert not any(module.training for module in model.modules())


def test_what_cannot_be_called():
    model, loss_func, x, y = CASES[0].make()
    with pytest.raises(InputError, match="forward must map the model and a batch"):
        vivit.GGN(model, loss_func, (x, y), forward="logits")
