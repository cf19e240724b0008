"""Networks and batches drawn at random, and a second, independent implementation as the oracle."""

import oracle
import pytest
import torch
from cases import CASES
from curvlinops import GGNLinearOperator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import vivit

CHANNELS, LENGTH = 2, 6

# Blocks that map signals [n, 2, 6] to signals of the same shape.
BLOCKS = {
    "conv": lambda: nn.Conv1d(2, 2, 3, padding=1),
    "depthwise": lambda: nn.Conv1d(2, 2, 3, padding=2, dilation=2, groups=2, bias=False),
    "up": lambda: nn.Sequential(nn.ConvTranspose1d(2, 2, 2, stride=2), nn.AvgPool1d(2)),
    "mix": lambda: nn.Linear(6, 6),
    "group norm": lambda: nn.GroupNorm(1, 2),
    "layer norm": lambda: nn.LayerNorm(6),
    "batch norm": lambda: nn.BatchNorm1d(2).eval(),
    "tanh": nn.Tanh,
    "silu": lambda: nn.SiLU(inplace=True),
    "pool": lambda: nn.MaxPool1d(3, 1, 1),
    "prelu": nn.PReLU,
    "recurrent": lambda: Recurrent(),
    "heads": lambda: Uses(lambda x, p: torch.einsum("nci,cio->nco", x, p), 2, 6, 6),
    "expanded": lambda: Uses(lambda x, p: torch.sigmoid(p.expand(len(x), -1, -1)) * x, 2, 6),
    "generic": lambda: Uses(torch.logaddexp, 2, 1),
}


class Recurrent(nn.Module):
    """A GRU over the channels as time steps."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(LENGTH, LENGTH, batch_first=True)

    def forward(self, x):
        return self.gru(x)[0]


class Uses(nn.Module):
    """A function of the signals and a parameter."""

    def __init__(self, function, *shape):
        super().__init__()
        self.function, self.p = function, nn.Parameter(torch.randn(shape) / 2)

    def forward(self, x):
        return self.function(x, self.p)


class Network(nn.Module):
    """Blocks in a row, some of them used twice, some skipped by a residual connection."""

    def __init__(self, names, twice, residual, outputs):
        super().__init__()
        self.blocks = nn.ModuleList(BLOCKS[name]() for name in names)
        self.head = nn.Linear(CHANNELS * LENGTH, outputs)
        self.twice, self.residual = twice, residual

    def forward(self, x):
        for i, block in enumerate(self.blocks):
            y = block(x.clone())
            y = block(y) if i in self.twice else y
            x = x + y if i in self.residual else y
        return self.head(x.flatten(1))


@st.composite
def problems(draw):
    names = draw(st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=4))
    some = st.sets(st.integers(0, len(names) - 1))
    n, outputs = draw(st.integers(1, 4)), draw(st.integers(2, 3))
    reduction = draw(st.sampled_from(["mean", "sum"]))
    torch.manual_seed(draw(st.integers(0, 10)))
    model = Network(names, draw(some), draw(some), outputs).double()
    x = torch.randn(n, CHANNELS, LENGTH, dtype=torch.float64)
    if draw(st.booleans()):
        return model, nn.CrossEntropyLoss(reduction=reduction), x, torch.randint(outputs, (n,))
    return model, nn.MSELoss(reduction=reduction), x, torch.randn(n, outputs).double()


@settings(deadline=None, derandomize=True, max_examples=60)
@given(problems())
def test_random_networks(problem):
    model, loss_func, x, y = problem
    ggn = vivit.GGN(model, loss_func, (x, y))
    dense = oracle.ggn(model, loss_func, x, y, ggn.parameter_names)
    exact = torch.linalg.eigvalsh(dense)[-min(ggn.num_columns, len(dense)) :]
    assert (ggn.eigvalsh() - exact).abs().max() <= 1e-10 * exact[-1]
    v = torch.arange(len(dense)).double().sin()
    assert (ggn @ v - dense @ v).norm() <= 1e-10 * exact[-1] * v.norm()


FUSED = "curvlinops needs forward-mode derivatives, which fused operations lack"
NOT_FOR_CURVLINOPS = {
    "attention": FUSED,
    "cross-attention": FUSED,
    "transformer": FUSED,
    "weight norm": FUSED,
    "scale-invariant": FUSED,
    "bags": FUSED,
    "class token": FUSED,
    "vectors": "torch has no rule for several bilinear products at once, and warns",
    "outside layers": "curvlinops does not take unused parameters",
    "tokens": "forward-mode derivatives move the padding vector, gradients do not",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_products_of_curvlinops(case):
    if case.name in NOT_FOR_CURVLINOPS:
        pytest.skip(NOT_FOR_CURVLINOPS[case.name])
    model, loss_func, x, y = case.make()
    selected = [p for p in model.parameters() if p.requires_grad]
    other = GGNLinearOperator(model, loss_func, selected, [(x, y)], check_deterministic=False)
    ggn = vivit.GGN(model, loss_func, (x, y))
    v = torch.arange(ggn.shape[0]).double().sin()
    expected = other @ v
    assert (ggn @ v - expected).norm() <= 1e-10 * expected.norm()
