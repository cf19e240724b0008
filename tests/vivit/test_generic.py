"""The generic rule: all samples at once, single samples, or the graph of the batch."""

import warnings

import oracle
import pytest
import torch
from cases import CASES
from torch import nn

import vivit
from vivit.backprop import generic
from vivit.backprop.generic import GenericWay

AT_ONCE, BY_SAMPLE, ONE_BY_ONE = GenericWay
N, C = 5, 3


class Unknown(nn.Module):
    """A parameter in an operation that no rule knows, and what is done before or with it."""

    def __init__(self, forward=lambda x: x, after=lambda h: h):
        super().__init__()
        self.p, self.scale = nn.Parameter(torch.randn(C, 4)), nn.Parameter(torch.randn(()))
        self.head, self.before, self.after = nn.Linear(4, 4), forward, after

    def forward(self, x):
        h = torch.tanh(self.head(self.before(x)))
        h = torch.logaddexp(h[:, None], self.p).sum(2)
        return self.after(torch.atan2(h, self.scale))


def by_data(h):
    return torch.stack([row if row.sum() > 4 else 2 * row for row in h])


def for_one_it_is_another(h):
    return h if len(h) > 1 else 2 * h


def for_one_it_has_another_derivative(h):
    return h if len(h) > 1 else 2 * h - h.detach()


def by_place(h):
    return h * (1 + torch.arange(len(h)))[:, None]


def of_some_batches(h):
    if len(h) < N:
        raise ValueError("a batch has five samples")
    return h


def with_warning(h):
    if len(h) < N:
        warnings.warn("few samples", stacklevel=2)
    return h


WAYS = {
    "plain": (Unknown, AT_ONCE),
    "branches": (lambda: Unknown(after=by_data), BY_SAMPLE),
    "by place": (lambda: Unknown(after=by_place), ONE_BY_ONE),
    "another function": (lambda: Unknown(after=for_one_it_is_another), ONE_BY_ONE),
    "another derivative": (lambda: Unknown(after=for_one_it_has_another_derivative), ONE_BY_ONE),
    "one size of batch": (lambda: Unknown(after=of_some_batches), ONE_BY_ONE),
    "random": (lambda: Unknown(nn.Dropout(0.3)), ONE_BY_ONE),
}


def problem(network, n=N):
    torch.manual_seed(0)
    model, x = network().double(), torch.randn(n, 4).double()
    return model, nn.CrossEntropyLoss(), x, torch.arange(n) % C


def served_by(ggn):
    return next(ggn._curvature.each()).linearization.served_by


@pytest.mark.parametrize("workspace", [None, 1])
@pytest.mark.parametrize("subset", [None, [3, 1]])
@pytest.mark.parametrize(("network", "way"), WAYS.values(), ids=WAYS.keys())
def test_all_ways_agree(network, way, subset, workspace, monkeypatch):
    """Also with a copy of the parameters at a time."""
    model, loss_func, x, y = problem(network)
    ggn = vivit.GGN(model, loss_func, (x, y), subset=subset, workspace=workspace)
    gram = ggn.gram()
    assert served_by(ggn)["p"] == way.value
    monkeypatch.setattr(generic.GenericRule, "_found_by", last_resort)
    expected = vivit.GGN(model, loss_func, (x, y), subset=subset).gram()
    assert torch.allclose(gram, expected, rtol=1e-12, atol=1e-14)


def last_resort(rule, way):
    if way is ONE_BY_ONE:
        yield rule._one_by_one()


@pytest.mark.parametrize(("network", "way"), WAYS.values(), ids=WAYS.keys())
def test_what_serves_each_parameter(network, way):
    model, loss_func, x, y = problem(network)
    ggn = vivit.GGN(model, loss_func, (x, y))
    ggn.eigvalsh()
    affine = {"head.weight": "affine", "head.bias": "affine"}
    assert served_by(ggn) == affine | {"p": way.value, "scale": way.value}


