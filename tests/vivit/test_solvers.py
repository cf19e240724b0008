"""The leading eigenpairs without a Gram matrix, and which way is chosen."""

from dataclasses import replace

import pytest
import torch
from cases import CASES, mlp
from torch import nn

import vivit
from vivit import FullGram, Lanczos, MonteCarlo, SpreadGram
from vivit.errors import ConvergenceError
from vivit.factor import Factor
from vivit.gram.forms import Form, MatrixPlan
from vivit.gram.plan import Travel
from vivit.quantities import pairs, start
from vivit.quantities.lanczos import leading_of_matrix
from vivit.quantities.ritz import most_mass
from vivit.quantities.selection import Selection
from vivit.quantities.solvers import cheapest_solver
from vivit.quantities.start import leading_of_some

CE = nn.CrossEntropyLoss()
BATCH = torch.randn(4, 5).double(), torch.tensor([0, 1, 2, 0])
VARIANTS = {
    "exact": {},
    "monte carlo": {"approximation": MonteCarlo(2, seed=1)},
    "subset": {"subset": [0, 2]},
}


PIECES = (1, 2)
"""Batches into which the samples are split: the graph of one is kept, those of several are not."""


OF_ONE_SIZE = {"permuted", "lookup", "broadcasts", "output is a parameter"}
"""Cases whose networks take no other number of samples."""


def split(x, y, pieces):
    """A batch, or several."""
    size = -(-len(x) // pieces)
    batches = list(zip(x.split(size), y.split(size), strict=True))
    return batches if len(batches) > 1 else (x, y)


def flat(vectors):
    return torch.cat([v[:, None].flatten(1) for v in vectors.values()], dim=1)


@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_lanczos_finds_what_the_gram_matrix_has(case, options, pieces):
    model, loss_func, x, y = case.make()
    if "subset" in options and len(x) < 3:
        pytest.skip("needs three samples")
    if pieces > 1 and case.name in OF_ONE_SIZE:
        pytest.skip("needs samples that can be split")
    block = vivit.GGN(model, loss_func, split(x, y, pieces), **options)
    values = block.eigh().values
    k = min(2, len(values), block.num_columns - 1, block.shape[0] - 1)
    if k < 1:
        pytest.skip("nothing to iterate on")
    exact = block.eigh(k=k, method=FullGram())
    for method in (Lanczos(1e-12), SpreadGram(1e-12)):
        found = block.eigh(k=k, method=method)
        assert (found.values - exact.values).abs().max() <= 1e-10 * values[-1]
        residual = torch.stack([block @ v for v in flat(found.vectors)])
        assert (residual - found.values[:, None] * flat(found.vectors)).norm() <= 1e-8 * values[-1]
        assert torch.allclose(flat(found.vectors).norm(dim=1), torch.ones(k).double())


@pytest.mark.parametrize("pieces", PIECES)
def test_what_follows_from_the_pairs(pieces):
    data = split(*BATCH, pieces)
    model = mlp().double()
    options = {"k": 3, "method": Lanczos(1e-12)}
    exact, found = vivit.GGN(model, CE, data), vivit.GGN(model, CE, data)
    expected, derivatives = (
        exact.directional_derivatives(k=3),
        found.directional_derivatives(**options),
    )
    assert torch.allclose(derivatives.gammas.abs(), expected.gammas.abs(), atol=1e-8)
    assert torch.allclose(derivatives.lambdas, expected.lambdas, atol=1e-8)
    step, other = exact.newton_step(k=3), found.newton_step(**options)
    assert all(torch.allclose(step[name], other[name], atol=1e-8) for name in step)
    assert not found._matrices.are_made


@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [5, 500])
def test_few_nontrivial_pairs(width, dtype, pieces):
    """Eigenvalues that are rounding errors are left out, as with a Gram matrix."""
    model = nn.Linear(width, 2, bias=False).to(dtype)  # rank one per sample
    x = torch.randn(1, width, generator=torch.Generator().manual_seed(0)).to(dtype)
    data = split(x.expand(4, width).clone(), torch.tensor([0, 1, 1, 0]), pieces)
    found = vivit.GGN(model, CE, data).eigh(k=3, method=Lanczos())
    assert len(found.values) == 1


