"""What the interface of vivit-for-pytorch 1.0.0 refuses, and what it leaves behind then."""

import sys

import pytest
import torch
from backpack import backpack, extend
from drop_in import ALL, CE, PROBLEMS, Residual, complete, for_directional, results, run
from torch import nn

import vivit
from vivit import (
    DirectionalDampedNewtonComputation,
    DirectionalDerivativesComputation,
    EighComputation,
    EigvalshComputation,
)


@pytest.fixture
def small():
    return PROBLEMS["mlp"].make()


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("missing", ["params", "criterion", "damping"])
def test_missing_keys(kind, missing, small):
    group = complete(small[0])
    del group[missing]
    if missing not in kind.keys:
        kind().get_extension_hook([group])
        return
    with pytest.raises(ValueError, match=f"group 0 has no key '{missing}'.*it needs: params"):
        kind().get_extension_hook([group])


REFUSED_GROUPS = {
    "twice in a group": (lambda ps: [[ps[0], ps[0]]], r"Parameter 1 of group 0.*occurs twice"),
    "in two groups": (lambda ps: [[ps[0]], [ps[1], ps[0]]], r"Parameter 1 of group 1.*twice"),
    "none": (lambda ps: [[]], "group 0 has no parameters"),
    "frozen": (
        lambda ps: [[ps[0], ps[1].requires_grad_(False)]],
        r"Parameter 1 of group 0, of shape \[6\], is frozen",
    ),
}


@pytest.mark.parametrize("case", REFUSED_GROUPS)
def test_groups_that_are_refused(case, small):
    make, message = REFUSED_GROUPS[case]
    groups = [{"params": ps} for ps in make(list(small[0].parameters()))]
    with pytest.raises(vivit.InputError, match=message):
        EigvalshComputation().get_extension_hook(groups)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subsampling": []}, "subsampling is empty: give at least one"),
        ({"subsampling": [0, 2, 0]}, r"duplicate samples: \[0\]"),
        ({"mc_samples": -1}, "Monte-Carlo samples must be 0 or more: -1"),
    ],
)
def test_options_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        EigvalshComputation(**options)
    renamed = for_directional(options)
    with pytest.raises(ValueError, match=message):
        DirectionalDerivativesComputation(**renamed)
    if "subsampling" in options:
        with pytest.raises(ValueError, match=message):
            DirectionalDerivativesComputation(subsampling_grad=options["subsampling"])


def test_results_that_do_not_exist(small):
    model, *rest = small
    group, computation = complete(model), EigvalshComputation()
    with pytest.raises(KeyError, match="no result for this group"):
        computation.get_result(group)
    run(computation, model, *rest, [group])
    with pytest.raises(KeyError, match="no result for this group"):
        computation.get_result({**group})


def used_twice():
    inner = nn.Linear(5, 5)
    return nn.Sequential(inner, nn.ReLU(), inner, nn.Linear(5, 3))


REFUSED_MODELS = {
    "layer norm": (
        lambda: nn.Sequential(nn.Linear(5, 3), nn.LayerNorm(3)),
        CE(),
        r"no second-order rule for LayerNorm.*Use vivit.GGN",
    ),
    "batch norm in training": (
        lambda: nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)).train(),
        CE(),
        r"BatchNorm1d.* uses the statistics of the batch.*model.eval",
    ),
    "sum": (lambda: nn.Linear(5, 3), CE(reduction="sum"), "reduction='sum'.*vivit.GGN"),
    "own forward": (Residual, CE(), "no second-order rule for Residual.*vivit.GGN"),
    "used twice": (used_twice, CE(), r"Linear.*second time in one backward pass.*vivit.GGN"),
    "other padding": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 5)),
            nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular"),
            nn.Flatten(),
        ),
        CE(),
        "vivit.GGN",
    ),
    "uneven padding": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 1, 2, padding="same"), nn.Flatten()
        ),
        CE(),
        "vivit.GGN",
    ),
    "other loss": (lambda: nn.Linear(5, 3), nn.L1Loss(), "rule for L1Loss.*vivit.GGN"),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("case", REFUSED_MODELS)