def test_inputs_of_several_forms():
    """Dictionaries, and tensors that all samples share."""

    class Several(Unknown):
        def forward(self, x):
            return super().forward(x["x"] @ x["shared"]) * x["scale"][0]

    model, loss_func, x, y = problem(Several)
    inputs = {"x": x, "shared": torch.eye(4).double(), "scale": (2.0, None)}
    ggn = vivit.GGN(model, loss_func, (inputs, y))
    assert served_by_after(ggn)["p"] == AT_ONCE.value
    dense = oracle.ggn(model, loss_func, inputs, y, ggn.parameter_names)
    exact = torch.linalg.eigvalsh(dense)[-len(ggn.eigvalsh()) :]
    assert torch.allclose(ggn.eigvalsh(), exact, atol=1e-12)


def served_by_after(ggn):
    ggn.eigvalsh()
    return served_by(ggn)


def test_samples_in_a_list():
    """Single samples can be taken from it."""

    class Listed(Unknown):
        def forward(self, x):
            return super().forward(torch.stack(x))

    model, loss_func, x, y = problem(Listed)
    ggn = vivit.GGN(model, loss_func, (list(x), y))
    assert served_by_after(ggn)["p"] == BY_SAMPLE.value


MESSAGE = (
    r"^The columns of 'p', 'scale' take 1000 backward passes, one per sample and column: no rule "
    r"knows what the model does with these parameters, and it cannot be run on single samples\. "
    r"Select other parameters, or use fewer samples or MonteCarlo\(\)\.$"
)


def test_many_passes_are_told_of():
    model, loss_func, x, y = problem(lambda: Unknown(after=by_place), 500)
    with pytest.warns(UserWarning, match=MESSAGE):
        vivit.GGN(model, loss_func, (x, y)).gram()


def test_few_are_not():
    model, loss_func, x, y = problem(lambda: Unknown(after=by_place), 400)
    vivit.GGN(model, loss_func, (x, y)).gram()


def test_many_samples_at_once_need_no_word():
    model, loss_func, x, y = problem(Unknown, 500)
    vivit.GGN(model, loss_func, (x, y)).gram()


def test_warnings_of_the_model_are_its_own():
    """A model that warns of single samples is served all the same."""
    model, loss_func, x, y = problem(lambda: Unknown(after=with_warning))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ggn = vivit.GGN(model, loss_func, (x, y))
        assert served_by_after(ggn)["p"] == ONE_BY_ONE.value


def out_of_memory(h):
    if len(h) < N:
        raise torch.OutOfMemoryError("out of memory")
    return h


def test_running_out_of_memory_is_no_reason_to_try_another_way():
    model, loss_func, x, y = problem(lambda: Unknown(after=out_of_memory))
    with pytest.raises(RuntimeError, match="out of memory"):
        vivit.GGN(model, loss_func, (x, y)).gram()


def test_what_failed_is_not_tried_again(monkeypatch):
    tried, found_by = [], generic.GenericRule._found_by
    monkeypatch.setattr(
        generic.GenericRule,
        "_found_by",
        lambda self, way: tried.append(way) or found_by(self, way),
    )
    model, loss_func, x, y = problem(lambda: Unknown(after=by_place))
    ggn = vivit.GGN(model, loss_func, (x, y))
    batch = next(ggn._curvature.each())
    for expected in ([*GenericWay], [ONE_BY_ONE]):
        batch.linearization.generic_columns(batch.factor, None, ["p"], 1)
        assert tried == expected
        tried.clear()


def test_expanded_parameters_cost_no_pass_of_their_own(monkeypatch):
    """Nor do any others that have a rule."""
    monkeypatch.setattr(generic.GenericRule, "__call__", lambda rule, first: pytest.fail("called"))
    for case in CASES:
        if not case.generic:
            model, loss_func, x, y = case.make()
            vivit.GGN(model, loss_func, (x, y)).eigvalsh()
