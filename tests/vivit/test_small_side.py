"""Blocks with fewer parameters than columns: their matrix is the same, however it is formed."""

import math
from copy import deepcopy

import oracle
import pytest
import torch
from cases import CASES, mlp
from parameter_uses import Once
from torch import nn

import vivit
from vivit import Lanczos, MonteCarlo
from vivit.gram import prediction
from vivit.gram.forms import Form, Times

CE = nn.CrossEntropyLoss()
NAMED = {case.name: case for case in CASES}
TIMES = {Form.SUM: Times(product=1.0, sum=0.0), Form.PRODUCTS: Times(product=0.0, sum=1.0)}
OPTIONS = {
    "exact": {},
    "monte carlo": {"approximation": MonteCarlo(7, seed=1)},
    "subset": {"subset": [0, 2]},
}


@pytest.fixture(params=TIMES, ids=["sum", "products"])
def form(request, monkeypatch):
    """Nothing fits into the workspace, so that one of the two ways is taken."""

    def times(*arguments):
        return TIMES[Form.SUM if math.isinf(arguments[-1]) else request.param]

    monkeypatch.setattr(prediction, "_times", times)
    return request.param


def small(model, columns):
    """The parameters, in their order, as long as they are no more than there are columns."""
    names, size = [], 0
    for name, p in model.named_parameters():
        if size + p.numel() <= columns and p.requires_grad:
            names, size = [*names, name], size + p.numel()
    return names


def close(actual, expected, scale=None):
    scale = expected.abs().max() if scale is None else scale
    return actual.shape == expected.shape and bool(
        ((actual - expected).abs() <= 1e-9 * scale).all()
    )


def flat(vectors):
    return torch.cat([v.reshape(len(v), -1) for v in vectors.values()], dim=1)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_quantities(case, options, form):
    """Those of columns that are kept."""
    model, loss_func, x, y = case.make()
    if "subset" in options and (not isinstance(x, torch.Tensor) or len(x) < 3):
        pytest.skip("needs three samples")
    columns = vivit.GGN(model, loss_func, (x, y), **options).num_columns
    names = small(model, columns)
    if not names:
        pytest.skip("no parameter is that small")
    arguments = model, loss_func, (x, y), names
    kept = vivit.GGN(*arguments, **options)
    formed = vivit.GGN(*arguments, **options, workspace=1)
    assert [m.form for m in formed.plan().matrices] == [form]
    values = kept.eigvalsh()
    largest = values.max()
    if largest < 1e-25:  # all parameters are without influence, all numbers are rounding errors
        assert formed.eigvalsh().abs().max() < 1e-25
        assert all(abs(trace) < 1e-25 for trace in formed.traces().values())
        return
    for trace, expected in zip(formed.traces().values(), kept.traces().values(), strict=True):
        assert abs(trace - expected) <= 1e-9 * largest * len(values)
    assert close(formed.eigvalsh(), values, largest)
    assert close(formed.gram(), kept.gram(), largest)

    def above(some):  # weak directions are those of rounding errors
        return some > 1e-5 * largest

    expected, actual = (ggn.eigh(criterion=above) for ggn in (kept, formed))
    assert close(actual.values, expected.values, largest)
    v, w = flat(expected.vectors), flat(actual.vectors)
    matrix = (v.T * expected.values) @ v
    assert ((w.T * actual.values) @ w - matrix).abs().max() <= 1e-8 * largest
    one, other = (ggn.directional_derivatives(criterion=above) for ggn in (kept, formed))
    assert one.gammas.shape == other.gammas.shape
    assert one.lambdas.shape == other.lambdas.shape
    spread = [(d.gammas.square().sum(1), d.lambdas.sum(1)) for d in (one, other)]
    for left, right in zip(*spread, strict=True):  # whatever the basis of an eigenspace is
        assert torch.allclose(left, right, rtol=1e-5, atol=1e-7 * float(left.abs().max()))
    steps = [ggn.newton_step(damping=1.0, criterion=above) for ggn in (kept, formed)]
    one, other = (torch.cat([s.flatten() for s in step.values()]) for step in steps)
    assert (one - other).norm() <= 1e-5 * one.norm()


@pytest.mark.parametrize("sizes", [(6,), (2, 4), (1, 3, 2)])
def test_the_oracle(sizes, form):
    """Batches, too, which are added up one after the other."""
    model = mlp().double()
    x, y = torch.randn(6, 5).double(), torch.arange(6) % 3
    batches = [*zip(x.split(sizes), y.split(sizes), strict=True)]
    names = ["4.bias", "2.bias"]
    ggn = vivit.GGN(model, CE, batches, names, workspace=1)
    assert [m.form for m in ggn.plan().matrices] == [form]
    dense = oracle.ggn(model, CE, x, y, ggn.parameter_names)
    values, vectors = torch.linalg.eigh(dense)
    assert close(ggn.eigvalsh(), values)
    pairs = ggn.eigh(k=2)
    assert close(pairs.values, values[-2:])
    assert close(flat(pairs.vectors).abs(), vectors[:, -2:].T.abs(), 1e4)
    derivatives = ggn.directional_derivatives(k=2)
    assert close(derivatives.lambdas.mean(0), values[-2:])


