"""How it feels to add a rule or a loss: an entry or a function, and its case in the table."""

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
