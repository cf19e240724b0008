"""Weights that are no parameters of their own: quantised ones with adapters, and tied ones."""

import pytest
import torch
import torch.nn.functional as F
from oracle import loss_hessian
from torch import Tensor, nn

import vivit
from vivit import UnsupportedError

CE = nn.CrossEntropyLoss()
GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(6, 5, generator=GENERATOR).double(), torch.arange(6) % 3
TOKENS, NEXT = torch.randint(6, (5, 3), generator=GENERATOR), torch.tensor([0, 3, 5, 1, 2])


def quantised(weight):
    """Integers of 8 bits, and a scale for each row."""
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scale).round().to(torch.int8), scale


class InBuffers(nn.Module):
    """A linear layer whose weight is dequantised in forward."""

    def __init__(self, i, o):
        super().__init__()
        weight, scale = quantised(torch.randn(o, i).double())
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)

    def forward(self, x):
        return x @ (self.weight.to(x.dtype) * self.scale).T


class InParameter(nn.Module):
    """The same with a frozen parameter of integers."""

    def __init__(self, i, o):
        super().__init__()
        weight, self.scale = quantised(torch.randn(o, i).double())
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x):
        return x @ (self.weight.to(x.dtype) * self.scale).T


class Product(torch.autograd.Function):
    """By a quantised weight, as libraries for 4 and 8 bits have it."""

    @staticmethod
    def forward(ctx, x, weight, scale):
        ctx.save_for_backward(weight, scale)
        return x @ (weight.to(x.dtype) * scale).T

    @staticmethod
    def backward(ctx, g):
        weight, scale = ctx.saved_tensors
        return g @ (weight.to(g.dtype) * scale), None, None


class InFunction(InParameter):
    """The same by an autograd function."""

    def forward(self, x):
        return Product.apply(x, self.weight, self.scale)


class Quantised(Tensor):
    """A tensor that is dequantised by whatever is done with it."""

    @staticmethod
    def __new__(cls, q, scale):
        return Tensor._make_wrapper_subclass(cls, q.shape, dtype=scale.dtype, device=q.device)

    def __init__(self, q, scale):
        self.q, self.scale = q, scale

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.detach.default:
            return Quantised(args[0].q, args[0].scale)
        plain = [x.q.to(x.scale.dtype) * x.scale if isinstance(x, cls) else x for x in args]
        return func(*plain, **(kwargs or {}))


class InSubclass(nn.Linear):
    """The same with a subclass of tensors as frozen weight."""

    def __init__(self, i, o):
        super().__init__(i, o, bias=False, dtype=torch.float64)
        weight = Quantised(*quantised(self.weight.detach()))
        self.weight = nn.Parameter(weight, requires_grad=False)


class Straight(nn.Linear):
    """Of training for quantisation: rounded, with the derivative of the identity."""

    def __init__(self, i, o):
        super().__init__(i, o, dtype=torch.float64)

    def forward(self, x):
        rounded = torch.fake_quantize_per_tensor_affine(self.weight, 0.05, 0, -128, 127)
        return F.linear(x, rounded, self.bias)


class Adapted(nn.Module):
    """A base, and an adapter of low rank."""

    def __init__(self, base, i, o, dtype=torch.float64):
        super().__init__()
        self.base = base(i, o)
        self.a = nn.Parameter(torch.randn(2, i, dtype=dtype))
        self.b = nn.Parameter(torch.randn(o, 2, dtype=dtype))

    def forward(self, x):
        return self.base(x) + x @ self.a.T @ self.b.T


def adapted(base, **options):
    first, second = Adapted(base, 5, 4, **options), Adapted(base, 4, 3, **options)
    return nn.Sequential(first, nn.Tanh(), second)


class Decoder(nn.Module):
    """A linear layer whose weight is a buffer."""

    def __init__(self, weight):
        super().__init__()
        self.bias = nn.Parameter(torch.randn(6).double())
        self.register_buffer("weight", weight)

    def forward(self, h):
        return F.linear(h, self.weight, self.bias)


class Tied(nn.Module):
    """An embedding whose weight is that of the output, in one of several ways."""

    def __init__(self, tie, embedding=nn.Embedding):
        super().__init__()
        self.embedding, self.middle = embedding(6, 4).double(), nn.Linear(4, 4).double()
        self.output = tie(self.embedding.weight)

    def forward(self, tokens):
        h = self.embedding(tokens)
        return self.output(torch.tanh(self.middle(h if h.ndim == 2 else h.sum(dim=1))))


class Transposed(nn.Module):
    """The transposed weight as a buffer."""

    def __init__(self, weight):
        super().__init__()
        self.register_buffer("weight", weight.T)

    def forward(self, h):
        return h @ self.weight


class Property(Tied):
    """The weight is looked up in forward."""

    def __init__(self):
        super().__init__(lambda weight: nn.Identity())

    @property
    def weight(self):
        return self.embedding.weight

    def forward(self, tokens):
        return super().forward(tokens) @ self.weight.T


def assigned(weight):
    layer = Decoder(torch.zeros(6, 4).double())
    layer.weight = weight
    return layer


def bag(*sizes):
    return nn.EmbeddingBag(*sizes, mode="sum")