def test_models_that_are_refused(case):
    network, loss_func, message = REFUSED_MODELS[case]
    model, x = network(), torch.randn(6, 5)
    y = torch.randn_like(model(x)) if isinstance(loss_func, nn.L1Loss) else torch.arange(6) % 3
    with pytest.raises(NotImplementedError, match=message) as caught:
        run(EigvalshComputation(), model, loss_func, x, y, [complete(model)])
    assert isinstance(caught.value, vivit.VivitError)


def test_samples_that_do_not_exist(small):
    model, *rest = small
    for computation in (
        EigvalshComputation([0, 9]),
        DirectionalDerivativesComputation([9]),
        DirectionalDerivativesComputation([9], [1]),
    ):
        with pytest.raises(ValueError, match="has index 9, but there are 7 samples"):
            run(computation, model, *rest, [complete(model)])


class View(nn.Module):
    """Transposes behind its first module, which BackPACK does not see."""

    def __init__(self):
        super().__init__()
        self.inner, self.last = nn.Embedding(7, 5), nn.Sequential(nn.Flatten(), nn.Linear(15, 3))

    def forward(self, x):
        return self.last(self.inner(x).transpose(1, 2))


def test_views_that_backpack_does_not_see():
    """It identifies tensors by their memory, which a view shares."""
    model, x, y = View(), torch.randint(7, (6, 3)), torch.arange(6) % 3
    loss_func = extend(CE())
    extend(model.inner), extend(model.last)
    computation = EigvalshComputation()
    hook = computation.get_extension_hook([complete(model)])
    with backpack(computation.get_extension(), extension_hook=hook):
        with pytest.raises(NotImplementedError, match=r"Behind Embedding.*\[6, 5, 3\] came back"):
            loss_func(model(x), y).backward()
    assert not any("_vivit" in name for p in model.parameters() for name in vars(p))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular"),
        nn.Conv1d(1, 1, 3, padding="same"),
    ],
    ids=["circular", "same"],
)
def test_layers_that_backpack_takes_for_others_are_refused_in_passing(layer):
    """Also if their own parameters are in no group: what is behind them would be wrong."""
    model = nn.Sequential(nn.Linear(5, 5), nn.Unflatten(1, (1, 5)), layer, nn.Flatten())
    data = torch.randn(6, 5), torch.arange(6) % 5
    with pytest.raises(NotImplementedError, match=r"BackPACK knows .* only.*vivit.GGN"):
        run(EigvalshComputation(), model, CE(), *data, [{"params": [model[0].weight]}])


def test_mixed_precision_is_refused(small):
    model, loss_func, x, y = small
    computation = EigvalshComputation()
    groups = [{"params": list(model.parameters())}]
    model, loss_func = extend(model.float()), extend(loss_func)
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_func(model(x.float()), y)
    with (
        backpack(
            computation.get_extension(), extension_hook=computation.get_extension_hook(groups)
        ),
        pytest.raises(vivit.UnsupportedError, match=r"bfloat16.*without torch.autocast"),
    ):
        loss.backward()


def test_half_precision_is_refused(small):
    model, loss_func, x, y = small
    computation = EigvalshComputation()
    groups = [{"params": list(model.parameters())}]
    with pytest.raises(vivit.UnsupportedError, match=r"torch.bfloat16.*float\(\).*vivit.GGN"):
        run(computation, model.bfloat16(), loss_func, x.bfloat16(), y, groups)