def test_blocks_of_all_forms(monkeypatch):
    """Blocks that are swept together, added up and multiplied, beside each other."""
    model = mlp().double()
    x, y = torch.randn(8, 5).double(), torch.arange(8) % 3

    def times(batches, sizes, *_):
        return TIMES[Form.PRODUCTS if "4.weight" in sizes else Form.SUM]

    monkeypatch.setattr(prediction, "_times", times)
    blocks = vivit.block_diagonal(model, CE, (x, y), "parameter", workspace=600)
    forms = {m.group: m.form for m in next(iter(blocks.values())).plan().matrices}
    assert set(forms.values()) == set(Form)
    for name, block in blocks.items():
        dense = oracle.ggn(model, CE, x, y, [name])
        expected = torch.linalg.eigvalsh(dense)[-min(block.shape[0], block.num_columns) :]
        assert close(block.eigvalsh(), expected)
        assert block.gram().shape == (16, 16)


@pytest.mark.parametrize("workspace", [1, 5760, 8000, 11520])
def test_forms_in_double_precision(workspace):
    """Columns that fit in single precision need not in double precision."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 8), nn.Tanh(), nn.Linear(8, 3))
    data = torch.randn(20, 40), torch.arange(20) % 3
    blocks = vivit.block_diagonal(model, CE, data, "parameter", workspace=workspace)
    blocks["0.weight"].eigh()
    for name, block in blocks.items():
        dense = oracle.ggn(deepcopy(model).double(), CE, data[0].double(), data[1], [name])
        expected = torch.linalg.eigvalsh(dense)[-min(block.shape[0], 40) :]
        gram = torch.linalg.eigvalsh(block.gram().double())[-len(expected) :]
        for values in (block.eigvalsh().double(), gram):
            assert (values - expected).abs().max() <= 1e-5 * expected[-1]


def test_what_has_no_products_is_added_up(form):
    """Its matrix is not refused, for there are other ways to it."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(2, 2), nn.Linear(2, 3)

        def forward(self, x):
            return self.last(Once.apply(torch.tanh(self.first(x))))

    model = Net().double()
    data = torch.randn(9, 2).double(), torch.arange(9) % 3
    ggn = vivit.GGN(model, CE, data, workspace=1)
    with pytest.raises(vivit.UnsupportedError):
        ggn @ torch.ones(ggn.shape[0]).double()
    expected = vivit.GGN(model, CE, data)
    assert close(ggn.eigvalsh(), expected.eigvalsh())
    assert [m.form for m in ggn.plan().matrices] == [Form.SUM]
    lambdas = [g.directional_derivatives(k=2).lambdas for g in (ggn, expected)]
    assert torch.allclose(*lambdas, rtol=1e-8)


def test_a_curvature_that_is_not_finite(form):
    model = nn.Linear(2, 3).double()
    x = torch.full((4, 2), 1e200, dtype=torch.float64)
    ggn = vivit.GGN(model, nn.MSELoss(), (x, torch.zeros(4, 3).double()), workspace=1)
    with pytest.raises(vivit.InputError, match="NaN or infinite"):
        ggn.eigvalsh()


def test_the_choice():
    """Columns as long as they fit; few products in place of many columns."""
    x, y = torch.randn(40, 2), torch.arange(40) % 3
    model = nn.Linear(2, 3)
    assert form_of(model, (x, y)) is Form.COLUMNS
    assert form_of(model, (x, y), workspace=1) is Form.SUM
    words = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 400))
    outputs = torch.arange(40) % 400
    assert form_of(words, (x, outputs), params=["0.*"]) is Form.PRODUCTS
    assert form_of(model, (x[:1], y[:1])) is Form.GRAM


def form_of(model, data, **options):
    (matrix,) = vivit.GGN(model, CE, data, **options).plan().matrices
    return matrix.form


def test_few_pairs_are_iterated_for(form):
    """Of a matrix that is not made of columns: no full decomposition."""
    model = nn.Linear(20, 3).double()
    data = torch.randn(40, 20).double(), torch.arange(40) % 3
    ggn = vivit.GGN(model, CE, data, workspace=1)
    expected = vivit.GGN(model, CE, data).eigvalsh()
    assert close(ggn.eigh(k=1, method=vivit.FullGram()).values, expected[-1:])
    assert close(ggn.eigh(k=1, method=Lanczos(1e-10)).values, expected[-1:])