BASES = (InBuffers, InParameter, InFunction, InSubclass, Straight)
MODELS = {
    **{f"adapters, {base.__name__}": lambda base=base: adapted(base) for base in BASES},
    "tied, a buffer": lambda: Tied(Decoder),
    "tied, assigned to a buffer": lambda: Tied(assigned),
    "tied, a view": lambda: Tied(lambda weight: Decoder(weight.view(6, 4))),
    "tied, twice transposed": lambda: Tied(lambda weight: Decoder(weight.T.T)),
    "tied, transposed": lambda: Tied(Transposed),
    "tied, a property": Property,
    "tied, of a bag": lambda: Tied(Decoder, bag),
    "tied, of a bag, transposed": lambda: Tied(Transposed, bag),
}


def dense(model, x, y):
    """``J^T H J`` and the gradient, one output after the other."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    output = model(x)
    rows = [torch.autograd.grad(f, parameters, retain_graph=True) for f in output.flatten()]
    jacobian = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
    gradient = torch.autograd.grad(CE(output, y), parameters)
    exact = jacobian.T @ loss_hessian(CE, output.detach(), y) @ jacobian
    return exact, torch.cat([g.flatten() for g in gradient])


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_dense(name, pieces):
    """Eigenpairs, products and gradients, all by fast rules."""
    torch.manual_seed(0)
    model = MODELS[name]()
    x, y = (TOKENS, NEXT) if name.startswith("tied") else (X, Y)
    exact, gradient = dense(model, x, y)
    data = (x, y) if pieces == 1 else [(x[:2], y[:2]), (x[2:], y[2:])]
    ggn = vivit.GGN(model, CE, data)
    values, pairs = ggn.eigvalsh(), ggn.eigh(k=3)
    assert {*ggn.plan().done.served_by.values()} <= {"affine", "parts", "products"}
    expected, scale = torch.linalg.eigvalsh(exact), torch.linalg.matrix_norm(exact, ord=2)
    assert (values - expected[-len(values) :]).abs().max() <= 1e-10 * scale
    e = torch.cat([v.flatten(1) for v in pairs.vectors.values()], dim=1).T
    assert (exact @ e - e * pairs.values).abs().max() <= 1e-9 * scale
    v = torch.linspace(-1, 1, len(exact)).double()
    assert (ggn @ v - exact @ v).norm() <= 1e-10 * scale * v.norm()
    assert torch.allclose(ggn.flatten(ggn.gradient()), gradient)


DETACHED = {
    "a buffer": lambda weight: Decoder(weight.detach()),
    "a transposed buffer": lambda weight: Transposed(weight.data),
    "a frozen parameter": lambda weight: Frozen(weight),
}


class Frozen(nn.Module):
    """The same memory as another parameter."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight.detach()[:, :3], requires_grad=False)

    def forward(self, h):
        return F.linear(h[:, :3], self.weight)


@pytest.mark.parametrize("tie", DETACHED.values(), ids=DETACHED)
def test_ties_that_autograd_does_not_see(tie):
    """One warning; the curvature is that of which gradients are."""
    message = "'output.weight' of the model lies in the memory of parameter 'embedding.weight'"
    model = Tied(tie)
    with pytest.warns(UserWarning, match=message + ".*register the parameter itself") as caught:
        ggn = vivit.GGN(model, CE, (TOKENS, NEXT))
    assert len(caught) == 1
    exact, gradient = dense(model, TOKENS, NEXT)
    v = torch.ones(len(exact)).double()
    assert torch.allclose(ggn @ v, exact @ v)
    assert torch.allclose(ggn.flatten(ggn.gradient()), gradient)


def test_neighbours_in_memory_are_not_tied():
    class Packed(nn.Linear):
        def __init__(self):
            super().__init__(5, 3)
            memory = torch.randn(30)
            self.weight = nn.Parameter(memory[:15].view(3, 5))
            self.register_buffer("scale", memory[15:18])

        def forward(self, x):
            return super().forward(x) * self.scale

    vivit.GGN(Packed(), CE, (X.float(), Y))  # warnings are errors


def integers(i, o):
    """Of torch's own quantisation, whose arithmetic is in integers too."""
    from torch.ao.nn.quantized.dynamic import Linear
    from torch.ao.quantization import default_dynamic_qconfig

    layer = nn.Linear(i, o)
    layer.qconfig = default_dynamic_qconfig
    return Linear.from_float(layer)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization is deprecated")
def test_quantised_arithmetic():
    """It has no derivative, so what lies before it would be told zero; behind it all is well."""
    model = adapted(integers, dtype=torch.float32)
    for make in (vivit.GGN, vivit.EmpiricalFisher, vivit.block_diagonal):
        with pytest.raises(UnsupportedError, match=r"Behind '0.a' is an operation without"):
            make(model, CE, (X.float(), Y))
    with pytest.raises(UnsupportedError, match="weights that are dequantised in forward"):
        vivit.ntk(model, X.float())
    assert "without a derivative" in vivit.check(model, CE, (X.float(), Y)).refused[0]
    behind = vivit.GGN(model, CE, (X.float(), Y), params=["2.*"])
    assert behind.eigvalsh().isfinite().all()
