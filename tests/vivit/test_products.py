"""Jacobian-vector products: which operations they can pass, and what is refused every time."""

from copy import deepcopy

import oracle
import pytest
import torch
from cases import CASES, SeparateProjections
from torch import nn
from torch.autograd import forward_ad

import vivit
from vivit import InputError, Lanczos, MonteCarlo, UnsupportedError, batches
from vivit.backprop import products as ways_to_products
from vivit.backprop.bags import embedding_bag
from vivit.backprop.pushforward import Pushforward
from vivit.losses.diagonal import DiagonalFactor
from vivit.losses.softmax import SoftmaxFactor

CE = nn.CrossEntropyLoss()
NAMED = {case.name: case for case in CASES}


class Once(torch.autograd.Function):
    """Says that it can be differentiated once only."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 1 * g


class Detached(torch.autograd.Function):
    """A square whose backward pass forgets that it depends on the input: silently wrong."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0].detach() * g.detach()


class WithForwardMode(torch.autograd.Function):
    """Twice its input, which has no second derivative, but a forward mode."""

    @staticmethod
    def forward(x):
        return 2 * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * g

    @staticmethod
    def jvp(ctx, t):
        return 2 * t


class WrongForwardMode(WithForwardMode):
    """And one whose forward mode is that of another function."""

    @staticmethod
    def jvp(ctx, t):
        return 3 * t


def network(activation):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(5, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(activation(self.first(x)))

    torch.manual_seed(0)
    return Model().double()


X = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).double()
Y = torch.tensor([0, 1, 2, 0, 1, 2])

PRODUCTS = {
    "product": lambda ggn: ggn @ torch.ones(len(ggn.flatten(ggn.gradient()))).double(),
    "scipy": lambda ggn: ggn.to_scipy() @ torch.ones(ggn.shape[0]).double().numpy(),
    "factor": lambda ggn: ggn.factor_operator().T @ torch.ones(ggn.shape[0]).double(),
    "gram": lambda ggn: ggn.gram_operator() @ torch.ones(ggn.num_columns).double(),
    "lanczos": lambda ggn: ggn.eigh(k=1, method=Lanczos()),
}
VARIANTS = {
    "exact": {},
    "subset": {"subset": [1, 2]},
    "Monte-Carlo": {"approximation": MonteCarlo(samples=2)},
    "batches": {"data": [(X[:3], Y[:3]), (X[3:], Y[3:])]},
}


def linear_in_no_way(change):
    """A function whose backward pass is none of a derivative."""

    class Changed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return change(g)

    return Changed.apply


def hooked(x):
    x = torch.tanh(x)
    x.register_hook(lambda g: g.clamp(-1e-3, 1e-3))
    return x


def part_of(function):
    """Of some features, beside all of them untouched."""
    return lambda x: torch.cat([function(x[:, :2]), x[:, 2:]], dim=1)


REFUSED = {
    "a part": part_of(Once.apply),
    "beside itself": lambda x: x + Once.apply(x),
    "clipped": linear_in_no_way(lambda g: g.clamp(-0.01, 0.01)),
    "sign": linear_in_no_way(torch.sign),
    "normalised": linear_in_no_way(lambda g: g / (g.norm() + 1e-12)),
    "square": linear_in_no_way(lambda g: g * g),
    "constant": linear_in_no_way(lambda g: 0.01 * torch.ones_like(g)),
    "hook": hooked,
    "once": Once.apply,
    "detached": Detached.apply,
    "wrong forward mode": WrongForwardMode.apply,
}
PASSED = {
    "hardsigmoid": nn.functional.hardsigmoid,
    "forward mode only": WithForwardMode.apply,
}


def make(activation, data=(X, Y), **options):
    return vivit.GGN(network(activation), CE, data, **options)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS.keys())
