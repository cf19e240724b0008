"""Eigenvectors, derivatives and steps in single precision, along weak directions as well.

Allowed is what the backward passes themselves err by, which is measured: how far derivatives of
the model in single precision are from those in double precision.
"""

import copy
from dataclasses import dataclass, replace
from functools import cache

import oracle
import pytest
import torch
from cases import CASES, Case
from drop_in import PROBLEMS, run
from drop_in import VARIANTS as DROP_IN_VARIANTS
from torch import Tensor, nn

import vivit
from vivit import Lanczos, MonteCarlo
from vivit.gram import precision
from vivit.gram.precision import orthonormalize

EPS = torch.finfo(torch.float32).eps
ORTHONORMAL = 1e-6
SAFETY = 4.0
"""Passes with several cotangents at once, and other orders of summation, err by about as much as
that which is measured; so does the rounding of what is returned."""


def wide() -> nn.Module:
    """Its 256 eigenvalues all count, over three orders of magnitude."""
    return nn.Sequential(
        nn.Linear(20, 32), nn.Tanh(), nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 5)
    )


WIDE = Case("256 eigenvectors", wide, (64, 20))
ALL = [*CASES, WIDE]
WAYS = {
    "all in double precision": {},
    "matrices in double precision": {"SMALL_FLOPS": -1},
    "single precision": {"SMALL_FLOPS": -1, "AFFORDABLE_FLOPS": -1},
}
NAMED = {case.name: case for case in ALL}


@pytest.fixture(params=ALL, ids=lambda case: case.name)
def case(request):
    return request.param


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """What is done in double precision, whatever the size."""
    for name, value in WAYS[request.param].items():
        monkeypatch.setattr(precision, name, value)
    return request.param


def kept_of(ggn):
    """The columns that are kept, if they are."""
    made = ggn._matrices._made
    return None if made is None else made[""].kept


@dataclass
class Exact:
    """A problem in single precision, and its columns and gradients from double precision.

    Attributes:
        columns: ``V_n``, of all samples that carry curvature, shape ``[N, C, D]``.
        errors: How far those of single precision are off, by their norm, shape ``[N]``.
        gradients: Of all samples, shape ``[N', D]``.
        gradient_errors: How far those of single precision are off.
        scale: Of second derivatives.
        is_spanned: Whether gradients lie in the span of the columns.
    """

    columns: Tensor
    errors: Tensor
    gradients: Tensor
    gradient_errors: Tensor
    scale: float
    is_spanned: bool = True

    def check(self, pairs, derivatives, rounded=False, sent_back=False):
        """Hold everything against the vectors that were returned.

        Args:
            pairs: Eigenpairs.
            derivatives: Along the same vectors.
            rounded: Whether they are from a matrix in single precision.
            sent_back: Whether vectors are from backward passes of their own, which turns them out
                of the span of the columns.
        """
        values, vectors = pairs.values.double(), flat(pairs.vectors)
        assert pairs.values.dtype == derivatives.gammas.dtype == torch.float32
        assert {x.dtype for x in pairs.vectors.values()} == {torch.float32}
        assert (vectors @ vectors.T - torch.eye(len(vectors))).abs().max() <= ORTHONORMAL
        if not len(values):
            return
        slopes = torch.einsum("ncp,kp->nck", self.columns, vectors).norm(dim=1)
        error = self.errors[:, None]
        share = torch.zeros(())
        if rounded:  # V^T e is off by the matrix's error over sqrt(lambda)
            of_matrix = self.error_of_matrix / values.sqrt()
            error = error + of_matrix
            share = of_matrix / (self.columns.norm() if self.is_spanned else values.sqrt())
        if sent_back and not self.is_spanned:
            share = share + self.errors.norm() / values.sqrt()
        gap = (derivatives.gammas - self.gradients @ vectors.T).abs()
        allowed = self.gradient_errors[:, None] + share * self.gradients.norm(dim=1)[:, None]
        assert (gap <= allowed).all()
        allowed = self.scale * (2 * slopes + error) * error
        assert ((derivatives.lambdas - self.scale * slopes.square()).abs() <= allowed).all()
        if not rounded:
            error = self.errors.norm()
            allowed = (2 * values.sqrt() + error) * error
            assert ((values - slopes.square().sum(0)).abs() <= allowed).all()

    @property
    def error_of_matrix(self):
        """Of its inner products and its decomposition in single precision."""
        largest = torch.linalg.matrix_norm(self.columns.flatten(0, 1), 2)
        size = self.columns.shape[:2].numel()
        return 2 * self.errors.norm() * largest + size * EPS * largest**2


def flat(vectors):
    """In double precision, shape ``[K, D]``."""
    return torch.cat([v[:, None].flatten(1) for v in vectors.values()], dim=1).double()


