"""Samples that share a unit: nodes of a graph, packed sequences, tokens; against dense float64."""

import dataclasses
import math

import cases
import oracle
import pytest
import torch
from units import CASES, assert_close, dense_of, flat, made, normal

import vivit
from vivit import devices

ON_EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def assert_is(ours, matrix, scale):
    """All that a matrix says of itself is that of a dense one."""
    size = min(len(matrix), ours.num_columns)
    assert_close(ours.eigvalsh(), torch.linalg.eigvalsh(matrix)[-size:], scale)
    v = normal(len(matrix), 2)
    assert_close(ours @ v, matrix @ v, scale, 1e-8)
    columns = ours.factor_operator() @ torch.eye(ours.num_columns).double()
    assert_close(columns @ columns.T, matrix, scale)
    assert_close(ours.gram(), columns.T @ columns, scale)
    assert_close(ours.factor_operator().T @ v, columns.T @ v, scale, 1e-8)
    sizes = [x.numel() for x in ours.gradient().values()]
    traces = torch.stack([x.sum() for x in matrix.diagonal().split(sizes)])
    assert_close(torch.stack([*ours.traces().values()]), traces, scale)
    return columns


def assert_derivatives(ours, matrix, dense, curvatures, scale, k=None):
    """Eigenpairs, slopes and curvatures of each sample along them."""
    pairs, derivatives = ours.eigh(k=k), ours.directional_derivatives(k=k)
    e = flat(pairs.vectors)
    assert_close(matrix @ e, e * pairs.values, scale, 1e-8)
    slopes, size = dense.gradients @ e, dense.gradients.norm()
    assert_close(derivatives.gammas.abs(), slopes.abs(), size, 1e-7)
    expected = curvatures(e)
    assert_close(derivatives.lambdas, expected, expected.abs().max(), 1e-7)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_models_that_keep_samples_apart(case):
    """Whether mixing is allowed makes no difference to them."""
    model, loss_func, x, y = case.make()
    expected = vivit.GGN(model, loss_func, (x, y)).gram()
    ours = vivit.GGN(model, loss_func, (x, y), mixing="allow")
    assert_close(ours.gram(), expected, expected.abs().max())


@ON_EVERY_CASE
@pytest.mark.parametrize("workspace", [None, 1], ids=["roomy", "tight"])
def test_ggn(case, workspace):
    dense, ours = made(case, workspace=workspace)
    g = dense.ggn()
    exact, scale = g, g.trace()
    assert ours.num_columns % dense.n == 0
    assert_is(ours, exact, scale)

    def curvatures(e):
        images = torch.einsum("ncd,dk->nck", dense.j, e)
        return dense.of_sample * torch.einsum("nck,ncb,nbk->nk", images, dense.h, images)

    assert_derivatives(ours, exact, dense, curvatures, scale)
    gradient = oracle.gradient(dense.model, case.loss, case.x, case.y, dense.names)
    assert_close(ours.flatten(ours.gradient()), gradient)
    damped = exact + 0.1 * scale * torch.eye(len(exact)).double()
    step = ours.flatten(ours.solve(ours.gradient(), damping=0.1 * float(scale)))
    assert_close(step, torch.linalg.solve(damped, gradient))
    served = ours.plan().done.served_by
    fast = {"affine", "parts", "products"}
    assert {name for name, way in served.items() if way not in fast} == {*case.generic}


@ON_EVERY_CASE
def test_steps_along_eigenvectors(case):
    dense, ours = made(case)
    pairs, d = ours.eigh(), ours.directional_derivatives()
    e, slopes = flat(pairs.vectors), d.gammas.mean(dim=0) * dense.n / dense.of_sample
    step = ours.flatten(ours.newton_step(damping=0.3))
    assert_close(step.abs(), (e @ (-slopes / (pairs.values + 0.3))).abs(), 1.0, 1e-8)
    gradient = dense.gradients.sum(dim=0) / dense.of_sample
    exact = -(e @ ((e.T @ gradient) / (pairs.values + 0.3)))
    assert_close(step, exact, 1.0, 1e-8)


@ON_EVERY_CASE
@pytest.mark.parametrize("centered", [False, True], ids=["plain", "centred"])
@pytest.mark.parametrize("chosen", [None, [1, 2, 5]], ids=["all", "subset"])
def test_empirical_fisher(case, centered, chosen):
    dense, ours = made(case, vivit.EmpiricalFisher, centered=centered, subset=chosen)
    scale = dense.fisher(False, chosen).trace()
    exact = dense.fisher(centered, chosen)
    columns = assert_is(ours, exact, scale)
    g = dense.gradients if chosen is None else dense.gradients[chosen]
    g = g - g.mean(dim=0) if centered else g
    assert_close(columns / columns.norm(), g.T / g.norm())

    assert_derivatives(ours, exact, dense, lambda e: (g @ e).square(), scale)