def test_average_pooling_needs_the_default_dtype():
    layers = [nn.Conv1d(1, 3, 2), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(6, 3)]
    x, y = torch.rand(6, 1, 5, dtype=torch.float64), torch.arange(6) % 3
    model = nn.Sequential(*layers).double()
    expected = vivit.GGN(model, CE(), (x, y)).eigvalsh()
    group = {"params": list(model.parameters())}
    with pytest.raises(NotImplementedError, match=r"AvgPool1d.*only, torch.float32, but it has"):
        run(EigvalshComputation(), model, CE(), x, y, [group])
    try:
        torch.set_default_dtype(torch.float64)
        (values,) = run(EigvalshComputation(), model, CE(), x, y, [group])
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.allclose(values[-12:], expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("variant", [{}, {"subsampling_ggn": [0, 2, 5]}], ids=["exact", "subset"])
def test_slopes_are_those_of_all_that_is_differentiated(variant, small):
    """A penalty on the output, outside of the loss module, is part of the gradient."""
    model, loss_func, x, y = small
    extend(model), extend(loss_func)
    top = {"criterion": lambda values: [len(values) - 1]}
    found = {}
    for kind, options in (
        (DirectionalDerivativesComputation, variant),
        (EighComputation, {"subsampling": variant.get("subsampling_ggn")}),
    ):
        computation, group = kind(**options), complete(model, **top)
        own = computation.get_extension() if kind is EighComputation else None
        own = own or computation.get_extensions()[0]
        model.zero_grad()
        with backpack(own, extension_hook=computation.get_extension_hook([group])):
            f = model(x)
            (loss_func(f, y) + 0.3 * f.square().mean()).backward()
        found[kind] = computation.get_result(group)
    slope = sum(
        (p.grad * v[0]).sum()
        for p, v in zip(model.parameters(), found[EighComputation][1], strict=True)
    )
    gammas, _ = found[DirectionalDerivativesComputation]
    assert torch.allclose(gammas.mean().abs(), slope.abs())


def test_draws_are_new_in_each_pass_of_an_extension(small):
    model, loss_func, x, y = small
    extend(model), extend(loss_func)
    computation, group = EigvalshComputation(mc_samples=1), complete(model)
    extension, values = computation.get_extension(), []
    for _ in range(2):
        hook = computation.get_extension_hook([group])
        with backpack(extension, extension_hook=hook):
            loss_func(model(x), y).backward()
        values.append(computation.get_result(group))
    assert not torch.equal(*values)


def test_negative_indices_are_the_same_samples():
    first, second = (results(EigvalshComputation, subsampling=s) for s in ([6, 1], [-1, 1]))
    assert torch.equal(first, second)
    with pytest.raises(ValueError, match="has sample 6 more than once"):
        results(EigvalshComputation, subsampling=[6, -1])


def test_no_result_of_an_earlier_pass_is_left(small):
    """If a later one does not reach its end, or was wrong."""
    model, *rest = small
    computation, group = EigvalshComputation(), complete(model)
    run(computation, model, *rest, [group])
    computation.get_extension_hook([group])
    with pytest.raises(KeyError):
        computation.get_result(group)
    shared, group = used_twice().double(), {}
    group["params"] = [shared[0].weight]
    with pytest.raises(NotImplementedError, match="second time"):
        run(computation, shared, *rest, [group])
    with pytest.raises(KeyError):
        computation.get_result(group)


def test_a_step_along_nothing_is_refused():
    nothing = {"criterion": lambda values: [0], "damping": lambda values, *_: 0 * values}
    with pytest.raises(ValueError, match="direction without curvature and damping"):
        results(DirectionalDampedNewtonComputation, nothing)


def test_a_hook_is_for_one_backward_pass(small):
    model, loss_func, x, y = small
    extend(model), extend(loss_func)
    computation = EigvalshComputation()
    hook = computation.get_extension_hook([complete(model)])
    with backpack(computation.get_extension(), extension_hook=hook):
        loss_func(model(x), y).backward()
        with pytest.raises(ValueError, match=r"seen a backward pass before.*get_extension_hook"):
            loss_func(model(x), y).backward()


def test_without_backpack(monkeypatch):
    monkeypatch.setitem(sys.modules, "backpack", None)
    with pytest.raises(
        ImportError, match=r"EighComputation runs inside BackPACK.*the extra backpack"
    ):
        vivit.__getattr__("EighComputation")
    with pytest.raises(AttributeError, match="no attribute 'OtherComputation'"):
        vivit.__getattr__("OtherComputation")
