"""Steps of trainings that know the curvature, against dense matrices in double precision."""

import pytest
import torch
from oracle import ggn as dense_ggn
from oracle import gradient as dense_gradient
from torch import nn

from benchmarks.problems.problem import Instance
from benchmarks.training.curvature import (
    SEEDS,
    BootstrapNewton,
    Curvature,
    Directions,
    LanczosNewton,
    Newton,
    Start,
)
from benchmarks.training.krylov import damped_solution, lanczos
from benchmarks.training.steps import DivergedError
from vivit import BootstrapDamping, DirectionalDerivatives, InputError, UnsupportedError

LEADING, ALL = Directions
RATE = 0.3
CLASSES = 3
LOSSES = {"classes": nn.CrossEntropyLoss(), "values": nn.MSELoss()}
SMALL = 1e-10
"""Of the largest eigenvalue, below which others are trivial."""


def instance(loss="classes", *layers):
    torch.manual_seed(3)
    layers = layers or (nn.Linear(4, 5), nn.Tanh())
    model = nn.Sequential(*layers, nn.Linear(5 if len(layers) > 1 else 4, CLASSES)).double()
    x = torch.randn(7, 4, dtype=torch.float64)
    y = torch.arange(7) % CLASSES if loss == "classes" else torch.randn(7, CLASSES).double()
    return Instance(model.train(), LOSSES[loss], x, y)


class Dense:
    """Curvature and gradient of a mini-batch, and of its samples, before a step."""

    def __init__(self, batch):
        names = [name for name, _ in batch.model.named_parameters()]

        def of(part):
            arguments = part.model, part.loss_func, part.inputs, part.targets, names
            return dense_ggn(*arguments), dense_gradient(*arguments)

        self.ggn, self.gradient = of(batch)
        self.samples = [of(batch.samples(slice(n, n + 1))) for n in range(batch.num_samples)]
        values, vectors = torch.linalg.eigh(self.ggn)
        kept = values > SMALL * values[-1]
        self.values, self.vectors = values[kept], vectors[:, kept]

    def leading(self, directions):
        count = CLASSES if directions is LEADING else len(self.values)
        return self.values[-count:], self.vectors[:, -count:]