@pytest.mark.parametrize("pieces", PIECES)
@pytest.mark.parametrize("block", [1, 2, 3, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "k"), [(30, 10), (30, 5), (60, 12)])
def test_copies_of_an_eigenvalue(n, k, dtype, block, pieces):
    """An iteration from one block finds as many copies of each, for all tolerances."""
    torch.manual_seed(0)
    model, x, y = nn.Linear(20, 10), torch.randn(n, 20), torch.zeros(n, 10)
    data = split(x.to(dtype), y.to(dtype), pieces)
    ggn = vivit.GGN(model.to(dtype), nn.MSELoss(), data)
    exact = ggn.eigvalsh()
    found = ggn.eigh(k=k, method=Lanczos(block=block))
    assert (found.values - exact[-k:]).abs().max() <= 1e-5 * exact[-1]
    vectors = flat(found.vectors)
    assert (vectors @ vectors.T - torch.eye(k)).abs().max() <= 2e-3


def products(block, k, method):
    """Eigenpairs, and the products that they take."""
    count = 0
    multiply = block._factor.multiply_gram

    def multiply_gram(u):
        nonlocal count
        count += u.shape[1]
        return multiply(u)

    block._factor.multiply_gram = multiply_gram
    pairs = block.eigh(k=k, method=method)
    return pairs, count


def test_few_samples_give_a_start(monkeypatch):
    """It saves products, and does not change what is found; few must not be most."""
    torch.manual_seed(0)
    prototypes = torch.randn(6, 20).double()
    y = torch.arange(60) % 6
    x = prototypes[y] + 0.01 * torch.randn(60, 20).double()
    model = nn.Linear(20, 6).double()
    found, counts = [], []
    for few in (36, 200):
        monkeypatch.setattr(start, "FEW_COLUMNS", few)
        block = vivit.GGN(model, CE, (x, y))
        assert (leading_of_some(block._matrices, "", 2) is None) == (few == 200)
        pairs, count = products(block, 2, Lanczos())
        found.append(pairs.values)
        counts.append(count)
    assert torch.allclose(found[0], found[1], rtol=1e-8)
    assert counts[0] < counts[1]


def test_a_random_vector_shows_what_it_has():
    """The bound holds for every eigenvalue, and is sharp after as many steps as there are."""
    values = torch.cat([torch.linspace(0, 1, 40), torch.tensor([5.0])]).double()
    start = torch.randn(41, generator=torch.Generator().manual_seed(0)).double()
    start /= start.norm()
    basis, diagonal, lengths, masses = [start], [], [], []
    for _ in range(8):
        rest = values * basis[-1]
        diagonal.append(float(rest @ basis[-1]))
        for vector in basis * 2:
            rest = rest - (rest @ vector) * vector
        lengths.append(float(rest.norm()))
        basis.append(rest / rest.norm())
        sides = torch.tensor(lengths[:-1], dtype=torch.float64)
        projected = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
        projected = projected + torch.diag(sides, 1) + torch.diag(sides, -1)
        masses.append([most_mass(float(v), projected, lengths[-1]) for v in values])
        assert (torch.tensor(masses[-1], dtype=torch.float64) >= start.square() * (1 - 1e-9)).all()
    assert masses[-1][-1] <= 1.01 * float(start[-1] ** 2)  # alone in its place
    absent = [most_mass(2.0, projected[:j, :j], lengths[j - 1]) for j in range(1, 9)]
    assert absent == sorted(absent, reverse=True)
    assert absent[-1] < 1e-5
    assert most_mass(1e60, projected, 1e-3) < 1e-100


SPECTRA = {
    "flat": torch.linspace(1, 0.9, 400),
    "copies": torch.cat([torch.ones(6), torch.linspace(0.5, 0, 394)]),
    "close copies": torch.tensor([1.01, 1.0, 0.99, 0.98] * 10 + [0.5] * 360),
    "tie at the border": torch.tensor([4.0, 3.0, 2.0] + [1.0] * 9 + [0.5] * 388),
    "low rank": torch.cat([torch.tensor([3.0, 2.0]), torch.zeros(398)]),
    "wide": 10.0 ** -torch.arange(400.0).mul(0.1),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SPECTRA)
def test_few_pairs_of_a_matrix(name, dtype):
    """As accurate as LAPACK's, whatever the spectrum."""
    spectrum = SPECTRA[name].double().sort().values
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(400, 400, generator=generator).double())[0]
    gram = ((basis * spectrum) @ basis.T).to(dtype)
    gram = (gram + gram.T) / 2
    pairs = leading_of_matrix(gram, 4, None)
    assert pairs is not None
    exact = spectrum[-len(pairs.values) :]
    assert len(exact) == (2 if name == "low rank" else 4)
    eps = 100 * torch.finfo(dtype).eps * spectrum[-1]
    values, vectors = pairs.values.double(), pairs.coefficients.double()
    assert (values - exact).abs().max() <= eps
    assert (gram.double() @ vectors - vectors * values).norm() <= eps
    assert (vectors.T @ vectors - torch.eye(len(exact)).double()).abs().max() <= eps


