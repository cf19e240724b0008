"""Everything that is refused, each with a message that says what to do."""

import pytest
import torch
from cases import TiedWeight
from torch import nn
from torch.utils.checkpoint import checkpoint

import vivit
from vivit import InputError, StaleError, UnsupportedError

CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()
X, Y = torch.randn(4, 5), torch.tensor([0, 1, 2, 0])


def mlp():
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))


def frozen():
    return mlp().requires_grad_(False)


def half_double():
    net = mlp()
    net[2].double()
    return net


def two_devices():
    net = mlp()
    net[2].to("meta")
    return net


class Mixing(nn.Module):
    """Normalises over the batch without a BatchNorm module."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        x = self.first(x)
        return self.second(x - x.mean(0))


class MixingAPair(nn.Module):
    """Lets one sample see one other."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        x = torch.tanh(self.first(x))
        return self.second(torch.cat([x[:1] + 0.01 * x[2:3], x[1:]]))


class DoubleOutput(nn.Linear):
    """Ends in a higher precision than it has."""

    def forward(self, x):
        return super().forward(x).double()


class Checkpointed(nn.Module):
    """Hides its parameters from autograd."""

    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, x):
        return checkpoint(self.net, x.clone().requires_grad_(), use_reentrant=True)


class Strings(nn.Linear):
    """Returns words."""

    def forward(self, x):
        return [str(y) for y in super().forward(x)]


class Overall(nn.Linear):
    """Returns one number for the batch."""

    def forward(self, x):
        return super().forward(x).sum()


class SquareRoot(nn.Linear):
    """Has an infinite derivative at zero."""

    def forward(self, x):
        return (0 * super().forward(x)).sqrt()


class ShuffledSquareRoot(SquareRoot):
    """Samples move to other places, and back."""

    def forward(self, x):
        return super().forward(x.flip(0)).flip(0)


class MyLoss(nn.CrossEntropyLoss):
    """Could compute anything."""


def ggn(model=None, loss_func=CE, data=(X, Y), **options):
    return vivit.GGN(mlp() if model is None else model, loss_func, data, **options)


def blocks(groups, **options):
    return vivit.block_diagonal(mlp(), CE, (X, Y), groups=groups, **options)


def complex_weight():
    model = mlp()
    model[0].weight = nn.Parameter(model[0].weight.detach().to(torch.complex64))
    return model


NAN = torch.where(torch.arange(4)[:, None] == 2, float("nan"), X)


def inference():
    model = mlp()
    with torch.inference_mode():
        ggn(model)


