"""The neural tangent kernel against contracted dense float64 Jacobians, on every case."""

import functools
import sys
from copy import deepcopy

import oracle
import pytest
import torch
from cases import CASES
from torch import nn

import vivit
from vivit.errors import InputError, InsufficientMemoryError, UnsupportedError

TOLERANCE = 1e-12
NAMED = {case.name: case for case in CASES}
ON_EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)

OF_THEIR_BATCH = ("latent", "output is a parameter", "permuted", "lookup", "broadcasts")
"""Models that are another function for another batch."""


@functools.cache
def made(case):
    """A case, and its Jacobian."""
    model, _, x, _ = case.make()
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    return model, x, oracle.jacobian(model, x, names)


def contracted(left, right):
    return torch.einsum("nad,mbd->nmab", left, right)


def assert_close(actual, expected, tolerance=TOLERANCE):
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


@ON_EVERY_CASE
def test_one_set(case):
    model, x, j = made(case)
    kernel, exact = vivit.ntk(model, x), contracted(j, j)
    assert_close(kernel, exact)
    assert torch.equal(kernel, kernel.transpose(0, 1).transpose(2, 3))
    assert_close(vivit.ntk(model, x, outputs="trace"), exact.diagonal(dim1=2, dim2=3).sum(2))


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.name not in OF_THEIR_BATCH],
    ids=lambda case: case.name,
)
def test_two_sets_and_blocks(case, batch_size):
    model, x, j = made(case)
    some = [i % len(x) for i in (2, 0, 1)]
    exact = contracted(j[some], j)
    assert_close(vivit.ntk(model, x[some], x, batch_size=batch_size), exact)
    trace = vivit.ntk(model, x[some], x, outputs="trace", batch_size=batch_size)
    assert_close(trace, exact.diagonal(dim1=2, dim2=3).sum(2))
    assert_close(vivit.ntk(model, x, batch_size=batch_size), contracted(j, j))


def test_some_parameters():
    model, x, _ = made(NAMED["conv2d"])
    for params in (["*bias"], ["0.weight"], [p for p in model.parameters() if p.ndim == 4]):
        chosen = vivit.GGN(model, nn.CrossEntropyLoss(), (x, torch.zeros(len(x)).long()), params)
        j = oracle.jacobian(model, x, chosen.parameter_names)
        assert_close(vivit.ntk(model, x, params=params), contracted(j, j))


class Keywords(nn.Module):
    """Takes two inputs and gives a dictionary."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3).double()
        self.eval()

    def forward(self, *, a, b):
        return {"logits": self.layer(a + b)}


def test_forward():
    model, x = Keywords(), torch.randn(4, 5).double()
    kernel = vivit.ntk(
        model, x, params=["layer.weight"], forward=lambda m, x: m(a=x, b=x)["logits"]
    )
    assert_close(kernel, vivit.ntk(model.layer, 2 * x, params=["weight"]))
    assert not model.training


def test_inputs_that_are_no_tensor():
    model, x = Keywords(), torch.randn(2, 4, 5).double()

    def forward(m, pair):
        return m(a=pair[0], b=pair[1])["logits"]

    kernel = vivit.ntk(model, (x[0], x[1]), (x[1], x[1]), forward=forward)
    assert_close(kernel, vivit.ntk(model.layer, x.sum(dim=0), 2 * x[1]))


def test_images_of_other_sizes():
    """Sets may differ in all but the shape of the outputs: what layers keep does then, too."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8, 2)
    ).double()
    small, large = torch.randn(3, 1, 4, 4).double(), torch.randn(2, 1, 12, 11).double()
    names = [name for name, _ in model.named_parameters()]
    exact = contracted(*(oracle.jacobian(model, x, names) for x in (small, large)))
    assert_close(vivit.ntk(model, small, large), exact)
    assert_close(vivit.ntk(model, large, small), exact.transpose(0, 1).transpose(2, 3))


@pytest.mark.parametrize(
    ("outputs", "memory", "largest"),
    [("full", 130_000, 20), ("full", 10**9, 40), ("trace", 30_000, 20), ("trace", 10**9, 40)],
)
def test_blocks_are_as_small_as_it_takes(outputs, memory, largest, monkeypatch):
    model, x, j = made(NAMED["forty samples"])
    sizes = []
    module = sys.modules["vivit.ntk"]  # the package has the function under this name
    split = module._blocks
    monkeypatch.setattr(module, "_blocks", lambda x, size: sizes.append(size) or split(x, size))
    exact = contracted(j, j)
    if outputs == "trace":
        exact = exact.diagonal(dim1=2, dim2=3).sum(2)
    assert_close(vivit.ntk(model, x, outputs=outputs, memory=memory, workspace=2000), exact)
    assert sizes[0] <= largest
    assert largest < 40 or sizes[0] == 40


