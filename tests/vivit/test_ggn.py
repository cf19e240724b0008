"""Every quantity of a GGN against the dense float64 oracle, on every case."""

from copy import deepcopy
from dataclasses import replace
from functools import cache

import oracle
import pytest
import torch
from cases import CASES, TiedWeight, conv2d
from scipy.sparse.linalg import eigsh
from torch.utils.checkpoint import checkpoint

import vivit
from vivit import devices
from vivit.parameters import select_parameters

TOLERANCE = 1e-10


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request):
    return request.param


@cache
def dense_problem(case):
    """A case in double precision and its dense GGN, made once for all tests."""
    model, loss_func, x, y = case.make()
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    return oracle.ggn(model, loss_func, x, y, names), (model, loss_func, x, y, names)


@pytest.fixture
def problem(case):
    """The GGN, its dense counterpart, and what they were made of."""
    dense, (model, loss_func, x, y, names) = dense_problem(case)
    ggn = vivit.GGN(model, loss_func, (x, y))
    assert ggn.parameter_names == names
    return ggn, dense, (model, loss_func, x, y, names)


def assert_close(actual, expected, scale=None, tolerance=TOLERANCE):
    assert actual.shape == expected.shape
    if not expected.numel():
        return
    scale = expected.abs().max() if scale is None else scale
    assert (actual - expected).abs().max() <= tolerance * scale


def flat(vectors):
    return torch.cat([v[:, None].flatten(1) for v in vectors.values()], dim=1)


def test_eigvalsh(problem):
    ggn, dense, _ = problem
    exact = torch.linalg.eigvalsh(dense)[-min(ggn.num_columns, len(dense)) :]
    assert ggn.shape == dense.shape
    assert_close(ggn.eigvalsh(), exact)


def test_gram(problem):
    """Spectrum, symmetry, and the order (n, c): each sample's block has its GGN's trace."""
    ggn, dense, (model, loss_func, x, y, names) = problem
    gram = ggn.gram()
    assert gram.shape == (ggn.num_columns,) * 2
    assert torch.equal(gram, gram.T)
    exact = torch.linalg.eigvalsh(dense)
    count = min(len(gram), len(dense))
    assert_close(torch.linalg.eigvalsh(gram)[-count:], exact[-count:])
    j = oracle.jacobian(model, x, names)
    n, c, _ = j.shape
    blocks = oracle.loss_hessian(loss_func, model(x), y).reshape(n, c, n, c)
    traces = torch.einsum("ncp,ncnd,ndp->n", j, blocks, j)
    assert_close(gram.diagonal().reshape(n, -1).sum(1), traces)


def test_eigh(problem):
    ggn, dense, _ = problem
    pairs = ggn.eigh()
    vectors = flat(pairs.vectors)
    exact = torch.linalg.eigvalsh(dense)
    rank = len(pairs.values)
    assert rank == int((exact > 1e-13 * len(exact) * exact[-1]).sum())
    assert_close(pairs.values, exact[-rank:])
    # rounding errors of V e~ weigh more, the smaller sqrt(lambda) = ||V e~|| is
    allowed = TOLERANCE + 100 * 2.2e-16 * (exact[-1] / pairs.values).sqrt()
    residuals = (dense @ vectors.T - vectors.T * pairs.values).norm(dim=0)
    assert (residuals <= allowed * exact[-1]).all()
    assert_close(vectors.norm(dim=1), torch.ones(rank, dtype=torch.float64))
    assert {name: v.shape[1:] for name, v in pairs.vectors.items()} == ggn._shapes


def test_leading_eigenvectors_are_orthogonal(problem):
    ggn, _, _ = problem
    values = ggn.eigh().values
    k = int((values > 1e-3 * values[-1]).sum())
    vectors = flat(ggn.eigh(k=k).vectors)
    assert_close(vectors @ vectors.T, torch.eye(k, dtype=torch.float64))


def test_gradient(problem):
    ggn, _, parts = problem
    gradient = torch.cat([g.flatten() for g in ggn.gradient().values()])
    assert_close(gradient, oracle.gradient(*parts))