@pytest.mark.parametrize("activation", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_once_is_refused_every_time(activation, product, options):
    ggn = make(activation, **options)
    for _ in range(3):
        with pytest.raises(UnsupportedError, match="second derivatives of every operation, or"):
            product(ggn)
    assert ggn.eigvalsh().isfinite().all()


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("activation", PASSED.values(), ids=PASSED.keys())
def test_forward_mode_serves_where_there_is_no_second_derivative(activation, options):
    ggn = make(activation, **options)
    columns = ggn.factor_operator() @ torch.eye(ggn.num_columns).double()
    v = torch.randn(len(columns), generator=torch.Generator().manual_seed(0)).double()
    for _ in range(2):
        product = ggn @ v
        assert torch.allclose(product, columns @ (columns.T @ v), rtol=1e-10, atol=1e-12)
    gammas = ggn.directional_derivatives(k=2).gammas
    vectors = torch.cat([x.flatten(1) for x in ggn.eigh(k=2).vectors.values()], dim=1)
    rows = torch.stack(
        [
            oracle.gradient(network(activation), CE, X[n : n + 1], Y[n : n + 1], ggn._shapes)
            for n in range(len(X))
        ]
    )
    assert torch.allclose((rows @ vectors.T).abs(), gammas.abs(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
@pytest.mark.parametrize(
    "name", ["separate projections", "norms behind biases", "scale-invariant"]
)
def test_rounding_errors_are_no_derivatives(name, scale, dtype):
    """The bias of a key has none, whatever the size of what is computed for it."""
    model, loss_func, x, y = NAMED[name].make(dtype)
    ggn = vivit.GGN(model, loss_func, (scale * x, y))
    columns = ggn.factor_operator() @ torch.eye(ggn.num_columns, dtype=dtype)
    v = torch.ones(len(columns), dtype=dtype)
    exact = columns.double() @ (columns.T.double() @ v.double())
    for product in (ggn @ v, ggn @ v):
        error = (product - exact).norm() / (columns.double().square().sum() * v.norm())
        assert error <= 1e3 * torch.finfo(dtype).eps


def test_derivatives_that_vanish_in_a_deep_network():
    """They are too small to be tested, and to matter."""
    torch.manual_seed(0)
    layers = [layer for _ in range(60) for layer in (nn.Linear(8, 8), nn.Sigmoid())]
    model, x = nn.Sequential(*layers, nn.Linear(8, 3)), torch.randn(6, 8)
    ggn = vivit.GGN(model, CE, (x, Y))
    v = torch.ones(ggn.shape[0])
    exact = vivit.GGN(deepcopy(model).double(), CE, (x.double(), Y)) @ v.double()
    assert (ggn @ v - exact).norm() <= 1e-4 * exact.norm()


class FunctionalBag(nn.Module):
    """Has no module that tells."""

    def __init__(self, mode):
        super().__init__()
        self.table, self.head, self.mode = nn.Parameter(torch.randn(6, 3)), nn.Linear(3, 3), mode

    def forward(self, x):
        return self.head(torch.tanh(nn.functional.embedding_bag(x, self.table, mode=self.mode)))


def test_entries_of_no_bag():
    entries, weight, offsets = torch.arange(8) % 6, torch.ones(6, 3), torch.tensor([0, 3, 7])
    with pytest.raises(UnsupportedError, match=r"end at 7, but there are 8 entries.*cut them off"):
        embedding_bag(entries, weight, offsets, include_last_offset=True)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_a_function(mode):
    torch.manual_seed(0)
    model, x = FunctionalBag(mode).double(), torch.randint(6, (6, 4))
    ggn = vivit.GGN(model, CE, (x, Y))
    exact = oracle.ggn(model, CE, x, Y, list(ggn._shapes))
    v = torch.ones(len(exact)).double()
    assert torch.allclose(ggn @ v, exact @ v, atol=1e-12)


def test_a_long_sequence_in_single_precision():
    torch.manual_seed(0)
    model, x = SeparateProjections("causal"), torch.randn(8, 100, 4)
    ggn = vivit.GGN(model, CE, (x, torch.arange(8) % 3))
    v = torch.ones(ggn.shape[0])
    exact = vivit.GGN(deepcopy(model).double(), CE, (x.double(), torch.arange(8) % 3)) @ v.double()
    assert (ggn @ v - exact).norm() <= 1e-4 * exact.norm()


class OutOfMemory(WithForwardMode):
    """Runs out of memory in forward mode."""

    @staticmethod
    def jvp(ctx, t):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")


def of_few_samples(x):
    if len(x) < len(X):
        raise torch.OutOfMemoryError("out of memory")
    return x


@pytest.mark.parametrize("activation", [OutOfMemory.apply, of_few_samples])
def test_running_out_of_memory_is_no_reason_to_try_another_way(activation):
    with pytest.raises(RuntimeError, match=r"allocate memory|out of memory"):
        make(activation) @ torch.ones(39).double()


def test_frequencies_of_an_embedding_bag():
    model = nn.EmbeddingBag(6, 3, mode="sum", scale_grad_by_freq=True)
    with pytest.raises(UnsupportedError, match="embedding bag has scale_grad_by_freq=True"):
        vivit.GGN(model, CE, (Y[:, None], Y))


FORMS = ["matrix", "offsets", "with the last"]


@pytest.mark.parametrize("padding", [None, 2, -2])
@pytest.mark.parametrize(
    ("mode", "form"),
    [("sum", "weights"), *((mode, form) for mode in ("sum", "mean", "max") for form in FORMS)],
)
def test_embedding_bags_are_those_of_torch(mode, padding, form):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 3, generator=generator).double()
    entries = torch.randint(6, (8,), generator=generator)
    options = {"mode": mode, "padding_idx": padding}
    if form == "matrix":
        arguments = (entries.reshape(4, 2), weight)
    elif form == "with the last":
        arguments = entries, weight, torch.tensor([0, 3, 3, 6, 8])
        options["include_last_offset"] = True
    else:
        arguments = entries, weight, torch.tensor([0, 3, 3, 6])
    if form == "weights":
        options["per_sample_weights"] = torch.randn(8, generator=generator).double()
    weight.requires_grad_()
    results = [f(*arguments, **options) for f in (embedding_bag, nn.functional.embedding_bag)]
    u = torch.randn(results[0].shape, generator=generator).double()
    grads = [torch.autograd.grad(result, weight, u)[0] for result in results]
    assert torch.allclose(*results, rtol=1e-12)
    assert torch.allclose(*grads, rtol=1e-12)


def test_an_input_that_is_no_product_is_refused_before():
    with pytest.raises(InputError, match="needs shape"):
        make(torch.tanh) @ torch.ones(2).double()


def test_products_notice_a_parameter_with_a_small_derivative():
    """Next to a large one, whose product alone would look right."""

    class Constant(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return g.detach() * 1

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.small, self.large = nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, x):
            return 1e-4 * Constant.apply(self.small(x)) + self.large(x)

    with pytest.raises(UnsupportedError, match="differentiated only once"):
        vivit.GGN(Model(), CE, (X.float(), Y)) @ torch.ones(36)


@pytest.mark.parametrize(
    ("product", "runs", "tangents"),
    [
        (lambda ggn, many: ggn @ many(ggn.shape[0]), 1, 0),
        (lambda ggn, many: ggn.to_scipy() @ many(ggn.shape[0]).numpy(), 1, 0),
        (lambda ggn, many: ggn.factor_operator() @ many(ggn.num_columns), 1, 0),
        (lambda ggn, many: ggn.factor_operator().T @ many(ggn.shape[0]), 1, 0),
        (lambda ggn, many: ggn.gram_operator() @ many(ggn.num_columns), 1, 1),
    ],
    ids=["G", "G, scipy", "V", "V^T", "V^T V"],
)
def test_several_vectors_share_their_runs_through_the_data(product, runs, tangents):
    """Each batch is run once for all of them, and once for each if tangents go along.

    The run that makes a graph may carry the first.
    """
    batches, count = [(X[:2], Y[:2]), (X[2:4], Y[2:4]), (X[4:], Y[4:])], 4
    model, passes = network(torch.tanh), []
    ggn = vivit.GGN(model, CE, batches)

    def several(size):
        return torch.linspace(-1, 1, size * count).double().reshape(size, count)

    found = torch.as_tensor(product(ggn, several))  # the first is tested by further passes
    model.register_forward_hook(lambda *_: passes.append(1))
    assert torch.allclose(torch.as_tensor(product(ggn, several)), found, rtol=1e-12)
    assert len(passes) == len(batches) * (runs + tangents * count)
    singles = [product(ggn, lambda size, k=k: several(size)[:, k : k + 1]) for k in range(count)]
    assert torch.allclose(torch.cat([torch.as_tensor(x) for x in singles], dim=1), found)


class Moving(nn.Module):
    """What moves the output in forward mode may have no gradient."""

    def __init__(self, hidden):
        super().__init__()
        self.hidden = deepcopy(hidden)
        self.inner, self.last = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.hidden(torch.tanh(self.inner(x))))


def without_gradient(x):
    with torch.no_grad():
        fixed = x.square()
    return x + fixed


class MovesMore(torch.autograd.Function):
    """A constant for the backward pass, not for the forward mode."""

    generate_vmap_rule = False

    @staticmethod
    def forward(x):
        return x.square()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, g):
        return torch.zeros_like(g) * g

    @staticmethod
    def jvp(ctx, t):
        (x,) = ctx.saved_tensors
        return 2 * x * t


