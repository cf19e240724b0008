"""What results look like in a session and in a notebook."""

import pytest
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


DEEP = nn.Sequential(*(nn.Linear(5, 5) for _ in range(30)), nn.Linear(5, 3))
DATA = torch.randn(6, 5), torch.arange(6) % 3
CE = nn.CrossEntropyLoss()
MANY = vivit.GGN(DEEP, CE, DATA)
POSTERIOR = vivit.LaplacePosterior(DEEP, CE, DATA, prior_precision=0.5)
SHOWN = {
    "GGN": (
        lambda path: MANY,
        "GGN(shape=(918, 918), num_columns=12, parameters=62 (0.weight, 0.bias, 1.weight, ...))",
    ),
    "EmpiricalFisher": (
        lambda path: vivit.EmpiricalFisher(DEEP, CE, DATA, params=["30.*"]),
        "EmpiricalFisher(shape=(18, 18), num_columns=6, parameters=2 (30.weight, 30.bias))",
    ),
    "blocks": (
        lambda path: vivit.block_diagonal(DEEP, CE, DATA),
        "BlockDiagonal(blocks=31 ('0': (30, 30), '1': (30, 30), '2': (30, 30), ...))",
    ),
    "pairs": (lambda path: MANY.eigh(k=2), "EigenPairs(values=[2] from "),
    "derivatives": (lambda path: MANY.directional_derivatives(k=2), "DirectionalDerivatives(g"),
    "plan": (
        lambda path: vivit.GGN(DEEP, CE, DATA).plan(),
        "Plan(num_columns=12, layers=31, matrices=1 (M x M, inner products of columns), flops=",
    ),
    "plan that was done": (
        lambda path: (MANY.gram(), MANY.plan())[1],
        "parameters: 62 affine)",
    ),
    "check": (
        lambda path: vivit.check(DEEP, CE, DATA),
        "parameters   62 of 62 by fast rules\nGram matrix  12 columns",
    ),
    "check that refuses": (
        lambda path: vivit.check(DEEP, CE, (DATA[0].numpy(), DATA[1])),
        "refused (1)  X is a numpy array",
    ),
    "posterior": (
        lambda path: POSTERIOR,
        "LaplacePosterior(parameters=918, samples=6, prior_precision=0.5)",
    ),
    "predictive": (
        lambda path: POSTERIOR.predictive(DATA[0]),
        "Predictive(mean=[6, 3] from ",
    ),
    "predictive of no classes": (
        lambda path: vivit.LaplacePosterior(
            DEEP, nn.MSELoss(), (DATA[0], DATA[0][:, :3])
        ).predictive(DATA[0]),
        ", link=none)",
    ),
    "factor": (lambda path: MANY.factor_operator().T, "FactorOperator(shape=(12, 918))"),
    "Gram matrix": (lambda path: MANY.gram_operator(), "GramOperator(shape=(12, 12))"),
    "inverse": (
        lambda path: MANY.inverse_operator(0.5),
        "InverseOperator(shape=(918, 918), damping=0.5)",
    ),
    "inverse that was used": (
        lambda path: used(MANY.inverse_operator(0.5)),
        "damping=0.5, residual=[1] from ",
    ),
    "monitor": (
        lambda path: vivit.Monitor(DEEP, CE, DATA, path=path, k=2),
        "Monitor(every=100, quantities=8 (eigenvalues, gradient, noise, ...), k=2, path=",
    ),
    "monitor with a budget": (
        lambda path: vivit.Monitor(DEEP, CE, DATA, path=path, budget=0.05),
        ", last step=None, budget=0.05)",
    ),
    "observation": (
        lambda path: vivit.Monitor(DEEP, CE, DATA, path=path)(7),
        "Observation(step=7, seconds=",
    ),
    "layers of an observation": (
        lambda path: vivit.Monitor(DEEP, CE, DATA, path=path)(7),
        ", size=918, layer_traces=31 layers, layer_gradients=31 layers)",
    ),
}


def used(operator):
    operator @ torch.ones(operator.shape[0])
    return operator


@pytest.mark.parametrize(("make", "expected"), SHOWN.values(), ids=SHOWN)
def test_a_summary(make, expected, tmp_path):
    """Of a model with many parameters, in a session and in a notebook."""
    found = make(tmp_path / "run.jsonl")
    assert expected in repr(found)
    assert len(repr(found)) < 700
    assert found._repr_html_().startswith(f"<table><caption>{type(found).__name__}</caption><tr>")


def test_errors_of_an_observation():
    from vivit.monitor import Observation

    seen = Observation(3, "", 1.0, 0.5, 0.1, 0, None, {"damping": [], "loss": None}, "No memory")
    assert repr(seen) == (
        "Observation(step=3, seconds=0.5, damping=[0], loss=None, error=No memory)"
    )


def test_steps_are_plain_dictionaries():
    """Which torch's own functions take as they are, beside those of parameters."""
    parameters = dict(DEEP.named_parameters())
    step = MANY.newton_step()
    assert type(step) is type(MANY.solve(MANY.gradient(), 1.0)) is dict

    def outputs(p):
        return torch.func.functional_call(DEEP, p, DATA[0])

    _, slopes = torch.func.jvp(outputs, (parameters,), (step,))
    assert slopes.shape == (6, 3)


def test_many_slow_parameters():
    """The first ones are named."""
    check = vivit.Check((), (), {f"p{i}": "one per sample" for i in range(40)}, MANY.plan())
    assert "p9 (one per sample) and 30 more" in str(check)


def test_nothing_to_show():
    assert (
        repr(vivit.EigenPairs(torch.empty(0), {}))
        == "EigenPairs(values=[0], vectors=0 parameters ())"
    )
