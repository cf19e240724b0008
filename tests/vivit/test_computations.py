"""The interface of vivit-for-pytorch 1.0.0, against `vivit.GGN`."""

import pytest
import torch
from drop_in import GROUPS, PROBLEMS, VARIANTS, for_directional, leading, ours, run, split

from vivit import (
    DirectionalDampedNewtonComputation,
    DirectionalDerivativesComputation,
    EighComputation,
    EigvalshComputation,
)


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