REFUSED = {
    "renormalized embedding": (
        lambda: ggn(nn.Sequential(nn.Embedding(3, 3, max_norm=1.0)), data=(Y, Y)),
        UnsupportedError,
        r"Embedding '0' has max_norm=1.0",
    ),
    "frequencies of an embedding": (
        lambda: ggn(nn.Sequential(nn.Embedding(3, 3, scale_grad_by_freq=True)), data=(Y, Y)),
        UnsupportedError,
        "scale_grad_by_freq=True: its gradients are not derivatives",
    ),
    "no module": (lambda: ggn(len), InputError, "must be a torch.nn.Module, got builtin_function"),
    "inference mode": (inference, UnsupportedError, "Leave it, or use torch.no_grad"),
    "NaN output": (
        lambda: ggn(data=(NAN, Y)),
        InputError,
        r"NaN or infinite for 1 of 4 samples, the first at index 2",
    ),
    "infinite scalar outputs": (
        lambda: ggn(nn.Sequential(nn.Linear(5, 1), nn.Flatten(0)), MSE, (X / 0, X[:, 0])),
        InputError,
        "NaN or infinite for 4 of 4",
    ),
    "infinite derivative": (
        lambda: ggn(SquareRoot(5, 3)).gram(),
        InputError,
        "The curvature is NaN or infinite: look for derivatives of square roots",
    ),
    "infinite derivative, found by a probe": (
        lambda: ggn(ShuffledSquareRoot(5, 3)).gram(),
        InputError,
        "derivative of the model output is NaN or infinite at the operation that uses 'weight'",
    ),
    "no tensor": (lambda: ggn(Strings(5, 3)), InputError, "must return one tensor, got list"),
    "scalar output": (lambda: ggn(Overall(5, 3)), InputError, r"shape \[\], expected \[N, ...\]"),
    "batch norm, training": (
        lambda: ggn(nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))),
        UnsupportedError,
        r"BatchNorm1d '1' uses the statistics of the batch.*model.eval\(\)",
    ),
    "batch norm without statistics": (
        lambda: ggn(
            nn.Sequential(nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, 3)).eval()
        ),
        UnsupportedError,
        "BatchNorm1d '0' uses the statistics of the batch",
    ),
    "mixed samples": (
        lambda: ggn(Mixing()).gram(),
        UnsupportedError,
        "mixes samples.*between modules, in the forward of Mixing",
    ),
    "reentrant checkpoint": (lambda: ggn(Checkpointed()), UnsupportedError, "use_reentrant=False"),
    "no loss": (
        lambda: ggn(loss_func="mse"),
        InputError,
        "must map output and target to a scalar",
    ),
    "loss without a scalar": (
        lambda: ggn(loss_func=lambda f, y: f),
        InputError,
        r"must return a scalar, got \[4, 3\]",
    ),
    "no reduction": (
        lambda: ggn(loss_func=nn.MSELoss(reduction="none")),
        UnsupportedError,
        "reduction='none'.*Use reduction='mean'",
    ),
    "all targets ignored": (
        lambda: ggn(loss_func=nn.CrossEntropyLoss(ignore_index=0), data=[(X, 0 * Y), (X, 0 * Y)]),
        InputError,
        "averages over nothing: all targets are ignored",
    ),
    "targets of the wrong shape": (
        lambda: ggn(data=(X, Y[:3])),
        InputError,
        r"class indices of shape \[4\] or.*as targets, got shape \[3\]",
    ),
    "class out of range": (
        lambda: ggn(data=(X, Y + 1)),
        InputError,
        r"1 of 4 targets are outside of the classes 0..2.*first is 3 at flat index 2",
    ),
    "one class": (
        lambda: ggn(nn.Linear(5, 1), data=(X, 0 * Y)),
        InputError,
        r"C >= 2 classes, got \[4, 1\]",
    ),
    "output with extra dimensions": (
        lambda: ggn(nn.Unflatten(1, (5, 1)), data=(X, Y), params=None),
        InputError,
        "No parameter is selected",
    ),
    "broadcast targets": (
        lambda: ggn(loss_func=MSE, data=(X, X[:, :1])),
        InputError,
        r"output's shape \[4, 3\], got \[4, 1\]",
    ),
    "targets elsewhere": (
        lambda: ggn(data=(X, Y.to("meta"))),
        InputError,
        "targets are on meta, the output on cpu",
    ),
    "nothing requires gradients": (
        lambda: ggn(frozen()),
        InputError,
        "none of the model's requires a gradient",
    ),
    "empty selection": (
        lambda: ggn(params=[]),
        InputError,
        "No parameter is selected: params is empty",
    ),
    "frozen selection": (
        lambda: ggn(frozen(), params=["0.weight"]),
        InputError,
        r"are frozen \(requires_grad=False\): 0.weight",
    ),
    "unknown name": (
        lambda: ggn(params=["0.wieght"]),
        InputError,
        "No parameter is called '0.wieght'.*Near matches: 0.weight",
    ),
    "unknown glob": (
        lambda: ggn(params=["conv*"]),
        InputError,
        "or matches it. Near matches: 0.weight",
    ),
    "foreign parameter": (
        lambda: ggn(params=[nn.Parameter(X)]),
        InputError,
        r"shape \[4, 5\] is not one of the model's",
    ),
    "wrong selector": (
        lambda: ggn(params=[0]),
        InputError,
        "takes names, globs or parameters, got int: 0",
    ),
    "several dtypes": (
        lambda: ggn(half_double()),
        InputError,
        r"several dtypes: torch.float64 \('2.weight'\), torch.float32 \('0.weight'\)",
    ),
    "several devices": (
        lambda: ggn(two_devices()),
        InputError,
        r"several devices: meta \('2.weight'\), cpu \('0.weight'\)",
    ),
    "complex numbers": (
        lambda: ggn(complex_weight()),
        InputError,
        "dtype torch.complex64, but curvature needs float16, bfloat16, float32 or float64",
    ),
    "output in another precision": (
        lambda: ggn(DoubleOutput(5, 3)),
        UnsupportedError,
        "has dtype torch.float64, the parameters have torch.float32: it has to be torch.float32",
    ),
    "gradient hook": (
        lambda: ggn(hooked()),
        UnsupportedError,
        "Parameter '0.weight' has gradient hooks.*Remove them",
    ),
    "empty batch": (
        lambda: ggn(data=(X[:0], Y[:0])),
        InputError,
        r"batch is empty: X has shape \[0, 5\]",
    ),
    "empty targets": (
        lambda: ggn(data=(X, Y[:0])),
        InputError,
        r"batch is empty: y has shape \[0\]",
    ),
    "no batch": (lambda: ggn(data=X), InputError, "must be a batch .* got Tensor"),
    "three parts": (
        lambda: ggn(data=(X, Y, Y)),
        InputError,
        r"data must be a batch \(X, y\).* got tuple of length 3 \(Tensor, Tensor, Tensor\)",
    ),
    "no target tensor": (
        lambda: ggn(data=(X, [0, 1, 2, 0])),
        InputError,
        "CrossEntropyLoss takes a tensor of targets, got list",
    ),
    "k and criterion": (
        lambda: ggn().eigh(k=1, criterion=lambda v: [0]),
        InputError,
        "either k or criterion",
    ),
    "criterion of one": (
        lambda: ggn().eigh(criterion=lambda v: 3),
        InputError,
        "must return the indices.*got one number: 3",
    ),
    "k no integer": (lambda: ggn().eigh(k=2.0), InputError, "a whole number between 1 and"),
    "vector of another kind": (
        lambda: ggn() @ [1.0],
        InputError,
        "a tensor or a mapping.*got list",
    ),
    "k too small": (lambda: ggn().eigh(k=0), InputError, r"between 1 and min\(M, D\) = 8, got 0"),
    "k too large": (lambda: ggn().eigh(k=9), InputError, r"between 1 and min\(M, D\) = 8, got 9"),
    "flat vector of the wrong size": (
        lambda: ggn() @ torch.ones(5),
        InputError,
        r"needs shape \[39\], or \[39, K\] for several, got \[5\]",
    ),
    "names of a vector": (
        lambda: ggn() @ {"0.weight": X},
        InputError,
        r"missing \['0.bias', '2.bias', '2.weight'\], unknown \[\]",
    ),
    "shape in a vector": (
        lambda: ggn(params=["2.bias"]) @ {"2.bias": X},
        InputError,
        r"'2.bias' needs shape \[3\], got \[4, 5\]",
    ),
    "unknown grouping": (
        lambda: blocks("layers"),
        InputError,
        "Unknown grouping 'layers'. Expected 'layer', 'parameter'",
    ),
    "overlapping groups": (
        lambda: blocks({"a": ["*"], "b": ["0.bias"]}),
        InputError,
        "Groups overlap: parameter '0.bias' is in 'a', 'b'",
    ),
    "uncovered parameters": (
        lambda: blocks({"a": ["0.*"]}),
        InputError,
        "leave out selected parameters: 2.weight, 2.bias",
    ),
    "unselected parameters in a group": (
        lambda: blocks({"a": ["*"]}, params=["0.*"]),
        InputError,
        "Group 'a' has parameters that are not selected: 2.bias, 2.weight",
    ),
    "empty group": (lambda: blocks({"a": ["*"], "b": []}), InputError, "Group 'b' is empty"),
}