class WithoutForwardMode(torch.autograd.Function):
    """A square with a second derivative, and nothing else."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


class Padded(nn.Module):
    """Adds a vector of which some entries have no gradient, but move in forward mode."""

    def __init__(self, entries):
        super().__init__()
        self.entries, self.p = entries, nn.Parameter(torch.linspace(-1, 1, 4))

    def forward(self, x):
        fixed = torch.arange(4) < self.entries
        return x + torch.where(fixed, MovesMore.apply(self.p), self.p)


HIDDEN = {
    "plain": lambda x: x,
    "detached": lambda x: x + x.detach() ** 2,
    "no gradient": without_gradient,
    "straight through": lambda x: x + (x.round() - x).detach(),
    "data": lambda x: x * x.data.sigmoid(),
    "forward mode moves more": lambda x: x + MovesMore.apply(x),
    "forward mode moves an entry": Padded(1),
    "forward mode moves a parameter": Padded(4),
    "no forward mode": lambda x: x + WithoutForwardMode.apply(x),
    "another function in forward mode": lambda x: (
        x if forward_ad.unpack_dual(x)[1] is None else -x
    ),
}


@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN.keys())
def test_what_has_no_gradient_does_not_move(hidden):
    torch.manual_seed(0)
    model = Moving(hidden).double()
    dense = oracle.ggn(model, CE, X, Y, [name for name, _ in model.named_parameters()])
    v = torch.randn(len(dense), 2).double()
    for data in ((X, Y), [(X[:2], Y[:2]), (X[2:], Y[2:])]):
        ggn = vivit.GGN(model, CE, data)
        for x in (v, v[:, 0], v, v[:, 1]):  # after the first, a forward pass may carry tangents
            assert torch.allclose(ggn @ x, dense @ x, rtol=1e-9)


@pytest.mark.parametrize("name", ["mlp", "language model", "segmentation", "image output"])
def test_products_make_no_columns_of_the_factor(monkeypatch, name):
    """At many positions they would take far more memory than the output."""
    case = NAMED[name]
    model, loss_func, x, y = case.make()
    ggn = vivit.GGN(model, loss_func, (x, y))
    u, v = torch.randn(ggn.num_columns).double(), torch.randn(ggn.shape[0]).double()
    expected = {
        "G": ggn @ v,
        "V": ggn.factor_operator() @ u,
        "V^T": ggn.factor_operator().T @ v,
        "K": ggn.gram() @ u,
    }
    for factor in (SoftmaxFactor, DiagonalFactor):
        monkeypatch.setattr(factor, "columns", None)
    ggn = vivit.GGN(model, loss_func, (x, y))
    actual = {
        "G": ggn @ v,
        "V": ggn.factor_operator() @ u,
        "V^T": ggn.factor_operator().T @ v,
        "K": ggn.gram_operator() @ u,
    }
    for name, product in expected.items():
        assert torch.allclose(actual[name], product, rtol=1e-10, atol=1e-12), name


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_products_of_large_models(monkeypatch, case):
    """Every one by a forward pass with tangents, where there is a forward mode."""
    model, loss_func, x, y = case.make()
    expected = vivit.GGN(model, loss_func, (x, y))
    v = torch.randn(expected.shape[0], 2).double()
    products = expected @ v
    monkeypatch.setattr(ways_to_products, "LARGE_GRAPH", -1)
    ggn = vivit.GGN(model, loss_func, (x, y))
    linearization = next(ggn._curvature.each()).linearization
    if linearization.products.has_forward_mode:
        monkeypatch.setattr(Pushforward, "by_two_backward_passes", None)
    for _ in range(2):
        assert torch.allclose(ggn @ v, products, rtol=1e-10, atol=1e-12 * products.abs().max())


@pytest.mark.parametrize("subset", [None, [1, 3]])
def test_only_samples_with_columns_are_run(monkeypatch, subset):
    """Eigenvectors and products of a subset need no pass over all samples, if these are large."""
    monkeypatch.setattr(batches, "WORTH_A_PASS", 0.0)
    seen, original = [], ways_to_products.Products.pullback

    def spy(self, u, names):
        seen.append(len(u))
        return original(self, u, names)

    monkeypatch.setattr(ways_to_products.Products, "pullback", spy)
    ggn = vivit.GGN(network(torch.tanh), CE, (X, Y), subset=subset)
    ggn.eigh(k=2, method=vivit.FullGram())
    ggn @ torch.ones(ggn.shape[0]).double()
    assert len(seen) >= 3
    assert {*seen} == {len(X) if subset is None else len(subset)}


def test_a_single_product_keeps_nothing(monkeypatch):
    """The graph of a differentiable pullback pays off from the second on."""
    made, original = [], Pushforward._differentiable_pullback
    ggn = vivit.GGN(network(torch.tanh), CE, (X, Y))
    linearization = next(ggn._curvature.each()).linearization
    assert linearization.products.has_forward_mode

    def counted(self):
        made.append(self)
        return original(self)

    monkeypatch.setattr(Pushforward, "_differentiable_pullback", counted)
    v = torch.randn(ggn.shape[0]).double()
    first = ggn @ v
    assert not any(push is linearization._push for push in made)
    for _ in range(2):
        assert torch.allclose(ggn @ v, first, rtol=1e-10)
    assert sum(push is linearization._push for push in made) == 1


class Summed(nn.Module):
    """Both parameters have the very same derivative, which autograd makes once."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.Parameter(torch.randn(5, 3).double()) for _ in range(2))

    def forward(self, x):
        return x @ (self.first + self.second)


