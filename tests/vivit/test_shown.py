"""What results look like in a session and in a notebook."""

import torch
from torch import nn

import vivit

MODEL = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
GGN = vivit.GGN(MODEL, nn.CrossEntropyLoss(), (torch.randn(6, 5), torch.zeros(6).long()))


def test_pairs():
    pairs = GGN.eigh(k=2)
    low, high = (f"{float(x):.3g}" for x in pairs.values)
    assert repr(pairs) == (
        f"EigenPairs(values=[2] from {low} to {high}, "
        "vectors=4 parameters (0.weight, 0.bias, 2.weight, ...))"
    )
    shown = pairs._repr_html_()
    assert shown.startswith("<table><caption>EigenPairs</caption><tr><th")
    assert f"[2] from {low} to {high}" in shown


def test_derivatives():
    shown = repr(GGN.directional_derivatives(k=3))
    assert shown.startswith("DirectionalDerivatives(gammas=[6, 3] from ")
    assert "lambdas=[6, 3] from " in shown
    assert "<caption>DirectionalDerivatives" in GGN.directional_derivatives(k=3)._repr_html_()


def test_nothing_to_show():
    assert (
        repr(vivit.EigenPairs(torch.empty(0), {}))
        == "EigenPairs(values=[0], vectors=0 parameters ())"
    )
