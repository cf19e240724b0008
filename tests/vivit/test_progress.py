"""Bars for long runs over data: on request, on standard error, and gone in the end."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

import vivit
from vivit import Lanczos, progress
from vivit.progress import BATCH, PASS, Progress

CE = nn.CrossEntropyLoss()
X = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).double()
Y = torch.tensor([0, 1, 2, 0, 1, 2])
BATCHES = [(X[:2], Y[:2]), (X[2:4], Y[2:4]), (X[4:], Y[4:])]


class Stream(IterableDataset):
    """Does not know how many samples it has."""

    def __iter__(self):
        return zip(X, Y, strict=True)


DATA = {
    "one batch": ((X, Y), "1/1"),
    "batches": (BATCHES, "3/3"),
    "loader": (DataLoader([*zip(X, Y, strict=True)], batch_size=2), "3/3"),
    "stream": (DataLoader(Stream(), batch_size=2), "3 batches"),
    "generator": ((batch for batch in BATCHES), "3 batches"),
}
ACTIONS = {
    "product": (lambda g: g @ torch.ones(g.shape[0]).double(), "product: 100%", "3/3"),
    "scipy": (lambda g: g.to_scipy() @ torch.ones(g.shape[0]).numpy(), "product: 100%", "3/3"),
    "gradient": (lambda g: g.gradient(), "gradient: 100%", "3/3"),
    "eigenvalues": (lambda g: g.eigvalsh(), "backward passes: 100%", "6/6"),
    "eigenvectors": (lambda g: g.eigh(), "vector-Jacobian products", "3 batches"),
    "leading pairs": (lambda g: g.eigh(k=2, method=Lanczos()), "Lanczos: 2 of 2 pairs", "batches"),
    "derivatives": (lambda g: g.directional_derivatives(k=2), "derivatives", "3 batches"),
    "columns": (
        lambda g: g.factor_operator().T @ torch.ones(g.shape[0]).double(),
        "Jacobian-vector products",
        "3 batches",
    ),
}


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()


@pytest.fixture(autouse=True)
def every_step(monkeypatch):
    """Bars are drawn at each step, however short."""
    monkeypatch.setattr(progress, "tqdm", partial(tqdm, mininterval=0))
    monkeypatch.setattr(tqdm, "monitor_interval", 0)


@pytest.mark.parametrize(("data", "count"), DATA.values(), ids=DATA.keys())
def test_forward_passes(data, count, capsys):
    vivit.GGN(model(), CE, data, progress=True)
    shown = capsys.readouterr()
    assert "forward passes: " in shown.err
    assert count in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(("action", "words", "count"), ACTIONS.values(), ids=ACTIONS.keys())
@pytest.mark.parametrize("kind", ["whole", "blocks"])
def test_what_is_done(action, words, count, kind, capsys):
    if kind == "whole":
        ggn = vivit.GGN(model(), CE, BATCHES, progress=True)
    else:
        ggn = vivit.block_diagonal(model(), CE, BATCHES, progress=True)["0"]
    action(ggn)
    shown = capsys.readouterr()
    assert words in shown.err
    assert count in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(("action", "words", "count"), ACTIONS.values(), ids=ACTIONS.keys())
def test_nothing_is_shown_by_default(action, words, count, capfd):
    action(vivit.GGN(model(), CE, BATCHES))
    action(vivit.block_diagonal(model(), CE, BATCHES)["0"])
    assert capfd.readouterr() == ("", "")


def broken(batches):
    yield from batches
    raise RuntimeError("the disk is full")


def test_bars_are_closed_when_something_fails(capsys):
    with pytest.raises(RuntimeError, match="disk is full"):
        vivit.GGN(model(), CE, broken(BATCHES), progress=True)
    assert not tqdm._instances
    ggn = vivit.GGN(model(), CE, [(x.clone(), y) for x, y in BATCHES], progress=True)
    with pytest.raises(vivit.ConvergenceError):
        ggn.eigh(k=3, method=Lanczos(1e-15, max_products=3))
    assert not tqdm._instances
    ggn.eigvalsh()  # has a bar of its own
    assert "backward passes: 100%" in capsys.readouterr().err


def test_parts_of_a_stage_have_no_bar(capsys):
    bars = Progress(shown=True)
    with bars.stage("whole", PASS, total=2):
        with bars.stage("part"):
            bars.advance(PASS, 2)
            bars.advance(BATCH, 5)
    shown = capsys.readouterr().err
    assert "whole: 100%" in shown
    assert "2/2" in shown
    assert "part" not in shown