def test_a_zero_matrix_has_no_few_pairs():
    pairs = leading_of_matrix(torch.zeros(400, 400), 4, None)
    assert pairs is not None
    assert len(pairs.values) == 0


def test_a_matrix_that_is_not_finite_has_no_few_pairs():
    with pytest.raises(vivit.InputError, match="The curvature is NaN or infinite"):
        leading_of_matrix(torch.full((400, 400), torch.nan), 4, None)


def test_few_pairs_of_a_matrix_are_looked_for_in_blocks(monkeypatch):
    """Each look decomposes what the iteration has so far: with few products, most of its time."""
    sizes, solver = [], torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda x: sizes.append(len(x)) or solver(x))
    assert leading_of_matrix(torch.arange(400.0).diag(), 4, None) is not None
    assert sizes[:3] == [4, 8, 12]


def test_many_pairs_of_a_matrix_are_left_to_lapack():
    assert leading_of_matrix(torch.eye(400), 9, None) is None


def test_pairs_of_a_small_matrix_are_left_to_lapack():
    assert leading_of_matrix(torch.eye(300), 1, None) is None


def test_pairs_of_a_matrix_that_do_not_converge_are_left_to_lapack(monkeypatch):
    monkeypatch.setattr(Lanczos, "pairs", lambda *_, **__: (_ for _ in ()).throw(ConvergenceError))
    assert leading_of_matrix(torch.eye(400), 1, None) is None


@pytest.mark.parametrize("seed", range(5))
def test_nothing_left_to_search(seed):
    """Beside what was found there is a null space of one dimension."""
    torch.manual_seed(seed)
    x = torch.randn(2, 5).double()
    data = x[[0, 1, 1]], torch.randn(3, 1).double()
    block = vivit.GGN(nn.Linear(5, 1).double(), nn.MSELoss(), data)
    found = block.eigh(k=2, method=Lanczos(seed=seed)).values
    assert torch.allclose(found, block.eigvalsh()[-2:])


class TiedTable(nn.Module):
    """A table of vectors, one of which is padding, that is the output layer as well."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(4, 5, padding_idx=0)
        nn.init.normal_(self.table.weight)

    def forward(self, tokens):
        return self.table(tokens).tanh().mean(1) @ self.table.weight.T


def test_forward_mode_does_not_move_padding():
    data = torch.tensor([[0, 1], [2, 0], [3, 1]]), torch.tensor([0, 1, 3])
    block = vivit.GGN(TiedTable().double(), CE, data)
    v = torch.randn(block.num_columns).double()
    assert torch.allclose(block.gram_operator() @ v, block.gram() @ v)
    assert not next(block._curvature.each()).linearization.products.has_forward_mode


def test_no_start_from_a_model_that_needs_its_batch_size(monkeypatch):
    monkeypatch.setattr(start, "FEW_COLUMNS", 2)

    class Fixed(nn.Linear):
        def forward(self, x):
            return super().forward(x.reshape(4, 5))

    block = vivit.GGN(Fixed(5, 3).double(), CE, BATCH)
    assert leading_of_some(block._matrices, "", 1) is None
    expected = block.eigh(k=1, method=FullGram()).values
    assert torch.allclose(block.eigh(k=1, method=Lanczos(1e-12)).values, expected)


class OnlyBackward(torch.autograd.Function):
    """Two times the input, without a forward mode."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, s):
        return 2 * s


class Doubled(nn.Module):
    def forward(self, x):
        return OnlyBackward.apply(x)


@pytest.mark.parametrize(("layer", "expected"), [(nn.ReLU(), True), (Doubled(), False)])
def test_forward_mode_where_there_is_one(layer, expected):
    model = nn.Sequential(nn.Linear(5, 4), layer, nn.Linear(4, 3)).double()
    block = vivit.GGN(model, CE, BATCH)
    operator, v = block.gram_operator(), torch.randn(8).double()
    assert torch.allclose(operator @ v, block.gram() @ v)
    assert next(block._curvature.each()).linearization.products.has_forward_mode == expected


