"""How it feels to add a rule, a loss or a kind: an entry, a function or a file, and its test."""

import pytest
from copies import Copy

CASE = """
    Case("beside a product", Beside, (5, 4)),
"""

NETWORK = '''


class Beside(nn.Module):
    """A parameter and a product of activations."""

    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.randn(3))
        self.inner = nn.Linear(4, 3)

    def forward(self, x):
        h = self.inner(x)
        return torch.addcmul(self.p, h, h.tanh())
'''

HUBER = '''
def huber_loss(loss_func: nn.HuberLoss, output: Tensor, target: Tensor) -> DiagonalHessian:
    """Square loss near the target: ``h = 1`` up to ``delta``, zero beyond."""
    normalizer = float(output.numel()) if loss_func.reduction == "mean" else None
    h = ((output - target).abs() <= loss_func.delta).to(output.dtype)
    return DiagonalHessian(h / (normalizer or 1.0), normalizer)


'''

MARGINS = '''"""A column for each sample: by how much its likeliest class is ahead of the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vivit.losses import DenseFactor


@dataclass(frozen=True)
class MarginColumns:
    """Their derivatives by the outputs, shape ``[N, C]``."""

    output: Tensor

    normalizer = None
    needs_check = False
    num_columns = 1

    def factor(self) -> DenseFactor:
        """One for the likeliest, minus one for the next."""
        first, second = self.output.topk(2, dim=1).indices.T
        s = torch.zeros_like(self.output)
        rows = torch.arange(len(s))
        s[rows, first], s[rows, second] = 1.0, -1.0
        return DenseFactor(s.unsqueeze(1))

    def product(self, u: Tensor) -> Tensor | None:
        """None."""
        return None

    def coordinates(self, gradient: Tensor) -> Tensor | None:
        """None."""
        return None


class Margins:
    """Margins, as `Kind`."""

    loss_func = None
    is_centered = False
    may_be_sampled = False

    def of_batch(self, output: Tensor, target: Any, index: int) -> MarginColumns:
        """Those of a batch."""
        return MarginColumns(output)

    def scale(self, weight: float, samples: int, boost: float) -> float:
        """As they are."""
        return 1.0

    def check_samples(self, output: Tensor, target: Any, alone: bool) -> None:
        """There is no loss."""
'''

OF_MARGINS = """import oracle
import torch
from cases import mlp

from vivit.kinds.margins import Margins
from vivit.low_rank import LowRankCurvature
from vivit.setup import ALL, block_matrices


class MarginMatrix(LowRankCurvature):
    def __init__(self, model, data):
        matrices = block_matrices(model, Margins(), data, None, None, None, None, None, False)
        self._attach(matrices, ALL)


def test_margins():
    torch.manual_seed(0)
    model, x = mlp().double(), torch.randn(6, 5).double()
    found = MarginMatrix(model, [(x[:4], torch.zeros(4)), (x[4:], torch.zeros(2))])
    j = oracle.jacobian(model, x, found.parameter_names)
    first, second = model(x).topk(2, dim=1).indices.T
    rows = torch.arange(6)
    columns = j[rows, first] - j[rows, second]
    assert torch.allclose(found.gram(), columns @ columns.T)
    v = torch.randn(j.shape[2], dtype=j.dtype)
    assert torch.allclose(found @ v, columns.T @ (columns @ v))
    assert torch.allclose(found.eigvalsh(), torch.linalg.eigvalsh(columns @ columns.T))
"""


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path)


def passed(copy, *words):
    """Tests that pass in the copy, of the library there."""
    shown = copy.run("pytest", "-q", "-p", "no:cacheprovider", *words)
    return int(shown.splitlines()[-1].partition(" passed")[0].split()[-1])


def test_a_layer_rule(copy):
    """One entry, and the parameter is served by it in every test of a case."""
    copy.insert("tests/cases.py", "from torch import Tensor, nn\n", NETWORK)
    copy.insert("tests/cases.py", "\nCASES = [\n", CASE.lstrip("\n"))
    expected = ["tests/vivit/test_ggn.py", "-k", "beside"]
    with pytest.raises(AssertionError, match="test_expected_rules"):
        passed(copy, *expected)
    rule = '    ("AddcmulBackward0", 0): _added,\n'
    copy.insert("vivit/backprop/roles.py", '("AddBackward0", 0): _added,\n', rule)
    assert passed(copy, *expected) > 10


def test_a_loss(copy):
    """One function and its entry, and the loss has a Hessian in closed form."""
    losses, registry = "vivit/losses/diagonal.py", "vivit/losses/registry.py"
    copy.insert(losses, "(gradient / safe).reshape(len(gradient), -1)\n\n\n", HUBER)
    copy.insert(registry, "import binary_cross_entropy, ", "huber_loss, ")
    copy.insert(registry, "    nn.MSELoss: square_loss,\n", "    nn.HuberLoss: huber_loss,\n")
    case = '    "huber": (nn.HuberLoss(), normal(N, K), normal(N, K, seed=7)),\n'
    copy.insert("tests/vivit/test_losses.py", "\nLOSSES = {\n", case)
    assert passed(copy, "tests/vivit/test_losses.py", "-k", "huber") > 3


def test_a_kind_of_curvature(copy):
    """One file, and every method has it."""
    copy.add("vivit/kinds/margins.py", MARGINS)
    copy.add("tests/vivit/test_margins.py", OF_MARGINS)
    assert passed(copy, "tests/vivit/test_margins.py") == 1
