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


def in_place(model):
    """Compiled without a wrapper."""
    model.compile()
    return model


def inner(model):
    """A compiled part."""
    return nn.Sequential(torch.compile(model[0]), *model[1:])


def parallel(model):
    """As on a machine of several processes, which a test has none of."""
    wrapped = nn.parallel.DistributedDataParallel.__new__(nn.parallel.DistributedDataParallel)
    nn.Module.__init__(wrapped)
    wrapped.module = model
    return wrapped


WRAPPERS = {
    "compiled": torch.compile,
    "compiled in place": in_place,
    "compiled part": inner,
    "DataParallel": nn.DataParallel,
    "DistributedDataParallel": parallel,
    "both": lambda model: torch.compile(parallel(model)),
}


@pytest.mark.filterwarnings("ignore:`torch.jit.*is deprecated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_wrappers(wrap):
    """What is within counts, under its own names, and runs as it is written."""
    model, loss_func, x, y = CASES[0].make()
    plain = vivit.GGN(model, loss_func, (x, y))
    kernel, values, product = vivit.ntk(model, x), plain.eigvalsh(), plain @ plain.gradient()
    wrapped = wrap(model)
    ggn = vivit.GGN(wrapped, loss_func, (x, y))
    names = [name.replace("_orig_mod.", "") for name in ggn.parameter_names]
    assert names == plain.parameter_names
    assert torch.equal(ggn.eigvalsh(), values)
    assert set(ggn.plan().done.served_by.values()) == {"affine"}
    assert torch.equal(ggn.flatten(ggn @ ggn.gradient()), plain.flatten(product))
    assert torch.equal(vivit.ntk(wrapped, x), kernel)