def test_no_curvature():
    model = nn.Sequential(nn.Linear(5, 3), nn.Hardtanh(9, 10)).double()
    assert len(vivit.GGN(model, CE, BATCH).eigh(k=2, method=Lanczos()).values) == 0


def test_infinite_curvature():
    """As with a Gram matrix."""
    model = nn.Linear(5, 3).double()
    x = BATCH[0] * 1e200
    ggn = vivit.GGN(model, nn.MSELoss(), (x, torch.zeros(4, 3).double()))
    for method in (FullGram(), Lanczos(), SpreadGram()):
        with pytest.raises(vivit.InputError, match="curvature is NaN or infinite"):
            ggn.eigh(k=1, method=method)


def plan(sides=None, **changes):
    """That of a network with other sizes; a matrix that is smaller than M is made of columns."""
    if sides is not None:
        largest = changes.get("num_columns", max(sides))
        forms = [Form.GRAM if side == largest else Form.COLUMNS for side in sides]
        changes["matrices"] = tuple(
            MatrixPlan("", form, side, 0, "") for form, side in zip(forms, sides, strict=True)
        )
    return replace(vivit.GGN(mlp(), CE, (BATCH[0].float(), BATCH[1])).plan(), **changes)


@pytest.mark.parametrize(
    ("changes", "k", "available", "expected"),
    [
        ({}, 8, None, FullGram()),
        ({"sides": (10**4,), "forward_flops": 1e9}, 1, None, Lanczos()),
        (
            {"sides": (10**4,), "forward_flops": 1e13},
            10,
            None,
            FullGram(),
        ),
        ({"matrix_bytes": 2000, "forward_flops": 1e12}, 1, 1000, Lanczos()),
        ({"matrix_bytes": 2000, "forward_flops": 1e12}, 1, 10**9, FullGram()),
        ({"matrix_bytes": 2000, "forward_flops": 1e12}, 10, 1000, Lanczos()),
        ({"forward_flops": 100.0, "sides": (100,)}, 1, None, Lanczos()),
        # few pairs need no full decomposition, whose flops would count in the second case
        (
            {"forward_flops": 1e8, "sides": (4000,), "num_columns": 4000, "num_samples": 400},
            60,
            None,
            FullGram(),
        ),
        (
            {"forward_flops": 1e8, "sides": (4000,), "num_columns": 4000, "num_samples": 400},
            100,
            None,
            Lanczos(),
        ),
        (
            {"forward_flops": 1e8, "sides": (4000,), "num_columns": 5000, "num_samples": 500},
            60,
            None,
            Lanczos(),
        ),
        ({"forward_flops": 100.0, "sides": (2, 2)}, 1, None, FullGram()),
    ],
)
def test_choice(changes, k, available, expected):
    """By predicted time, unless the Gram matrix does not fit."""
    assert cheapest_solver(plan(**changes), k, available, overhead=0.0) == expected


@pytest.mark.parametrize(
    ("forward_flops", "in_blocks", "expected"),
    [
        (1e8, 900, SpreadGram()),
        (1e8, 1100, Lanczos()),  # blocks do not fit either
        (1e3, 900, Lanczos()),  # passes take less than products with the blocks
    ],
)
def test_choice_among_ranks(forward_flops, in_blocks, expected):
    """Where the whole matrix does not fit."""
    sizes = {"forward_flops": forward_flops, "num_columns": 400, "num_samples": 40}
    whole = plan(sides=(400,), matrix_bytes=2000, solver_bytes=0, layers=(), **sizes)
    spread = replace(whole, matrix_bytes=in_blocks, travel=Travel(2, 0, 0, 0))
    assert cheapest_solver(whole, 1, 1000, 0.0, lambda: spread) == expected
    assert cheapest_solver(whole, 1, 10**9, 0.0, lambda: spread) != SpreadGram()


LAUNCHES = plan().layers
DENSE = (*LAUNCHES[:-1], replace(LAUNCHES[-1], kept="dense"))
TWICE = {"sweeps": plan().sweeps * 2, "passes": 2.0}


@pytest.mark.parametrize(
    ("per_sample", "changes", "expected"),
    [
        (22, {}, FullGram()),  # 22 + 3 passes, two for a product, against 13 products
        (24, {}, Lanczos()),
        (11, TWICE, Lanczos()),
        (9, TWICE, FullGram()),
        (11, {"layers": DENSE}, FullGram()),  # the generic rule has passes of its own
        (12, {"layers": DENSE}, Lanczos()),
    ],
)
def test_choice_by_what_it_takes_to_launch(per_sample, changes, expected):
    """Where sizes do not count beside it."""
    small = plan(num_columns=30 * per_sample, num_samples=30, **changes)
    assert cheapest_solver(small, 1, None, overhead=1e12) == expected