def hooked():
    net = mlp()
    net[0].weight.register_hook(lambda g: g.clamp(-1, 1))
    return net


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("what", ["gram", "eigh", "gradient"])
@pytest.mark.parametrize("change", ["in place", "new data"])
def test_changed_parameters(what, change):
    model = mlp()
    curvature = ggn(model)
    with torch.no_grad():
        if change == "in place":
            model[0].weight.mul_(2)
        else:
            model[0].weight.data = torch.ones(4, 5)
    with pytest.raises(StaleError, match=r"'0.weight' was changed after the forward pass"):
        getattr(curvature, what)()


@pytest.mark.parametrize("changed", [0, 1])
@pytest.mark.parametrize("what", ["eigvalsh", "gradient", "directional_derivatives"])
def test_data_changed_in_place(what, changed):
    """Reusing the buffers of a batch is common; the graph still refers to them."""
    data = X.clone(), Y.clone()
    curvature = ggn(data=data)
    data[changed].mul_(3)
    with pytest.raises(StaleError, match="Inputs or targets were changed in place"):
        getattr(curvature, what)()


def test_changed_parameters_after_the_gram_matrix():
    model = mlp()
    curvature = ggn(model)
    curvature.eigvalsh()
    with torch.no_grad():
        model[0].weight.mul_(2)
    with pytest.raises(StaleError, match=r"'0.weight' was changed"):
        curvature.eigvalsh()


