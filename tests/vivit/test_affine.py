"""The affine kernel and its cost model."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from vivit.devices import CPU, GPU, KINDS
from vivit.layers.affine import Factors, Workspace, form_columns, mirror
from vivit.layers.column_store import MANY_POSITIONS, contract
from vivit.layers.convolutions import ConvolutionUse
from vivit.layers.cost import AffineShape, Evaluation, cheapest_evaluation, evaluation_cost
from vivit.layers.factor_store import evaluate

sizes = st.integers(1, 7)
shapes = st.builds(AffineShape, sizes, sizes, sizes, sizes, sizes)


def factors(shape):
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(shape.samples, shape.positions, shape.inputs, generator=generator)
    s = torch.randn(
        shape.samples, shape.columns, shape.positions, shape.outputs, generator=generator
    )
    return a.double(), s.double()


def possible(shape):
    return [e for e in Evaluation if e is not Evaluation.HADAMARD or shape.positions == 1]


def memory(size):
    return Workspace(size, torch.empty(0, dtype=torch.float64))


@settings(deadline=None, derandomize=True)
@given(shapes, st.sampled_from([0, 1000, 2**20]), st.booleans())
def test_evaluations_agree_with_the_formula(shape, workspace, bias):
    """All orders of contraction, in any workspace, add the same to what was there."""
    a, s = factors(shape)
    size = shape.samples * shape.columns
    inner = torch.einsum("nti,mui->ntmu", a, a) + bias
    expected = torch.einsum("ncto,ntmu,mduo->ncmd", s, inner, s).reshape(size, size) + 1
    for evaluation in possible(shape):
        gram = torch.ones(size, size, dtype=torch.float64)
        evaluate(evaluation, gram, Factors(a, s, bias), workspace=memory(workspace))
        mirror(gram)
        assert torch.allclose(gram, expected, rtol=1e-12, atol=1e-12), evaluation
        half = torch.ones(size, shape.columns, dtype=torch.float64)
        first = Factors(a[:1], s[:1], bias)
        evaluate(evaluation, half, Factors(a, s, bias), first, workspace=memory(workspace))
        assert torch.allclose(half, expected[:, : shape.columns], rtol=1e-12, atol=1e-12)


@settings(deadline=None, derandomize=True)
@given(shapes, st.sampled_from([0, 1000, 2**20]))
def test_one_hot_inputs(shape, workspace):
    """Indices, of which -1 stands for no input, give what the vectors themselves do."""
    _, s = factors(shape)
    generator = torch.Generator().manual_seed(1)
    size = (shape.samples, shape.positions)
    index = torch.randint(-1, shape.inputs, size, generator=generator)
    dense = Factors((index[..., None] == torch.arange(shape.inputs)).double(), s)
    one_hot = Factors(index, s, classes=shape.inputs)
    assert torch.equal(form_columns(one_hot), form_columns(dense))
    half = Factors(index[:1], s[:1], classes=shape.inputs)
    for evaluation in possible(shape):
        grams = torch.zeros(4, s.shape[0] * s.shape[1], s.shape[0] * s.shape[1]).double()
        evaluate(evaluation, grams[0], one_hot, workspace=memory(workspace))
        evaluate(evaluation, grams[1], dense, workspace=memory(workspace))
        evaluate(evaluation, grams[2, : s.shape[1]], half, one_hot, workspace=memory(workspace))
        evaluate(evaluation, grams[3], dense, dense, workspace=memory(workspace))
        assert torch.allclose(grams[0].tril(), grams[1].tril(), rtol=1e-12, atol=1e-12)
        first = grams[2:, : s.shape[1]]
        assert torch.allclose(first[0], first[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("padding", [(0, 0, 0), (2, 0, 1)])
@pytest.mark.parametrize("dilation", [(1, 1, 1), (1, 2, 1), (2, 1, 3)])
def test_shifted_columns(dimensions, groups, padding, dilation):
    """Without windows, a convolution's columns are what they are with them."""
    size, kernel = (5, 6, 8)[:dimensions], (2, 3, 2)[:dimensions]
    padding, dilation = padding[:dimensions], dilation[:dimensions]
    output = [
        n + 2 * p - d * (k - 1) for n, p, d, k in zip(size, padding, dilation, kernel, strict=True)
    ]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2 * groups, *size, generator=generator).double()
    stride = (1,) * dimensions
    use = ConvolutionUse(
        x, (4 * groups, 2, *kernel), tuple(output), stride, padding, dilation, groups
    )
    s = torch.randn(3, 4 * groups, *output, generator=generator).double()
    s = use.cotangents(s)[None]
    expected = torch.einsum("kntgo,ntgi->nkgoi", s, use.inputs())
    assert torch.allclose(use.shifted_columns(s), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("stride", "channels", "kind", "expected"),
    [(1, 8, CPU, True), (1, 7, CPU, False), (2, 8, CPU, False), (1, 8, GPU, False)],
)
def test_which_convolutions_shift(stride, channels, kind, expected, monkeypatch):
    monkeypatch.setitem(KINDS, "cpu", kind)
    x = torch.zeros(2, channels, 5)
    use = ConvolutionUse(x, (4, channels, 3), (3,), (stride,), (0,), (1,), groups=1)
    assert use.can_shift is expected


