"""The interface of vivit-for-pytorch 1.0.0, by its contract, and against `vivit.GGN`."""

import sys
import warnings
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from backpack import backpack, extend
from backpack.extensions import BatchGrad, SqrtGGNExact
from torch import nn

import vivit
from vivit import (
    DirectionalDampedNewtonComputation,
    DirectionalDerivativesComputation,
    EighComputation,
    EigvalshComputation,
    MonteCarlo,
)

CE, MSE, BCE = nn.CrossEntropyLoss, nn.MSELoss, nn.BCEWithLogitsLoss


def mlp():
    return nn.Sequential(
        nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4), nn.Sigmoid(), nn.Linear(4, 3)
    )


def conv():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, stride=2),
        nn.Tanh(),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 2, groups=2, bias=False),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def transposed():
    return nn.Sequential(
        nn.ConvTranspose1d(2, 3, 3, stride=2), nn.ELU(), nn.Flatten(), nn.Linear(27, 3)
    )


def same_padding():
    return nn.Sequential(
        nn.Conv1d(2, 3, 3, padding="same"),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


def sequence():
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3))


def positions():
    return nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Conv1d(4, 3, 1))


def tokens():
    return nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 3))


@dataclass
class Problem:
    """A model for BackPACK, its loss and a batch, in double precision."""

    network: Any
    shape: tuple
    loss: Any = CE

    def make(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = self.network().double().eval()
            x = torch.randn(self.shape, dtype=torch.float64)
            if self.network is tokens:
                x = torch.randint(7, self.shape)
            f = model(x).detach()
            loss_func, classes = self.loss(), f[:, 0].shape
            is_ce = isinstance(loss_func, CE)
            targets = torch.randint(3, classes) if is_ce else torch.rand_like(f)
        return model, loss_func, x, targets


PROBLEMS = {
    "mlp": Problem(mlp, (7, 5)),
    "mlp, mse": Problem(mlp, (7, 5), MSE),
    "mlp, bce": Problem(mlp, (7, 5), BCE),
    "conv": Problem(conv, (6, 2, 7, 7)),
    "conv, mse": Problem(conv, (6, 2, 7, 7), MSE),
    "transposed": Problem(transposed, (6, 2, 4)),
    "same padding": Problem(same_padding, (6, 2, 4)),
    "sequence": Problem(sequence, (6, 3, 5)),
    "tokens": Problem(tokens, (6, 3)),
    "positions": Problem(positions, (5, 2, 5)),
    "smoothing": Problem(mlp, (7, 5), lambda: CE(label_smoothing=0.1)),
}
VARIANTS = {
    "exact": {},
    "subset": {"subsampling": [4, 0, 2]},
    "monte-carlo": {"mc_samples": 2, "seed": 3},
    "both": {"subsampling": [3, 1], "mc_samples": 1, "seed": 3},
}
GROUPS = ["network", "parameter", "weights and biases"]


def split(model, how):
    """Names of the parameters of each group."""
    names = [name for name, _ in model.named_parameters()]
    if how == "network":
        return [names]
    if how == "parameter":
        return [[name] for name in names]
    groups = [[n for n in names if n.endswith(kind)] for kind in ("weight", "bias")]
    return [group for group in groups if group]


def run(computation, model, loss_func, x, y, groups):
    """One backward pass."""
    extend(model), extend(loss_func)
    single = hasattr(computation, "get_extension")
    found = [computation.get_extension()] if single else computation.get_extensions()
    with backpack(*found, extension_hook=computation.get_extension_hook(groups)):
        loss_func(model(x), y).backward()
    return [computation.get_result(group) for group in groups]


def ours(model, loss_func, x, y, names, variant):
    """The same by `vivit.GGN`, on a copy without BackPACK's hooks."""
    options = {}
    if "mc_samples" in variant:
        options["approximation"] = MonteCarlo(variant["mc_samples"], variant["seed"])
    if "subsampling" in variant:
        options["subset"] = sorted(variant["subsampling"])
    return vivit.GGN(model, loss_func, (x, y), params=names, **options)


def for_directional(variant):
    """The names of the same arguments where there are two subsamplings."""
    renamed = {"subsampling": "subsampling_ggn", "mc_samples": "mc_samples_ggn"}
    return {renamed.get(name, name): value for name, value in variant.items()}


@pytest.fixture(params=PROBLEMS)
def problem(request):
    return PROBLEMS[request.param]


@pytest.fixture(params=VARIANTS)
def variant(request):
    return VARIANTS[request.param]


@pytest.fixture(params=GROUPS)
def grouped(request, problem):
    """A problem for BackPACK, the same for `vivit.GGN`, and groups."""
    data, other = problem.make(), problem.make()
    named = dict(data[0].named_parameters())
    groups = [
        {"params": [named[n] for n in names], "names": names}
        for names in split(data[0], request.param)
    ]
    return data, other, groups


def close(a, b):
    scale = float(b.abs().max()) if b.numel() else 0.0
    return torch.allclose(a, b, rtol=1e-8, atol=1e-10 * max(scale, 1e-12))


def test_eigenvalues(grouped, variant):
    """All ``C |S|``, ascending: those of the GGN, and zeros for what its rank lacks."""
    data, other, groups = grouped
    outputs = other[0](other[2])[0].numel()
    samples = len(variant.get("subsampling", range(len(data[2]))))
    count = samples * variant.get("mc_samples", outputs)
    for group, values in zip(
        groups, run(EigvalshComputation(**variant), *data, groups), strict=True
    ):
        expected = ours(*other, group["names"], variant).eigvalsh()
        assert values.shape == (count,)
        assert not values.requires_grad
        assert (values.diff() >= 0).all()
        padded = torch.cat([expected.new_zeros(count - len(expected)), expected]).sort().values
        assert torch.allclose(values, padded, rtol=1e-9, atol=1e-12 * float(expected[-1]))


def leading(values):
    """The largest two, the largest first; or the only one."""
    return [len(values) - 1, len(values) - 2][: len(values)]


def test_eigenvectors(grouped, variant):
    """In the order of the criterion and of the group, of unit norm over the group."""
    data, other, groups = grouped
    groups = [{**group, "criterion": leading} for group in groups]
    computation = EighComputation(**variant, warn_small_eigvals=0)
    for group, (values, vectors) in zip(groups, run(computation, *data, groups), strict=True):
        ggn = ours(*other, group["names"], variant)
        expected = ggn.eigvalsh()
        if len(expected) < 2 or expected[-2] < 1e-8 * expected[-1]:
            continue  # a single direction
        assert close(values, expected[[-1, -2]])
        assert [v.shape for v in vectors] == [(2, *p.shape) for p in group["params"]]
        flat = torch.cat([v.flatten(1) for v in vectors], dim=1)
        assert torch.allclose(flat @ flat.T, torch.eye(2).double(), atol=1e-6)
        for value, vector in zip(values, flat, strict=True):
            assert torch.allclose(ggn @ vector, value * vector, atol=1e-8 * float(expected[-1]))


def is_multiple(values):
    """Whether the largest eigenvalue is a multiple one, up to rounding errors."""
    return len(values) > 1 and bool(values[-1] - values[-2] < 1e-6 * values[-1])


@pytest.mark.parametrize("subsampling_grad", [None, [3, 1]])
def test_directional_derivatives(grouped, variant, subsampling_grad):
    """Per sample; the signs of first derivatives are those of the directions."""
    data, other, groups = grouped
    groups = [{**group, "criterion": lambda values: [len(values) - 1]} for group in groups]
    computation = DirectionalDerivativesComputation(
        subsampling_grad, **for_directional(variant), warn_small_eigvals=0
    )
    for group, (gammas, lambdas) in zip(groups, run(computation, *data, groups), strict=True):
        ggn = ours(*other, group["names"], variant)
        if is_multiple(ggn.eigvalsh()):
            continue  # directions are arbitrary
        expected = ggn.directional_derivatives(k=1)
        rows = slice(None) if subsampling_grad is None else subsampling_grad
        order = variant.get("subsampling")
        places = slice(None) if order is None else [sorted(order).index(i) for i in order]
        own = expected.gammas[rows]
        sign = torch.sign((own * gammas).sum())
        assert close(gammas, sign * own)
        assert close(lambdas, expected.lambdas[places])


def test_newton_step(grouped, variant):
    data, other, groups = grouped
    damped = {"criterion": leading, "damping": lambda values, *_: torch.full_like(values, 0.5)}
    groups = [{**group, **damped} for group in groups]
    computation = DirectionalDampedNewtonComputation(
        **for_directional(variant), warn_small_eigvals=0
    )
    for group, step in zip(groups, run(computation, *data, groups), strict=True):
        ggn = ours(*other, group["names"], variant)
        values = ggn.eigvalsh()
        if is_multiple(values[:-1]):
            continue  # of a multiple eigenvalue, only some directions are kept
        expected = ggn.newton_step(damping=0.5, k=min(2, len(values)))
        assert [s.shape for s in step] == [p.shape for p in group["params"]]
        for name, s in zip(group["names"], step, strict=True):
            assert torch.allclose(s, expected[name], rtol=1e-6, atol=1e-9)


ALL = [
    EigvalshComputation,
    EighComputation,
    DirectionalDerivativesComputation,
    DirectionalDampedNewtonComputation,
]


def complete(model, **changes):
    """A group of all parameters that suits every computation."""
    group = {
        "params": list(model.parameters()),
        "criterion": leading,
        "damping": lambda values, *_: torch.ones_like(values),
    }
    return {**group, **changes}


@pytest.fixture
def small():
    return PROBLEMS["mlp"].make()


@pytest.mark.parametrize("kind", ALL)
def test_nothing_is_left_behind_and_gradients_are_there(kind, small):
    """Beside another extension, in one backward pass."""
    model, loss_func, x, y = small
    loss_func(model(x), y).backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    extend(model), extend(loss_func)
    computation, before = kind(), {*vars(next(model.parameters()))}
    own = [computation.get_extension()] if kind in ALL[:2] else computation.get_extensions()
    hook = computation.get_extension_hook([complete(model)])
    loss = loss_func(model(x), y)
    with backpack(BatchGrad(), *own, extension_hook=hook):
        loss.backward()
    for p, grad in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(p.grad, grad)
        assert torch.allclose(p.grad_batch.sum(0), grad)
        assert {*vars(p)} - before == {"grad_batch"}


def results(kind, changes=None, **options):
    """Of one backward pass of the small problem, with all parameters in one group."""
    model, *rest = PROBLEMS["mlp"].make()
    group = complete(model, **(changes or {}))
    if kind is not EigvalshComputation:
        options = {"warn_small_eigvals": 0, **options}
    return run(kind(**options), model, *rest, [group])[0]


@pytest.mark.parametrize(
    ("criterion", "order"),
    [
        (lambda values: [20, 18, 19], [20, 18, 19]),
        (lambda values: (20, 18, 19), [20, 18, 19]),
        (lambda values: torch.tensor([20, 18, 19]), [20, 18, 19]),
        (lambda values: torch.arange(21) >= 18, [18, 19, 20]),
        (lambda values: slice(18, 21), [18, 19, 20]),
        (lambda values: range(18, 21), [18, 19, 20]),
    ],
    ids=["list", "tuple", "tensor", "mask", "slice", "range"],
)
def test_criteria_keep_their_order(criterion, order):
    values, vectors = results(EighComputation, {"criterion": criterion})
    assert torch.allclose(values, results(EigvalshComputation)[order])
    assert all(len(v) == 3 for v in vectors)


def test_a_criterion_that_keeps_nothing():
    nothing = {"criterion": lambda values: []}
    values, vectors = results(EighComputation, nothing)
    gammas, lambdas = results(DirectionalDerivativesComputation, nothing)
    step = results(DirectionalDampedNewtonComputation, nothing)
    assert values.shape == (0,)
    assert [len(v) for v in vectors] == [0] * 6
    assert gammas.shape == lambdas.shape == (7, 0)
    assert not any(s.any() for s in step)


def test_directions_of_eigenvalues_that_are_zero():
    """The contract counts them; they have no direction, and no derivatives."""
    first = {"criterion": lambda values: [0, 20]}
    values, vectors = results(EighComputation, first)
    assert values[0] == 0 < values[1]
    assert not any(v[0].any() for v in vectors)
    gammas, lambdas = results(DirectionalDerivativesComputation, first)
    assert not gammas[:, 0].any()
    assert not lambdas[:, 0].any()
    whole = results(DirectionalDampedNewtonComputation, first)
    alone = results(DirectionalDampedNewtonComputation, {"criterion": lambda values: [20]})
    assert all(torch.allclose(a, b) for a, b in zip(whole, alone, strict=True))


@pytest.mark.parametrize("subsampling", [None, [4, 0, 2]])
@pytest.mark.parametrize("loss", [CE, MSE])
def test_what_a_damping_is_given(loss, subsampling):
    """Eigenvectors of the Gram matrix of BackPACK's own columns, in its order."""
    given = []

    def damping(*arguments):
        given.extend(arguments)
        return torch.ones_like(arguments[0])

    model, loss_func, x, y = Problem(mlp, (7, 5), loss).make()
    group = complete(model, damping=damping)
    computation = DirectionalDampedNewtonComputation([1, 3], subsampling, warn_small_eigvals=0)
    run(computation, model, loss_func, x, y, [group])
    values, vectors, gammas, lambdas = given
    with backpack(SqrtGGNExact(subsampling=subsampling)):
        loss_func(model(x), y).backward()
    count = 7 if subsampling is None else 3
    columns = torch.cat([p.sqrt_ggn_exact.flatten(2) for p in model.parameters()], dim=2)
    columns = columns.flatten(end_dim=1) * (7 / count) ** 0.5
    gram = columns @ columns.T
    assert vectors.shape == (3 * count, 2)
    assert torch.allclose(gram @ vectors, values * vectors, atol=1e-12)
    assert torch.allclose(vectors.T @ vectors, torch.eye(2).double(), atol=1e-10)
    assert gammas.shape == (2, 2)
    assert lambdas.shape == (count, 2)
    assert torch.allclose(lambdas.mean(0), values)


def test_seeds():
    """A seed fixes the draws; without one they follow torch's generator."""
    first, again, other = (
        results(EigvalshComputation, mc_samples=1, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        drawn, more = (results(EigvalshComputation, mc_samples=1) for _ in range(2))
        torch.manual_seed(5)
        repeated = results(EigvalshComputation, mc_samples=1)
    assert torch.equal(drawn, repeated)
    assert not torch.equal(drawn, more)


def test_small_eigenvalues_are_warned_about():
    with pytest.warns(UserWarning, match="kept are below 0.0001"):
        results(EighComputation, {"criterion": lambda values: [0]}, warn_small_eigvals=1e-4)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Some of the eigenvalues")
        results(EighComputation, {"criterion": lambda values: [0]}, warn_small_eigvals=0)


def test_verbose(capsys):
    results(EigvalshComputation)
    assert not capsys.readouterr().out
    results(EigvalshComputation, verbose=True)
    assert "EigvalshComputation: group" in capsys.readouterr().out


def test_a_single_parameter(small):
    model, *rest = small
    groups = [{"params": model[0].weight}, {"params": [model[2].weight]}]
    values, _ = run(EigvalshComputation(), model, *rest, groups)
    ggn = vivit.GGN(PROBLEMS["mlp"].make()[0], *rest[:1], rest[1:], params=["0.weight"])
    assert torch.allclose(values[-14:], ggn.eigvalsh(), atol=1e-14)


def test_parameters_from_a_generator(small):
    model, *rest = small
    group = {"params": model.parameters()}
    (values,) = run(EigvalshComputation(), model, *rest, [group])
    assert torch.allclose(values, results(EigvalshComputation))
    assert len(group["params"]) == 6


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.relu, self.sigmoid = nn.ReLU(), nn.Sigmoid()

    def forward(self, x):
        x = self.relu(self.first(x))
        return self.last(x + self.sigmoid(self.second(x)))


def test_residual_networks_by_the_converter():
    torch.manual_seed(0)
    model, x, y = Residual().double().eval(), torch.randn(6, 5).double(), torch.arange(6) % 3
    expected = vivit.GGN(model, CE(), (x, y)).eigvalsh()
    converted, loss_func = extend(model, use_converter=True), extend(CE())
    group = {"params": list(converted.parameters())}
    computation = EigvalshComputation()
    hook = computation.get_extension_hook([group])
    with backpack(computation.get_extension(), extension_hook=hook):
        loss_func(converted(x), y).backward()
    assert torch.allclose(computation.get_result(group)[-12:], expected, rtol=1e-9, atol=1e-14)


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
        with pytest.raises(ValueError, match="has sample 9, but the batch has 7"):
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
    with pytest.raises(ValueError, match=r"duplicate samples: \[6\]"):
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
        ImportError, match=r"EighComputation runs inside BackPACK.*vivit\[backpack"
    ):
        vivit.__getattr__("EighComputation")
    with pytest.raises(AttributeError, match="no attribute 'OtherComputation'"):
        vivit.__getattr__("OtherComputation")