def test_exceptions_are_built_in_ones_too():
    for kind, built_in in [
        (InputError, ValueError),
        (UnsupportedError, NotImplementedError),
        (StaleError, RuntimeError),
    ]:
        assert issubclass(kind, built_in)
        assert issubclass(kind, vivit.VivitError)


def test_mixing_before_all_parameters_is_fine():
    """Statistics of the inputs do not depend on the parameters."""

    class Whitened(nn.Linear):
        def forward(self, x):
            return super().forward((x - x.mean(0)) / x.std(0))

    assert len(ggn(Whitened(5, 3)).eigvalsh()) == 8


def test_checkpointing_without_reentry_works():
    class Safe(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp()

        def forward(self, x):
            return checkpoint(self.net, x, use_reentrant=False)

    model = Safe()
    assert torch.allclose(ggn(model).eigvalsh(), ggn(model.net).eigvalsh(), atol=1e-6)


def test_parameters_that_a_custom_function_hides():
    class Hiding(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, layer):
            return layer(x.detach())

        @staticmethod
        def backward(ctx, g):
            return g, None

    class Model(nn.Sequential):
        def forward(self, x):
            return self[1](Hiding.apply(x.clone().requires_grad_(), self[0]))

    model = Model(nn.Linear(5, 5), nn.Linear(5, 3))
    with pytest.warns(UserWarning, match=r"0.weight, 0.bias.*HidingBackward.*may hide them"):
        ggn(model)
    with pytest.raises(InputError, match=r"No selected parameter influences.*HidingBackward"):
        ggn(model, params=["0*"])
    ggn(model, params=["1*"])  # warnings are errors


def test_tied_weights_are_selected_by_either_name():
    model = TiedWeight()
    data = torch.randn(4, 4), Y
    assert ggn(model, data=data, params=["second.weight"]).parameter_names == ["first.weight"]


class TwoInputs(nn.Linear):
    """Called with two tensors."""

    def forward(self, a, b):
        return super().forward(a + b)


JAGGED = torch.nested.as_nested_tensor([X, X[:2]], layout=torch.jagged)
WORDS = {
    "scripted": (
        lambda: ggn(torch.jit.trace(nn.Linear(5, 3), X)),
        UnsupportedError,
        "is scripted or traced",
    ),
    "lazy": (lambda: ggn(nn.LazyLinear(3)), InputError, "no values yet: weight, bias. Run the"),
    "numpy": (lambda: ggn(data=(X.numpy(), Y)), InputError, "X is a numpy array: give a tensor"),
    "numpy targets": (lambda: ggn(data=(X, Y.numpy())), InputError, "y is a numpy array"),
    "numpy within": (
        lambda: ggn(data=([X.numpy()], Y), forward=lambda m, x: m(x[0])),
        InputError,
        "The inputs are numpy arrays",
    ),
    "two arguments": (
        lambda: ggn(TwoInputs(5, 3), data=((X, X), Y)),
        InputError,
        r"forward takes \(a, b\), but is called with X alone.*lambda model, X: model\(\*X\)",
    ),
    "integers": (
        lambda: ggn(data=(torch.ones(4, 5, dtype=torch.uint8), Y)),
        InputError,
        r"Inputs have dtype torch.uint8, the parameters torch.float32: convert one",
    ),
    "loss as output": (
        lambda: ggn(data=(X, Y), forward=lambda m, x: m(x).sum()),
        InputError,
        r"Is it a loss\? Say where the output is: forward=",
    ),
    "other dtype": (
        lambda: ggn(data=(X.double(), Y)),
        InputError,
        r"Inputs have dtype torch.float64, the parameters torch.float32: convert one",
    ),
    "other device": (
        lambda: ggn(data=(X.to("meta"), Y)),
        InputError,
        r"Inputs are on meta, the parameters on cpu: move the inputs with X.to\('cpu'\)",
    ),
    "nested within": (
        lambda: ggn(TwoInputs(5, 3), data=({"a": JAGGED, "b": X}, Y)),
        InputError,
        "The inputs are nested tensors: pad them",
    ),
    "one sample": (lambda: ggn(data=(X[0], Y[0])), InputError, r"give a batch of it, X\[None\]"),
    "vector of another dtype": (
        lambda: ggn() @ torch.ones(79).double(),
        InputError,
        "The vector must be torch.float32 on cpu, as the parameters are, got torch.float64",
    ),
    "part of another dtype": (
        lambda: ggn() @ {name: p.detach().double() for name, p in mlp().named_parameters()},
        InputError,
        "The vector for '0.weight' must be torch.float32",
    ),
    "list times a factor": (
        lambda: ggn().factor_operator() @ [1.0],
        InputError,
        "A vector is a tensor or a mapping .* got list",
    ),
    "targets of a known loss": (
        lambda: ggn(data=(X, {"y": Y})),
        InputError,
        "CrossEntropyLoss takes a tensor of targets, got dict",
    ),
}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
@pytest.mark.parametrize(("call", "kind", "message"), WORDS.values(), ids=WORDS.keys())
def test_what_a_newcomer_meets(call, kind, message):
    with pytest.raises(kind, match="(?i)" + message):
        call()


def test_what_a_model_raises_otherwise_stays():
    class Broken(nn.Linear):
        def forward(self, x):
            raise KeyError("of its own")

    with pytest.raises(KeyError, match="of its own"):
        ggn(Broken(5, 3))


def normed():
    """Frozen parts, statistics and random masks before what is selected."""
    parts = nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)
    return nn.Sequential(*parts).eval()


def of_frozen(model):
    with torch.no_grad():
        model[0].weight.mul_(2)


def of_statistics(model):
    model[1].running_var.mul_(2)


def of_mode(model):
    model[2].train()


CHANGES = {
    "another parameter": (of_frozen, "'0.weight' of the model was changed"),
    "buffer": (of_statistics, "'1.running_var' of the model was changed"),
    "mode": (of_mode, r"mode of the model \(train or eval\) was changed"),
}


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_changes_of_what_is_not_selected(change, message, pieces):
    """Forward passes that are made later would be those of another function."""
    model, data = normed(), [(X, Y)] * pieces
    curvature = ggn(model, data=data, params=["3.*"])
    change(model)
    with pytest.raises(StaleError, match=message):
        curvature.gradient()