def test_choice_is_used(monkeypatch):
    """Without a method; but a Gram matrix that exists is used again."""
    monkeypatch.setattr(pairs, "cheapest_solver", lambda *_: Lanczos())
    block = vivit.GGN(mlp().double(), CE, BATCH)
    values = block.eigh(k=2).values
    assert not block._matrices.are_made
    assert torch.allclose(block.eigvalsh()[-2:], values)
    block.eigh(k=2)
    assert block._matrices.are_made


WAYS = {name: getattr(Factor, name) for name in ("multiply_curvature", "multiply_gram")}


@pytest.mark.parametrize(("fitting", "way"), [(1000, "curvature"), (15, "both"), (10, "gram")])
def test_memory_decides_on_the_space(fitting, way, monkeypatch):
    """Products with the curvature take a run through the data less, but longer vectors."""
    counts = dict.fromkeys(WAYS, 0)
    for name in counts:

        def counted(factor, v, name=name, multiply=WAYS[name]):
            counts[name] += 1
            return multiply(factor, v)

        monkeypatch.setattr(Factor, name, counted)
    torch.manual_seed(0)
    data = split(torch.randn(60, 40).double(), torch.arange(60) % 3, 3)
    ggn = vivit.GGN(nn.Linear(40, 3).double(), CE, data)
    monkeypatch.setattr(pairs._Search, "_fitting_vectors", lambda *_: fitting)
    monkeypatch.setattr(pairs, "typical_products", lambda k: 6)
    found = ggn.eigh(k=4, method=Lanczos(1e-13)).values
    assert torch.allclose(found, ggn.eigvalsh()[-4:])
    assert [bool(count) for count in counts.values()] == [way != "gram", way != "curvature"]


def test_vectors_that_fit():
    ggn = vivit.GGN(mlp().double(), CE, split(*BATCH, 2), memory=10**6)
    search = pairs._Search(ggn._matrices, "", ggn._factor, Selection(2, None, None, None))
    assert search._fitting_vectors(2) == 10**6 // (2 * 8 * ggn.shape[0]) - 8


@pytest.mark.parametrize("pieces", PIECES)
def test_no_convergence(pieces):
    data = split(torch.randn(60, 40).double(), torch.arange(60) % 3, pieces)
    block = vivit.GGN(nn.Linear(40, 3).double(), CE, data)  # its eigenvalues are close together
    message = r"found \d of 3 eigenpairs with 5 products at tolerance 1.0e-15.*method=FullGram"
    with pytest.raises(vivit.ConvergenceError, match=message) as caught:
        block.eigh(k=3, method=Lanczos(1e-15, max_products=5))
    assert isinstance(caught.value, RuntimeError)


REFUSED = {
    "no k": (lambda g: g.eigh(method=Lanczos()), "k < 8, got k=None. Use method=FullGram"),
    "all": (lambda g: g.eigh(k=8, method=Lanczos()), "k < 8, got k=8. Use method=FullGram"),
    "a name": (
        lambda g: g.eigh(k=1, method="lanczos"),
        "must be FullGram.., Lanczos.. or SpreadGram.., got 'la",
    ),
    "tolerance": (lambda g: Lanczos(2.0), "tolerance in .0, 1., got 2.0"),
    "products": (lambda g: Lanczos(max_products=0), "at least one product, got 0"),
    "block": (lambda g: Lanczos(block=0), "at least one vector in a block, got 0"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(call, message):
    with pytest.raises(vivit.InputError, match=message):
        call(vivit.GGN(mlp().double(), CE, BATCH))


def test_few_pairs_need_no_memory_for_a_full_decomposition():
    """But all pairs do, and so does the D x D matrix of columns, which is decomposed whole."""

    def copies(ggn, k):
        search = pairs._Search(ggn._matrices, "", ggn._factor, Selection(k, None, None, None))
        return search._copies

    targets = torch.arange(200) % 3
    block = vivit.GGN(nn.Linear(200, 3), CE, (torch.randn(200, 200), targets))
    assert [copies(block, k) for k in (1, 8, 9, None)] == [0, 0, 3, 3]
    small = nn.Linear(110, 3), CE, (torch.randn(200, 110), targets)
    assert copies(vivit.GGN(*small), 1) == 3
    assert copies(vivit.GGN(*small, workspace=1), 1) == 0