@pytest.mark.parametrize("batches", [1, 2])
def test_results_do_not_share_memory(batches):
    model = Summed()
    data = [(X[n::batches], Y[n::batches]) for n in range(batches)]
    ggn = vivit.GGN(model, CE, data)
    dense = oracle.ggn(model, CE, X, Y, ["first", "second"])
    v = torch.randn(len(dense)).double()
    for product in (ggn @ ggn.unflatten(v), ggn.gradient()):
        assert product["first"].data_ptr() != product["second"].data_ptr()
    assert torch.allclose(ggn.flatten(ggn @ ggn.unflatten(v)), dense @ v, rtol=1e-10)


class MovesLater(nn.Module):
    """Without second derivative; what has no gradient moves in samples that no test runs."""

    def __init__(self):
        super().__init__()
        self.inner, self.last = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        hidden = self.inner(x)
        with torch.no_grad():
            fixed = hidden.square() * (x[:, :1] > 0)
        return self.last(WithForwardMode.apply(hidden) + fixed)


@pytest.mark.parametrize("batches", [1, 2])
def test_forward_mode_that_moves_too_much_is_refused_every_time(batches):
    x = X.clone()
    x[:, 0] = torch.tensor([-1.0, -1.0, 1.0] * 2)[: len(x)].double()
    model = MovesLater().double()
    ggn = vivit.GGN(model, CE, [*zip(x.chunk(batches), Y.chunk(batches), strict=True)])
    assert next(ggn._curvature.each()).linearization.products.has_forward_mode
    v = torch.randn(ggn.shape[0], generator=torch.Generator().manual_seed(0)).double()
    for _ in range(2):
        with pytest.raises(UnsupportedError, match="its forward mode moves what has no gradient"):
            ggn @ v


