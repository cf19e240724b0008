"""Models whose samples depend on each other: which layer it is, and what is allowed."""

import pytest
import torch
from torch import nn

import vivit
from vivit.errors import UnsupportedError

CE = nn.CrossEntropyLoss()


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


class Centred(nn.Module):
    """Subtracts the mean of all samples."""

    def forward(self, x):
        return x - x.mean(dim=0)


class Block(nn.Module):
    """Mixes between two layers of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.second(self.first(x).softmax(dim=0))


class Windows(nn.Module):
    """Folds samples into an axis of its own making, and back."""

    def forward(self, x):
        return x.T.reshape(2, -1, len(x)).flip(2)


class Unfold(nn.Module):
    """Undoes `Windows`."""

    def forward(self, x):
        return x.flip(2).reshape(-1, x.shape[2]).T


class AlongTheWrongAxis(nn.Module):
    """Attention that takes the samples for positions."""

    def __init__(self):
        super().__init__()
        self.embed, self.attention = nn.Linear(4, 4), nn.MultiheadAttention(4, 2)

    def forward(self, x):
        h = self.embed(x).unflatten(1, (2, 2)).repeat(1, 1, 2)
        return self.attention(h, h, h, need_weights=False)[0][:, 0]


def layers(*modules):
    return nn.Sequential(nn.Linear(4, 4), *modules, nn.Tanh(), nn.Linear(4, 3))


LAYERS = {
    "a leaf": (lambda: layers(nn.Tanh(), Centred()), "in Centred '2'"),
    "two leaves": (lambda: layers(Centred(), nn.Linear(4, 4), Centred()), "in Centred '1'"),
    "a leaf of a container": (
        lambda: layers(nn.Sequential(nn.Linear(4, 4), Centred())),
        r"in Centred '1\.1'",
    ),
    "between layers": (
        lambda: layers(Block()),
        "between modules, in the forward of Block '1'",
    ),
    "in the model itself": (Block, "between modules, in the forward of Block[.]"),
    "other layouts before": (
        lambda: layers(Windows(), nn.Tanh(), Unfold(), Centred()),
        "in Centred '4'",
    ),
    "attention": (
        AlongTheWrongAxis,
        "between modules, in the forward of MultiheadAttention 'attention'",
    ),
}


@pytest.mark.parametrize("n", [2, 5, 20])
@pytest.mark.parametrize(("model", "place"), LAYERS.values(), ids=LAYERS)
def test_the_layer_that_mixes_is_named(model, place, n):
    torch.manual_seed(0)
    network = model().double()
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in network.modules()]
    with pytest.raises(UnsupportedError, match=f"others in the batch, {place}"):
        vivit.GGN(network, CE, (normal(n, 4), torch.arange(n) % 3)).gram()
    left = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in network.modules()]
    assert left == hooks


@pytest.mark.filterwarnings("ignore:The model computes in")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_layer_is_named_in_other_precisions(dtype):
    torch.manual_seed(0)
    network = layers(nn.Tanh(), Centred()).to(dtype)
    with pytest.raises(UnsupportedError, match="others in the batch, in Centred '2'"):
        vivit.GGN(network, CE, (normal(5, 4).to(dtype), torch.arange(5) % 3)).gram()


NOT_FOUND = {
    "outside of all modules": lambda model, x: model(x - x.mean(dim=0)).softmax(dim=0),
}


@pytest.mark.parametrize("forward", NOT_FOUND.values(), ids=NOT_FOUND)
def test_no_layer_is_named_that_does_not_mix(forward):
    with pytest.raises(UnsupportedError, match="others in the batch, somewhere after 'weight'"):
        vivit.GGN(
            nn.Linear(4, 3).double(), CE, (normal(5, 4), torch.arange(5) % 3), forward=forward
        ).gram()


def test_memory_is_not_spent_on_a_name(monkeypatch):
    monkeypatch.setattr("vivit.backprop.mixing.available_bytes", lambda device: 1000)
    with pytest.raises(UnsupportedError, match="others in the batch, somewhere after"):
        vivit.GGN(layers(Centred()).double(), CE, (normal(5, 4), torch.arange(5) % 3)).gram()


def test_a_model_that_cannot_be_run_twice_alike_is_refused_all_the_same():
    class Counting(Centred):
        calls = 0

        def __init__(self):
            super().__init__()
            self.extra = nn.Identity()

        def forward(self, x):
            self.calls += 1
            return self.extra(super().forward(x)) if self.calls % 2 else super().forward(x)

    model = layers(Counting()).double()
    with pytest.raises(UnsupportedError, match="others in the batch, somewhere after"):
        vivit.GGN(model, CE, (normal(5, 4), torch.arange(5) % 3)).gram()
