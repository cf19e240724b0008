"""The noisy quadratic: its noise by its moments, its steps by hand."""

from dataclasses import replace

import pytest
import torch

from benchmarks.experiments.noisy_quadratic import (
    CURVATURE_VARIANCE,
    LEARNING_RATE,
    SAMPLES,
    SLOPE_VARIANCE,
    NoisyQuadratic,
    gradient_descent,
    newton,
)
from vivit import BootstrapDamping, DirectionalDerivatives


def test_noise_is_as_the_protocol_says():
    """Unbiased, of constant variance; curvatures stay positive."""
    problem, x = NoisyQuadratic(), torch.linspace(-1, 1, 20).double()
    generator = torch.Generator().manual_seed(0)
    seen = [problem.derivatives(x, generator) for _ in range(400)]
    slopes = torch.cat([derivatives.gammas for derivatives in seen])
    curvatures = torch.cat([derivatives.lambdas for derivatives in seen])
    count = len(slopes)
    assert count == 400 * SAMPLES
    for samples, mean, variance in (
        (slopes, problem.curvature * x, SLOPE_VARIANCE),
        (curvatures, problem.curvature, CURVATURE_VARIANCE),
    ):
        deviation = (variance / count) ** 0.5
        assert ((samples.mean(0) - mean).abs() < 5 * deviation).all()
    heavy = 3  # first curvatures, whose tails are: their variances are harder to see
    for samples, variance in (
        (slopes, SLOPE_VARIANCE),
        (curvatures[:, heavy:], CURVATURE_VARIANCE),
    ):
        spread = samples.var(0)
        torch.testing.assert_close(spread, torch.full_like(spread, variance), rtol=0.1, atol=0)
    assert (curvatures > 0).all()


def test_steps_without_noise(monkeypatch):
    """A Newton step with damping d leaves d / (lambda + d) of each coordinate."""
    problem = NoisyQuadratic(dimension=3, start=2.0, steps=2)

    def exact(self, x, generator):
        seen = (self.curvature * x, self.curvature)
        return DirectionalDerivatives(*(values.repeat(4, 1) for values in seen))

    monkeypatch.setattr(NoisyQuadratic, "derivatives", exact)
    curvature = problem.curvature
    run = problem.run(newton(2.0), seed=0)
    end = 2.0 * (2.0 / (curvature + 2.0)) ** 2
    assert run.distance == pytest.approx(float(end.norm()))
    assert run.losses == pytest.approx(
        [problem.loss(2.0 * (2.0 / (curvature + 2.0)) ** n) for n in range(3)]
    )
    assert run.dampings[0] == pytest.approx((2.0 / curvature).tolist())
    descended = problem.run(gradient_descent, seed=0)
    end = 2.0 * (1 - LEARNING_RATE * curvature) ** 2
    assert descended.distance == pytest.approx(float(end.norm()))
    smallest = problem.run(newton(BootstrapDamping()), seed=0).dampings[0]
    assert smallest == pytest.approx((1e-3 / curvature).tolist())  # nothing to be damped


def test_noise_is_the_same_for_all_optimizers_at_the_start():
    problem = replace(NoisyQuadratic(), steps=1)
    seen = []

    def spy(derivatives):
        seen.append(derivatives)
        return gradient_descent(derivatives)

    for _ in range(2):
        problem.run(spy, seed=5)
    assert torch.equal(seen[0].gammas, seen[1].gammas)
    assert torch.equal(seen[0].lambdas, seen[1].lambdas)