def in_double(model, x, y):
    """A copy."""
    exact = copy.deepcopy(model).double(), x.double() if x.is_floating_point() else x
    return *exact, y.double() if y.is_floating_point() else y


def exact_problem(model, loss_func, x, y):
    """From dense Jacobians."""
    exact, x64, y64 = in_double(model, x, y)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    jacobian = oracle.jacobian(exact, x64, names)
    n, c, _ = jacobian.shape
    f = exact(x64).detach()
    hessian = oracle.loss_hessian(loss_func, f, y64).reshape(n, c, n, c)
    values, vectors = torch.linalg.eigh(torch.stack([hessian[i, :, i] for i in range(n)]))
    factors = vectors * values.clamp(min=0).sqrt().unsqueeze(1)  # H_n = S_n S_n^T
    f.requires_grad_()
    slopes = torch.autograd.grad(loss_func(f, y64), f)[0].reshape(n, c)
    scale = 1 if loss_func.reduction == "sum" else n
    off = (oracle.jacobian(model, x, names).double() - jacobian).flatten(1).norm(dim=1)
    off = SAFETY * (off + EPS * jacobian.flatten(1).norm(dim=1))
    errors = off * factors.flatten(1).norm(dim=1)
    # g_n = V_n w_n is as accurate as its summands V_nc w_nc
    roots = values.clamp(min=1e-12 * float(values.max())).sqrt()
    coordinates = (torch.einsum("ncd,nc->nd", vectors, slopes) / roots).norm(dim=1)
    return Exact(
        torch.einsum("ncd,ncp->ndp", factors, jacobian),
        errors,
        scale * torch.einsum("nc,ncp->np", slopes, jacobian),
        scale * errors * coordinates,
        scale,
    )


@cache
def problem(case):
    """Made once for all tests."""
    parts = case.make(torch.float32)
    return parts, exact_problem(*parts)


def ggn_of(case, **options):
    model, loss_func, x, y = problem(case)[0]
    return vivit.GGN(model, loss_func, (x, y), **options)


def test_all_pairs(case, way):
    """Orthonormal eigenvectors, and derivatives that are those along them."""
    ggn = ggn_of(case)
    small = ggn.shape[0] <= ggn.num_columns
    is_single = way == "single precision"
    pairs, derivatives = ggn.eigh(), ggn.directional_derivatives()
    if not small:
        assert ggn._matrices.has_double != is_single
        assert (kept_of(ggn) is not None) == (way == "all in double precision")
    problem(case)[1].check(pairs, derivatives, is_single)


def test_all_of_256_eigenvectors():
    """And they are many, down to a share of the largest at which single precision fails."""
    values = ggn_of(WIDE).eigh().values
    assert len(values) == 256
    assert values[0] < 1e-3 * values[-1]


def test_leading_pairs(case, way):
    """Few pairs, by all ways."""
    whole = ggn_of(case)
    k = min(3, len(whole.eigh().values), whole.num_columns - 1, whole.shape[0] - 1)
    chosen = [{"criterion": lambda values: values > 0.01 * values[-1]}]
    if k > 0:
        chosen += [{"k": 1}, {"k": k}, {"k": k, "method": Lanczos()}]
    for options in chosen:
        ggn = ggn_of(case)
        pairs, derivatives = ggn.eigh(**options), ggn.directional_derivatives(**options)
        problem(case)[1].check(pairs, derivatives, rounded=not ggn._matrices.has_double)


def test_newton_step(case, way):
    """Along the weakest direction as well, damped by no more than its own curvature."""
    ggn, exact = ggn_of(case), problem(case)[1]
    pairs = ggn.eigh()
    values, vectors = pairs.values.double(), flat(pairs.vectors)
    if not len(values) or way == "single precision":
        return
    damping = float(values[0])
    step = torch.cat([x.flatten() for x in ggn.newton_step(damping).values()]).double()
    mean = len(exact.gradients) if exact.scale > 1 or len(exact.gradients) == 1 else 1
    slope = vectors @ exact.gradients.sum(0) / mean
    expected = -slope / (values + damping)
    error = exact.errors.norm()
    off = exact.gradient_errors.sum() / mean
    off = off + slope.abs() * (2 * values.sqrt() + error) * error / (values + damping)
    allowed = off / (values + damping) + 2 * EPS * expected.norm()
    if way != "all in double precision":  # a vector-Jacobian product in single precision
        allowed = allowed + error * (expected / values.sqrt()).norm()
    assert ((vectors @ step - expected).abs() <= allowed).all()


VARIANTS = {
    "subset": {"subset": [1, 0]},
    "monte carlo": {"approximation": MonteCarlo(2, seed=3)},
    "both": {"subset": [0, 2], "approximation": MonteCarlo(3, seed=3)},
    "some parameters": {"params": ["*weight"]},
}