def test_product(problem):
    ggn, dense, _ = problem
    v = torch.randn(len(dense), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert_close(ggn @ v, dense @ v)
    pieces, start = {}, 0
    for name, shape in ggn._shapes.items():
        pieces[name] = v[start : start + shape.numel()].reshape(shape)
        start += shape.numel()
    product = ggn @ pieces
    assert list(product) == ggn.parameter_names
    assert_close(torch.cat([p.flatten() for p in product.values()]), dense @ v)


def test_scipy(problem):
    ggn, dense, _ = problem
    operator = ggn.to_scipy()
    assert operator.shape == dense.shape
    exact = torch.linalg.eigvalsh(dense)
    if len(dense) > 2:
        value = eigsh(operator, k=1, which="LM", v0=dense.sum(0).numpy())[0]
        assert_close(torch.from_numpy(value), exact[-1:])
    identity = torch.eye(len(dense), dtype=torch.float64)
    assert_close(torch.from_numpy(operator @ identity.numpy()), dense)


VARIANTS = {
    "exact": {},
    "one sample": {"subset": [0]},
    "Monte-Carlo": {"approximation": vivit.MonteCarlo(samples=2, seed=1)},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
def test_all_products_agree(problem, options):
    """Jacobian-vector products against the columns of V, which come from backward passes."""
    _, _, (model, loss_func, x, y, _) = problem
    ggn = vivit.GGN(model, loss_func, (x, y), **options)
    factor, gram = ggn.factor_operator(), ggn.gram_operator()
    columns = factor @ torch.eye(ggn.num_columns, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    v = torch.randn(len(columns), dtype=torch.float64, generator=generator)
    u = torch.randn(ggn.num_columns, dtype=torch.float64, generator=generator)
    assert_close(factor.T @ v, columns.T @ v)
    assert_close(ggn @ v, columns @ (columns.T @ v), columns.square().sum())
    assert_close(gram @ u, columns.T @ (columns @ u))
    assert_close(ggn.gram(), columns.T @ columns)
    if min(columns.shape) > 1:
        (value,) = ggn.eigh(k=1, method=vivit.Lanczos(1e-8)).values
        assert_close(value, torch.linalg.matrix_norm(columns, ord=2).square())


@pytest.mark.parametrize("groups", ["layer", "parameter", "two halves"])
def test_blocks(problem, groups):
    ggn, dense, (model, loss_func, x, y, names) = problem
    if groups == "two halves":
        groups = {"odd": names[1::2], "even": names[::2]}
        groups = {group: members for group, members in groups.items() if members}
    blocks = vivit.block_diagonal(model, loss_func, (x, y), groups=groups)
    sizes = torch.tensor([shape.numel() for shape in ggn._shapes.values()])
    start = dict(zip(names, sizes.cumsum(0) - sizes, strict=True))
    covered = []
    for block in blocks.values():
        covered += block.parameter_names
        index = torch.cat(
            [start[n] + torch.arange(ggn._shapes[n].numel()) for n in block.parameter_names]
        )
        exact = torch.linalg.eigvalsh(dense[index][:, index])
        scale = torch.linalg.eigvalsh(dense)[-1]
        assert_close(block.eigvalsh(), exact[-min(block.num_columns, len(exact)) :], scale)
        pairs = block.eigh()
        vectors = flat(pairs.vectors)
        assert_close(dense[index][:, index] @ vectors.T, vectors.T * pairs.values, scale)
    assert sorted(covered) == sorted(names)


def test_small_workspace(problem, case, monkeypatch):
    """Everything in the smallest pieces that there are."""
    ggn, _, (model, loss_func, x, y, _) = problem
    monkeypatch.setitem(devices.KINDS, "cpu", replace(devices.CPU, windows=1))
    pieces = vivit.GGN(model, loss_func, (x, y), workspace=1)
    assert_close(pieces.gram(), ggn.gram())
    if not case.generic:  # some of those work on one batch size only
        batches = list(zip(x.split(2), y.split(2), strict=True))
        assert_close(vivit.GGN(model, loss_func, batches, workspace=1).gram(), ggn.gram())


def test_product_of_batches(problem, case):
    """Several vectors at once, and graphs that do not last."""
    ggn, _, (model, loss_func, x, y, _) = problem
    if len(x) < 2 or case.generic:  # some of those work on one batch size only
        return
    half = len(x) // 2
    batches = [(x[:half], y[:half]), (x[half:], y[half:])]
    v = torch.linspace(-1, 1, 2 * ggn.shape[0], dtype=x.dtype).reshape(-1, 2)
    assert_close(vivit.GGN(model, loss_func, batches) @ v, ggn @ v)


MERGED = {
    "A B": lambda a, b: a @ b,
    "B B^T": lambda a, b: b @ b.T,
    "B B": lambda a, b: b @ b,
    "B + A B": lambda a, b: b + a @ b,
    "A B + B^T A^T": lambda a, b: a @ b + b.T @ a.T,
    "exp": lambda a, b: a.exp() * b,
}


@pytest.mark.parametrize("make", MERGED.values(), ids=MERGED.keys())
@pytest.mark.parametrize(("n", "subset"), [(1, None), (3, None), (3, [1]), (4, None)])
def test_weights_made_of_parameters(make, n, subset):
    """Products of parameters look like layers, all the more for a batch of one sample."""

    class Merged(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (torch.nn.Parameter(torch.randn(4, 4)) for _ in range(2))

        def forward(self, x):
            return torch.nn.functional.linear(x, make(self.a, self.b))

    torch.manual_seed(0)
    model, loss_func = Merged().double(), torch.nn.MSELoss(reduction="sum")
    x, y = torch.randn(n, 4).double(), torch.randn(n, 4).double()
    ggn = vivit.GGN(model, loss_func, (x, y), subset=subset)
    index = slice(None) if subset is None else subset
    dense = oracle.ggn(model, loss_func, x[index], y[index], ["a", "b"]) * n / len(x[index])
    exact = torch.linalg.eigvalsh(dense)[-ggn.num_columns :]
    assert_close(ggn.eigvalsh(), exact[-len(ggn.eigvalsh()) :])


def test_single_precision(case):
    """As accurate as the problem allows: an error in the last digit of the weights tells.

    So the tolerance does not depend on the order in which a processor adds up.
    """
    model, loss_func, x, y = case.make(torch.float32)
    ggn = vivit.GGN(model, loss_func, (x, y))
    values, v = ggn.eigvalsh(), torch.ones(ggn.shape[0])
    assert values.dtype == ggn.gram().dtype == torch.float32
    double = deepcopy(model).double()
    data = x.double(), y.double() if y.is_floating_point() else y
    results = []
    eps, generator = torch.finfo(torch.float32).eps, torch.Generator().manual_seed(0)
    for _ in range(2):
        exact = vivit.GGN(double, loss_func, data)
        results.append((exact.eigvalsh(), exact @ v.double()))
        with torch.no_grad():
            for p in double.parameters():
                noise = torch.randn(p.shape, generator=generator, dtype=p.dtype)
                p.mul_(1 + eps / 2 * noise)
    for single, first, second in zip((values, ggn @ v), *results, strict=True):
        scale = results[0][0][-1] * (1 if single is values else v.norm())
        allowed = eps + float((first - second).abs().max() / scale)
        assert_close(single.double(), first, scale, 100 * allowed)


def test_expected_rules(problem, case):
    """A parameter that falls back to the slow rule unnoticed is a regression."""
    ggn, _, _ = problem
    assert sorted(next(ggn._curvature.each()).linearization.layout.generic) == sorted(case.generic)


def test_leaves_no_trace(case):
    model, loss_func, x, y = case.make()
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    modes = [m.training for m in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    ggn = vivit.GGN(model, loss_func, (x, y))
    pairs, _, gradient = ggn.eigh(), ggn @ torch.ones(ggn.shape[0]).double(), ggn.gradient()
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    tensors = [pairs.values, ggn.gram(), *pairs.vectors.values(), *gradient.values()]
    assert not any(t.requires_grad for t in tensors)


def test_forward_pass_leaves_no_trace():
    """Random numbers, buffers and hooks of a forward pass in training mode."""
    torch.manual_seed(0)
    norm = torch.nn.InstanceNorm1d(2, track_running_stats=True)
    spectral = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(6, 6))
    layers = [spectral, torch.nn.Dropout(0.5), torch.nn.Unflatten(1, (2, 3)), norm]
    model = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(6, 3))
    called = []
    model[5].register_full_backward_hook(lambda *_: called.append(1))
    buffers = {name: (b, b.clone()) for name, b in model.named_buffers()}
    data = torch.randn(5, 6), torch.randint(3, (5,))
    state = torch.get_rng_state()
    ggn = vivit.GGN(model, torch.nn.CrossEntropyLoss(), data)
    ggn.eigvalsh(), ggn @ torch.ones(ggn.shape[0])
    assert torch.equal(torch.get_rng_state(), state)
    for name, b in model.named_buffers():
        assert b is buffers[name][0]
        assert torch.equal(b, buffers[name][1])
    assert not called
    assert len(model[5]._backward_hooks) == 1


def test_checkpoints_change_no_buffers():
    """Their forward pass runs again in every backward pass."""

    class Checkpointed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            linear = torch.nn.Linear(6, 6)
            self.first = torch.nn.utils.parametrizations.spectral_norm(linear)
            self.head = torch.nn.Linear(6, 3)

        def forward(self, x):
            return self.head(checkpoint(self.first, x, use_reentrant=False))

    torch.manual_seed(0)
    model = Checkpointed()
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    vivit.GGN(model, torch.nn.CrossEntropyLoss(), (torch.randn(5, 6), torch.arange(5) % 3)).gram()
    assert all(torch.equal(b, buffers[name]) for name, b in model.named_buffers())


def test_hooks_of_modules_do_not_take_part():
    model, loss_func, x, y = CASES[0].make()
    exact = vivit.GGN(model, loss_func, (x, y)).eigvalsh()
    model[2].register_full_backward_hook(lambda module, grad_in, grad_out: (0.1 * grad_in[0],))
    assert torch.equal(vivit.GGN(model, loss_func, (x, y)).eigvalsh(), exact)


def test_no_grad_does_not_matter():
    model, loss_func, x, y = CASES[0].make()
    outside = vivit.GGN(model, loss_func, (x, y))
    with torch.no_grad():
        inside = vivit.GGN(model, loss_func, (x, y))
        assert torch.equal(inside.eigvalsh(), outside.eigvalsh())
        v = torch.ones(inside.shape[0], dtype=torch.float64)
        assert torch.equal(inside @ v, outside @ v)


def test_sparse_gradients():
    model = torch.nn.Sequential(
        torch.nn.Embedding(5, 3, sparse=True), torch.nn.Flatten(), torch.nn.Linear(6, 2)
    )
    data = torch.randint(5, (4, 2)), torch.randint(2, (4,))
    sparse = vivit.GGN(model, torch.nn.CrossEntropyLoss(), data).gram()
    model[0].sparse = False
    assert torch.equal(sparse, vivit.GGN(model, torch.nn.CrossEntropyLoss(), data).gram())


def test_dropout_is_the_same_for_all_quantities():
    """All quantities describe one linearization, with one mask."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(6, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)
    ).double()
    x, y = torch.randn(5, 6).double(), torch.randint(3, (5,))
    ggn = vivit.GGN(model, torch.nn.CrossEntropyLoss(), (x, y))
    pairs = ggn.eigh(k=3)
    for value, vector in zip(pairs.values, flat(pairs.vectors), strict=True):
        assert_close(ggn @ vector, value * vector)


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        (lambda values: [0, len(values) - 1], [0, -1]),
        (lambda values: values > values.median(), slice(6, None)),
        (lambda values: torch.tensor([2, 1]), [2, 1]),
        (lambda values: slice(-2, None), slice(-2, None)),
        (lambda values: [], []),
    ],
)
def test_criterion(criterion, expected):
    model, loss_func, x, y = CASES[0].make()
    ggn = vivit.GGN(model, loss_func, (x, y))
    everything, pairs = ggn.eigh(), ggn.eigh(criterion=criterion)
    assert len(everything.values) == 12
    assert torch.equal(pairs.values, everything.values[expected])
    assert torch.equal(flat(pairs.vectors), flat(everything.vectors)[expected])


def test_k_keeps_the_largest():
    model, loss_func, x, y = CASES[0].make()
    ggn = vivit.GGN(model, loss_func, (x, y))
    assert torch.equal(ggn.eigh(k=4).values, ggn.eigh().values[-4:])


def test_zero_curvature():
    """A network whose output does not depend on the parameters has no eigenpairs."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Hardtanh(9, 10))
    data = torch.randn(4, 2), torch.randint(3, (4,))
    ggn = vivit.GGN(model, torch.nn.CrossEntropyLoss(), data)
    assert torch.equal(ggn.eigvalsh(), torch.zeros(8))
    assert ggn.eigh().vectors["0.weight"].shape == (0, 3, 2)


def test_selection_by_glob_alias_and_parameter():
    model, select = TiedWeight(), select_parameters
    assert list(select(model, ["*.bias"])) == ["first.bias", "head.bias"]
    assert list(select(model, ["second.weight"])) == ["first.weight"]
    assert list(select(model, [model.head.weight, "first*"])) == [
        "first.weight",
        "first.bias",
        "head.weight",
    ]


def test_blocks_add_up():
    """The Gram matrices of the blocks add up to that of the whole network."""
    model, data = conv2d(), (torch.randn(4, 2, 6, 7), torch.randint(3, (4,)))
    whole = vivit.GGN(model, torch.nn.CrossEntropyLoss(), data).gram()
    blocks = vivit.block_diagonal(model, torch.nn.CrossEntropyLoss(), data)
    assert list(blocks) == ["0", "2", "5", "8"]
    assert_close(sum(block.gram() for block in blocks.values()), whole, tolerance=1e-5)