def test_kernels_that_do_not_fit_are_refused():
    model, x, _ = made(NAMED["forty samples"])
    with pytest.raises(
        InsufficientMemoryError, match=r"120 by 120 outputs .* Use outputs='trace'"
    ):
        vivit.ntk(model, x, memory=100_000)


def test_dropout_has_the_same_masks_for_all_blocks_of_a_sample():
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)).double().train()
    x = torch.randn(6, 3).double()
    torch.manual_seed(3)
    whole = vivit.ntk(model, x, batch_size=2)
    for i, rows in enumerate(x.split(2)):
        torch.manual_seed(3)
        for _ in range(i):
            model(x[:2])
        assert_close(whole[2 * i : 2 * i + 2, 2 * i : 2 * i + 2], vivit.ntk(model, rows))


def test_nothing_of_the_model_changes():
    model, x, _ = made(NAMED["conv2d"])
    before = torch.get_rng_state()
    vivit.ntk(model, x)
    assert torch.equal(before, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())


def test_single_precision_and_gradients_off():
    model, x, j = made(NAMED["conv2d"])
    single = vivit.ntk(deepcopy(model).float(), x.float())
    assert_close(single.double(), contracted(j, j), 1e-5)
    with torch.no_grad():
        assert_close(vivit.ntk(model, x), contracted(j, j))
    assert not vivit.ntk(model, x).requires_grad


def test_progress(capsys):
    model, x, _ = made(NAMED["mlp"])
    vivit.ntk(model, x, batch_size=2, progress=True)
    assert "kernel: " in capsys.readouterr().err


BAD = [
    ({"outputs": "diagonal"}, "outputs must be 'full' or 'trace', got 'diagonal'"),
    ({"batch_size": 0}, "batch_size must be a whole number, at least 1, got 0"),
    ({"X2": torch.zeros(0, 5).double()}, "The set X2 is empty: it has shape \\[0, 5\\]"),
    ({"X": torch.zeros(0, 5).double()}, "The set X is empty"),
    ({"params": ["nothing"]}, "No parameter is called 'nothing'"),
    ({"workspace": 0}, "workspace must be a number of bytes"),
    ({"X": torch.full((2, 5), torch.nan).double()}, "The model output is NaN or infinite"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda x: "" if x is BAD else None)
def test_bad_arguments(arguments, message):
    model, x, _ = made(NAMED["mlp"])
    with pytest.raises(InputError, match=message):
        vivit.ntk(model, **{"X": x, **arguments})


def test_sets_of_other_lengths():
    """Each has its own number of outputs, whole or in blocks."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, x2 = torch.randn(3, 2, 3).double(), torch.randn(4, 5, 3).double()
    names = [name for name, _ in model.named_parameters()]
    j, j2 = (oracle.jacobian(model, of_set, names) for of_set in (x, x2))
    expected = torch.einsum("ncp,mdp->nmcd", j, j2)
    for options in ({}, {"batch_size": 2}):
        assert torch.allclose(vivit.ntk(model, x, x2, **options), expected)


class Shortened(nn.Module):
    """As many outputs of each sample as there are samples."""

    def forward(self, x):
        return x[:, : len(x)]


def test_outputs_without_common_axes():
    model = nn.Linear(3, 2).double()
    x, x2 = torch.zeros(4, 3).double(), torch.zeros(4, 5, 3).double()
    message = r"need one shape, for each sample: got \[2\] and then \[5, 2\]\. Two sets X and X2"
    with pytest.raises(InputError, match=message):
        vivit.ntk(model, x, x2, outputs="trace")
    changing = nn.Sequential(nn.Linear(3, 4), Shortened()).double()
    with pytest.raises(InputError, match=r"got \[2\] and then \[1\]"):
        vivit.ntk(changing, torch.randn(3, 3).double(), batch_size=2)


def test_what_mixes_samples_is_refused():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()
    with pytest.raises(UnsupportedError, match="uses the statistics of the batch"):
        vivit.ntk(model, torch.randn(4, 3).double())


class SquareRoot(nn.Module):
    """Its derivative is infinite at zero."""

    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.zeros(2).double())

    def forward(self, x):
        return (x * self.p).sqrt()


def test_infinite_kernels_are_refused():
    with pytest.raises(InputError, match="NaN or infinite"):
        vivit.ntk(SquareRoot(), torch.ones(3, 2).double())


def test_weights_are_no_reason_for_small_blocks(monkeypatch):
    """What a graph holds of them does not grow with the samples."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 500), nn.Tanh(), nn.Linear(500, 500), nn.Linear(500, 1))
    x, sizes, module = torch.randn(600, 4), [], sys.modules["vivit.ntk"]
    split = module._blocks
    monkeypatch.setattr(module, "_blocks", lambda x, size: sizes.append(size) or split(x, size))
    vivit.ntk(model, x, outputs="trace", memory=32 * 2**20, workspace=2**20)
    assert sizes[0] >= 300