def moved(kind, batch, seed=0):
    """What a step adds to the flat parameters, and the seed that it drew."""
    before = nn.utils.parameters_to_vector(batch.model.parameters()).detach().clone()
    torch.manual_seed(seed)
    drawn = int(torch.randint(SEEDS, ()))
    torch.manual_seed(seed)
    kind.of(batch.model, RATE).step(batch)
    return nn.utils.parameters_to_vector(batch.model.parameters()).detach() - before, drawn


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("directions", [*Directions])
@pytest.mark.parametrize("damping", [1.0, 1e-3])
def test_newton_steps(loss, directions, damping):
    batch = instance(loss)
    dense = Dense(batch)
    values, vectors = dense.leading(directions)
    expected = -vectors @ (vectors.T @ dense.gradient / (values + damping))
    step, _ = moved(Newton(damping, directions), batch)
    torch.testing.assert_close(step, RATE * expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("loss", LOSSES)
def test_with_all_directions_nothing_of_the_gradient_is_left_out(loss):
    """The damped solution on all parameters: the gradient lies in the range of the GGN."""
    batch = instance(loss)
    dense = Dense(batch)
    damped = dense.ggn + 0.1 * torch.eye(len(dense.ggn)).double()
    expected = -torch.linalg.solve(damped, dense.gradient)
    step, _ = moved(Newton(0.1, ALL), batch)
    torch.testing.assert_close(step, RATE * expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("directions", [*Directions])
def test_bootstrap_steps(loss, directions):
    batch = instance(loss)
    dense = Dense(batch)
    values, vectors = dense.leading(directions)
    step, seed = moved(BootstrapNewton(directions), batch)
    derivatives = DirectionalDerivatives(
        torch.stack([vectors.T @ gradient for _, gradient in dense.samples]),
        torch.stack([(vectors * (ggn @ vectors)).sum(dim=0) for ggn, _ in dense.samples]),
    )
    damping = BootstrapDamping(seed=seed)(values, derivatives)
    expected = -vectors @ (vectors.T @ dense.gradient / (values + damping))
    torch.testing.assert_close(step, RATE * expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("start", [*Start])
@pytest.mark.parametrize("iterations", [1, 4, 1000])
def test_lanczos_steps(loss, start, iterations):
    """The dense damped solution, projected on a Krylov space that is made by a decomposition."""
    batch, damping = instance(loss), 0.2
    dense = Dense(batch)
    step, seed = moved(LanczosNewton(damping, iterations, start), batch)
    first = dense.gradient
    if start is Start.RANDOM:
        generator = torch.Generator().manual_seed(seed)
        first = torch.randn(len(first), generator=generator).double()
    dimensions = min(iterations, len(first))
    if iterations == 1000:
        basis = torch.eye(len(first)).double()
    else:
        powers = [first]
        while len(powers) < dimensions:
            powers.append(dense.ggn @ powers[-1] / powers[-1].norm())
        basis, _ = torch.linalg.qr(torch.stack(powers, dim=1))
    small = basis.T @ dense.ggn @ basis + damping * torch.eye(basis.shape[1]).double()
    inside = basis.T @ dense.gradient
    outside = (dense.gradient - basis @ inside) / damping
    expected = -(basis @ torch.linalg.solve(small, inside) + outside)
    torch.testing.assert_close(step, RATE * expected, rtol=1e-6, atol=1e-9)


def symmetric(values):
    torch.manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64))
    return q @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ q.T


def test_lanczos_vectors_are_orthonormal_and_give_a_tridiagonal_matrix():
    """In single precision, too."""
    matrix = symmetric([1.5**-n for n in range(20)]).float()
    basis, projected = lanczos(lambda v: matrix @ v, torch.ones(20), 15)
    assert basis.shape == (20, 15)
    torch.testing.assert_close(basis.T @ basis, torch.eye(15), rtol=0, atol=1e-6)
    torch.testing.assert_close(basis.T @ matrix @ basis, projected, rtol=0, atol=1e-4)
    assert projected.triu(2).abs().max() < 1e-4


@pytest.mark.parametrize(("different", "products"), [(1, 1), (3, 3)])
def test_lanczos_ends_where_the_space_is_exhausted(different, products):
    """As many vectors as there are different eigenvalues."""
    matrix = symmetric([1.0 + n % different for n in range(9)])
    basis, _ = lanczos(lambda v: matrix @ v, torch.ones(9).double(), 9)
    assert basis.shape == (9, products)


def test_without_a_gradient_there_is_no_step():
    zero = torch.zeros(4)
    assert not damped_solution(lambda v: v, zero, zero, 3, 0.1).any()


class Seen(Curvature):
    """Makes no steps, and keeps the gradients."""

    value = label = "seen"
    settings: dict = {}  # noqa: RUF012

    def __init__(self):
        self.gradients, self.seeds = [], []

    def direction(self, ggn, batch, seed):
        self.gradients.append(ggn.flatten(ggn.gradient()))
        self.seeds.append(seed)
        return {}


def test_each_step_draws_anew_and_the_generator_decides_what():
    """Dropout masks, too: a GGN alone would draw the same ones in every step."""
    batch = instance("classes", nn.Dropout())
    kinds = Seen(), Seen()
    for kind in kinds:
        torch.manual_seed(0)
        for _ in range(2):
            kind.of(batch.model, RATE).step(batch)
    first, second = kinds
    assert first.seeds == second.seeds
    assert len({*first.seeds}) == 2
    torch.testing.assert_close(first.gradients, second.gradients, rtol=0, atol=0)
    assert not torch.equal(*first.gradients)


@pytest.mark.parametrize(
    "kind", [Newton(1.0, LEADING), BootstrapNewton(LEADING), LanczosNewton(1.0, 3, Start.RANDOM)]
)
@pytest.mark.parametrize("size", [float("inf"), 1e160])
def test_what_is_not_finite_has_diverged(kind, size):
    """Outputs, or the squares of something."""
    batch = instance("values", nn.Linear(4, 5), nn.Identity())
    with torch.no_grad():
        next(batch.model.parameters()).fill_(size)
    with pytest.raises(
        DivergedError, match=r"(loss or its gradient|step|curvature) is not finite"
    ):
        kind.of(batch.model, RATE).step(batch)


def test_other_errors_are_told():
    batch = instance()
    with pytest.raises(InputError, match="damping must be finite and not negative"):
        Newton(-1.0, ALL).of(batch.model, RATE).step(batch)


def test_what_mixes_samples_is_refused():
    batch = instance("classes", nn.Linear(4, 5), nn.BatchNorm1d(5))
    with pytest.raises(UnsupportedError, match="samples"):
        Newton(1.0, ALL).of(batch.model, RATE).step(batch)