def exact_columns(model, loss_func, x, y, **options):
    """From `vivit.GGN` in double precision, which has tests of its own."""
    exact, x64, y64 = in_double(model, x, y)
    found = {}
    for name, parts in {"double": (exact, x64, y64), "single": (model, x, y)}.items():
        ggn = vivit.GGN(parts[0], loss_func, parts[1:], **options)
        one = torch.eye(ggn.num_columns, dtype=next(parts[0].parameters()).dtype)
        columns = (ggn.factor_operator() @ one).T.double()
        gradients = []
        for i in range(len(x)):
            batch = parts[1][i : i + 1], parts[2][i : i + 1]
            plain = vivit.GGN(parts[0], loss_func, batch, params=options.get("params"))
            gradients.append(ggn.flatten(plain.gradient()).double())
        found[name] = columns.unflatten(0, (ggn._curvature.num_curvature_samples, -1)), gradients
    columns, gradients = found["double"][0], torch.stack(found["double"][1])
    norms = columns.flatten(1).norm(dim=1)
    errors = SAFETY * ((found["single"][0] - columns).flatten(1).norm(dim=1) + EPS * norms)
    off = (torch.stack(found["single"][1]) - gradients).norm(dim=1)
    scale = len(columns) if loss_func.reduction != "sum" else len(columns) / len(x)
    gradient_errors = SAFETY * (off + EPS * gradients.norm(dim=1))
    spanned = options.get("approximation") is None and options.get("subset") is None
    return Exact(columns, errors, gradients, gradient_errors, scale, spanned)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("name", ["conv2d", "tokens", "outside layers", "256 eigenvectors"])
def test_variants(name, options, way):
    """Of samples, columns and parameters, in one batch and in several."""
    model, loss_func, x, y = problem(NAMED[name])[0]
    exact = exact_columns(model, loss_func, x, y, **options)
    half = (len(x) + 1) // 2
    batches = list(zip(x.split(half), y.split(half), strict=True))
    for data in ((x, y), batches):
        ggn = vivit.GGN(model, loss_func, data, **options)
        many = data is batches and "approximation" in options
        some = exact_of_batches(ggn, exact) if many else exact
        pairs, derivatives = ggn.eigh(), ggn.directional_derivatives()
        sent_back = way != "all in double precision"
        some.check(pairs, derivatives, way == "single precision", sent_back)


def exact_of_batches(ggn, exact):
    """Other columns are drawn for other batches: the ones of single precision as they are."""
    one = torch.eye(ggn.num_columns)
    columns = (ggn.factor_operator() @ one).T.double()
    columns = columns.unflatten(0, exact.columns.shape[:2])
    errors = exact.errors.max() * torch.ones(len(columns)).double()
    return replace(exact, columns=columns, errors=errors)