@ON_EVERY_CASE
@pytest.mark.parametrize("chosen", [[0], [5, 1, 2]], ids=["one", "three"])
def test_subset(case, chosen):
    dense, ours = made(case, subset=chosen)
    exact = dense.ggn(sorted(chosen))
    scale = dense.ggn().trace()
    assert_is(ours, exact, scale)

    def curvatures(e):
        images = torch.einsum("ncd,dk->nck", dense.j[sorted(chosen)], e)
        h = dense.h[sorted(chosen)]
        return dense.of_sample * torch.einsum("nck,ncb,nbk->nk", images, h, images)

    assert_derivatives(ours, exact, dense, curvatures, scale)


@ON_EVERY_CASE
def test_monte_carlo(case):
    """Columns of each sample are in the range of its Jacobian; their expectation is the GGN."""
    dense, ours = made(case, approximation=vivit.MonteCarlo(2, seed=3))
    assert ours.num_columns == 2 * dense.n
    columns = ours.factor_operator() @ torch.eye(ours.num_columns).double()
    exact = dense.ggn()
    assert_is(ours, columns @ columns.T, exact.trace())
    for n, own in enumerate(columns.T.split(2)):
        j = dense.j[n].T
        assert_close(j @ torch.linalg.lstsq(j, own.T, driver="gelsd").solution, own.T, 1.0, 1e-7)
    images = columns.T.unflatten(0, (-1, 2))
    scale = dense.n if dense.of_sample == dense.n else 1

    def curvatures(e):
        return scale * torch.einsum("ncd,dk->nck", images, e).square().sum(dim=1)

    assert_derivatives(ours, columns @ columns.T, dense, curvatures, exact.trace(), k=4)
    _, many = made(case, approximation=vivit.MonteCarlo(300, seed=1))
    v = normal(len(exact), 20)
    assert float((many @ v - exact @ v).norm() / (exact @ v).norm()) < 0.25


@ON_EVERY_CASE
def test_several_batches(case):
    """Each is a unit, or some: so the curvature is the mean of theirs, by what they average."""
    dense = dense_of(case)
    batches = [(case.x, case.y), (case.x.flip(0), case.y)]
    one = [vivit.GGN(dense.model, case.loss, b, **case.options) for b in batches]
    both = vivit.GGN(dense.model, case.loss, batches, **case.options)
    v, share = normal(len(dense.j[0, 0])), 2 if dense.of_sample == dense.n else 1
    exact = sum(g @ torch.eye(len(v)).double() for g in one) / share
    assert_is(both, exact, exact.trace())
    d = both.directional_derivatives(k=3)
    assert d.gammas.shape == d.lambdas.shape == (2 * dense.n, 3)
    assert_close(d.lambdas.sum(dim=0) / (share * dense.of_sample), both.eigvalsh()[-3:], 1, 1e-8)
    fisher = vivit.EmpiricalFisher(dense.model, case.loss, batches, **case.options)
    apart = [vivit.EmpiricalFisher(dense.model, case.loss, b, **case.options) for b in batches]
    exact = sum(f @ torch.eye(len(v)).double() for f in apart) / share
    assert_is(fisher, exact, exact.trace())


@ON_EVERY_CASE
@pytest.mark.parametrize("matrix", ["ggn", "empirical_fisher"])
def test_blocks(case, matrix):
    dense, blocks = made(case, vivit.block_diagonal, groups="parameter", matrix=matrix)
    exact = dense.ggn() if matrix == "ggn" else dense.fisher(False)
    start = 0
    for block in blocks.values():
        stop = start + block.shape[0]
        own = exact[start:stop, start:stop]
        size = min(len(own), block.num_columns)
        assert_close(block.eigvalsh(), torch.linalg.eigvalsh(own)[-size:], exact.trace())
        start = stop


@ON_EVERY_CASE
def test_several_columns_in_a_pass(case, monkeypatch):
    """As on a GPU."""
    expected = made(case)[1].gram()
    several = dataclasses.replace(devices.CPU, busy=math.inf)
    monkeypatch.setitem(devices.KINDS, "cpu", several)
    _, together = made(case)
    assert together.plan().columns_per_pass > 1
    assert_close(together.gram(), expected)