@pytest.mark.parametrize("positions", [1, MANY_POSITIONS - 1, MANY_POSITIONS])
@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("innermost", ["positions", "groups", "one for all columns"])
def test_columns_of_single_entries(positions, columns, innermost):
    """Scales: a channel group for each entry, with one input and one output."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(4, positions, 5, 1, generator=generator).double()
    s = torch.randn(columns, 4, positions, 5, 1, generator=generator).double()
    if innermost == "positions":
        s = s.transpose(2, 3).contiguous().transpose(2, 3)
    elif innermost == "one for all columns":
        s = s[:1].transpose(2, 3).contiguous().transpose(2, 3).expand(s.shape)
    found = torch.empty(4, columns, 5, 1, 1, dtype=torch.float64)
    contract(found, a, s, classes=None)
    expected = torch.einsum("kntgo,ntgi->nkgoi", s, a)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


@settings(deadline=None, derandomize=True)
@given(shapes)
def test_columns(shape):
    a, s = factors(shape)
    expected = torch.einsum("ncto,nti->ncoi", s, a)
    assert torch.allclose(form_columns(Factors(a, s)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("evaluation", Evaluation, ids=lambda e: e.value)
@pytest.mark.parametrize("positions", [1, 6])
def test_predicted_flops(evaluation, positions):
    """The model counts what torch counts, up to its triangle of 9/16 instead of half."""
    shape = AffineShape(64, 5, positions, 12, 10)
    if evaluation not in possible(shape):
        pytest.skip("needs one position")
    gram = torch.zeros(320, 320, dtype=torch.float64)
    in_place = {torch.ops.aten.addmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * b[1]}
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        evaluate(evaluation, gram, Factors(*factors(shape)), workspace=memory(10**5))
    predicted = evaluation_cost(evaluation, shape).flops
    assert counter.get_total_flops() == pytest.approx(predicted, rel=0.3)


@settings(deadline=None, derandomize=True)
@given(st.builds(AffineShape, *[st.integers(1, 1000)] * 5), st.sampled_from([4, 8]))
def test_choice_is_the_best_of_all(shape, element_size):
    """With one position, the Hadamard evaluation is what the pairwise one would do."""
    times = {e: evaluation_cost(e, shape).time(element_size) for e in possible(shape)}
    if shape.positions == 1:
        del times[Evaluation.PAIRWISE]
    assert times[cheapest_evaluation(shape, element_size)] == min(times.values())


def test_workspace_is_used_again():
    workspace = memory(800)
    assert workspace.size == 100
    first, second = workspace.take(4, 20), workspace.take(20, slot=1)
    assert (first.shape, second.shape) == ((4, 20), (20,))
    again = workspace.take(50)
    assert again.data_ptr() == first.data_ptr() != second.data_ptr()
    assert workspace.take(200).shape == (200,)  # one evaluation may need more


def test_workspace_is_one_for_both_slots():
    """What is larger than it has to be beside the other is given up."""
    workspace = memory(800)
    workspace.take(80)
    workspace.take(50, slot=1)
    assert [len(x) for x in workspace._memory] == [0, 50]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (AffineShape(128, 9, 1, 1153, 512), Evaluation.HADAMARD),
        (AffineShape(128, 9, 784, 76, 64), Evaluation.DIRECT),
        (AffineShape(128, 9, 36, 865, 128), Evaluation.PAIRWISE),
    ],
    ids=["linear", "early convolution", "late convolution"],
)
def test_choice_for_3c3d(shape, expected):
    """The three regimes of the published network."""
    assert cheapest_evaluation(shape, 4) is expected


def test_hadamard_refuses_positions():
    with pytest.raises(ValueError, match="needs one position, got 3"):
        evaluation_cost(Evaluation.HADAMARD, AffineShape(2, 2, 3, 2, 2))