@pytest.mark.parametrize("variant", ["exact", "subset", "monte-carlo"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_drop_in(name, variant, way):
    """All pairs that count, in BackPACK's backward pass: as `vivit.GGN` has them."""
    model, loss_func, x, y = PROBLEMS[name].make()
    model.float()
    x, y = (t.float() if t.is_floating_point() else t for t in (x, y))
    variant, options = DROP_IN_VARIANTS[variant], {}
    if "mc_samples" in variant:
        options["approximation"] = MonteCarlo(variant["mc_samples"], variant["seed"])
    if "subsampling" in variant:
        options["subset"] = variant["subsampling"]
    exact = exact_columns(copy.deepcopy(model), loss_func, x, y, **options)
    group = {
        "params": list(model.parameters()),
        "criterion": lambda values: (values > 1e-5 * values[-1]).nonzero().flatten(),
        "damping": lambda values, *_: values,
    }
    data = model, loss_func, x, y
    ((values, vectors),) = run(
        vivit.EighComputation(warn_small_eigvals=0, **variant), *data, [group]
    )
    renamed = {f"{key}_ggn" if key != "seed" else key: value for key, value in variant.items()}
    derivatives = vivit.DirectionalDerivativesComputation(warn_small_eigvals=0, **renamed)
    ((gammas, lambdas),) = run(derivatives, *data, [group])
    in_order = lambdas[torch.tensor(variant.get("subsampling", range(len(lambdas)))).argsort()]
    named = dict(zip([n for n, _ in model.named_parameters()], vectors, strict=True))
    exact.check(
        vivit.EigenPairs(values, named),
        vivit.DirectionalDerivatives(gammas, in_order),
        rounded=way != "all in double precision",
        sent_back=True,
    )
    newton = vivit.DirectionalDampedNewtonComputation(warn_small_eigvals=0, **renamed)
    (step,) = run(newton, *data, [group])
    assert {part.dtype for part in step} == {torch.float32}
    along = flat(named) @ torch.cat([part.flatten() for part in step]).double()
    expected = -gammas.double().mean(0) / (lambdas.double().mean(0) + values.double())
    limit = 1e-5 if way == "all in double precision" else 1e-2
    assert ((along - expected).abs() <= limit * expected.norm()).all()


def test_what_stays_is_planned(case):
    """The columns in the form that layers keep them; never more than the workspace."""
    ggn = ggn_of(case)
    if ggn.shape[0] <= ggn.num_columns:
        pytest.skip("the columns themselves are kept")
    ggn.eigh()
    plan, kept = ggn._matrices.costs.plan(double=True), kept_of(ggn)
    tensors = {
        id(value): value
        for layer in kept._layers
        for store in layer
        for value in vars(store).values()
        if isinstance(value, Tensor)
    }
    size = sum(value.numel() * value.element_size() for value in tensors.values())
    if not case.generic and case.name != "merged adapter":
        assert size <= plan.settled_bytes
    small = vivit.GGN(*problem(case)[0][:2], problem(case)[0][2:], workspace=size)
    small.eigh()
    assert small._matrices.has_double
    assert kept_of(small) is None


def test_memory_for_single_precision_only():
    """Then it has to do."""
    model, loss_func, x, y = problem(WIDE)[0]
    enough = vivit.GGN(model, loss_func, (x, y))._matrices.costs.plan(3).peak_bytes
    ggn = vivit.GGN(model, loss_func, (x, y), memory=enough)
    vectors = flat(ggn.eigh().vectors)
    assert not ggn._matrices.has_double
    assert (vectors @ vectors.T - torch.eye(len(vectors))).abs().max() <= ORTHONORMAL


def test_matrices_in_double_precision_serve_everything():
    """Results stay in single precision, and nothing is computed again."""
    ggn = ggn_of(WIDE)
    gram, values = ggn.gram(), ggn.eigvalsh()
    assert not ggn._matrices.has_double
    ggn.eigh()
    matrices = ggn._matrices._made
    assert matrices[""].gram.dtype == torch.float64
    assert ggn.gram().dtype == ggn.eigvalsh().dtype == torch.float32
    assert (ggn.gram() - gram).abs().max() <= 1e-5 * gram.abs().max()
    assert (ggn.eigvalsh() - values).abs().max() <= 1e-5 * values.max()
    assert len(ggn.eigh(k=2).values) == 2
    assert ggn._matrices._made is matrices


def test_few_pairs_of_a_matrix_of_low_rank():
    """Rounding errors of single precision do not count as pairs of one in double precision."""
    torch.manual_seed(0)
    model = nn.Linear(400, 1)
    x = torch.randn(2, 400)[torch.arange(150) % 2]
    ggn = vivit.GGN(model, nn.MSELoss(), (x, torch.zeros(150, 1)))
    assert len(ggn.eigh().values) == len(ggn.eigh(k=3).values) == 2
    assert ggn._matrices.has_double


def test_copies_are_left_alone():
    ggn = ggn_of(NAMED["mlp"])
    once, twice = ggn.eigh(k=1).vectors, ggn.eigh(criterion=lambda values: [-1, -1]).vectors
    for name, x in once.items():
        assert torch.allclose(twice[name][0], x[0])
        assert torch.equal(twice[name][0], twice[name][1])


@pytest.mark.parametrize("workspace", [1, 10**6])
def test_orthonormalize(workspace):
    """Those of large eigenvalues hardly change, and zeros stay zero."""
    generator = torch.Generator().manual_seed(0)
    exact = torch.linalg.qr(torch.randn(90, 5, generator=generator).double())[0].T
    mix = torch.eye(5).double()
    mix[0, 1] = mix[3, 4] = 1e-2
    vectors = (mix @ exact).float()
    vectors[2] = 0
    values = torch.tensor([1.0, 5.0, 3.0, 2.0, 4.0])
    parts = {"a": vectors[:, :30].reshape(5, 5, 6).clone(), "b": vectors[:, 30:].clone()}
    orthonormalize({**parts, "c": torch.empty(5, 0)}, values, workspace)
    result = torch.cat([parts["a"].flatten(1), parts["b"]], dim=1).double()
    exact[2] = 0
    assert (result - exact).abs().max() <= 2 * EPS


def test_dependent_vectors_stay_as_they_are():
    vectors = torch.tensor([[1.0, 0.0], [1.0, 1e-4]])
    before = vectors.clone()
    orthonormalize({"": vectors}, torch.tensor([1.0, 2.0]), 100)
    assert torch.equal(vectors, before)
    with pytest.warns(
        UserWarning, match=r"down to 1\.0e-08 of the largest.*larger rank_tolerance"
    ):
        orthonormalize({"": vectors}, torch.tensor([1e-8, 1.0]), 100)
    assert torch.equal(vectors, before)