@pytest.mark.filterwarnings("ignore:The model computes in bfloat16")
@pytest.mark.parametrize("large_graph", [0, ways_to_products.LARGE_GRAPH])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padding_does_not_move_whichever_product_comes_first(monkeypatch, large_graph, dtype):
    """Its part is too small beside all others to be seen in a single inner product."""
    monkeypatch.setattr(ways_to_products, "LARGE_GRAPH", large_graph)
    torch.manual_seed(0)
    words, head = nn.Embedding(9, 6, padding_idx=0), nn.Linear(6, 4)
    model = nn.Sequential(words, nn.Tanh(), head, Transposed()).to(dtype)
    x, y = torch.randint(1, 9, (8, 10)), torch.randint(4, (8, 10))
    x[0, :3] = 0
    ggn = vivit.GGN(model, CE, (x, y))
    v = torch.randn(ggn.shape[0])
    without = v.clone()
    without[:6] = 0  # the padding vector
    expected = ggn @ without
    for anew in (vivit.GGN(model, CE, (x, y)), ggn):
        for _ in range(2):
            product = anew @ v
            assert (product - expected).norm() <= torch.finfo(dtype).eps * 2 * expected.norm()


class Transposed(nn.Module):
    """Classes before positions."""

    def forward(self, x):
        return x.transpose(1, 2)
