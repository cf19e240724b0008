"""Steps on a quadratic whose gradient and curvature are seen through noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.experiments.base import Computation, Job, Request, Scale, ok
from benchmarks.records.label import Label
from benchmarks.records.record import Quantity
from benchmarks.run.cells import Cell
from benchmarks.run.journal import Answer
from vivit import BootstrapDamping, DirectionalDerivatives

PROBLEM = "noisy_quadratic"

SLOPE_VARIANCE, CURVATURE_VARIANCE = 5000.0, 50.0
"""Of a single sample, in every direction, as in the published experiment code."""

SAMPLES = 128
"""Of which a step sees the derivatives, as in the published experiment code."""

LEARNING_RATE = 1e-3
"""Of gradient descent, as in the published experiment code; from 0.005 on it would diverge."""

DAMPINGS = tuple(10.0**power for power in range(-4, 3))

Step = Callable[[DirectionalDerivatives], tuple[Tensor, Tensor]]
"""Maps the derivatives that were seen to the step along each direction and to its dampings."""

QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class NoisyQuadratic:
    """The loss ``sum_i i^2 x_i^2 / 2``, with noisy derivatives along its eigenvectors.

    The eigenvectors are the coordinate axes. Slopes have normal noise. Curvatures follow a gamma
    distribution, so that they stay positive. Both are unbiased, of constant variance.

    Attributes:
        dimension: Number of parameters.
        start: Of every coordinate.
        steps: Of a run.
    """

    dimension: int = 20
    start: float = 100.0
    steps: int = 20

    @property
    def curvature(self) -> Tensor:
        """The eigenvalues, ascending."""
        return torch.arange(1, self.dimension + 1, dtype=torch.float64).square()

    def loss(self, x: Tensor) -> float:
        """The loss without noise."""
        return float((self.curvature * x.square()).sum() / 2)

    def derivatives(self, x: Tensor, generator: torch.Generator) -> DirectionalDerivatives:
        """What a mini-batch shows at a point.

        Args:
            x: Shape ``[D]``.
            generator: Of the noise.

        Returns:
            First and second derivatives, shape ``[N, D]``.
        """
        size = (SAMPLES, self.dimension)
        noise = torch.randn(size, dtype=torch.float64, generator=generator)
        slopes = self.curvature * x + SLOPE_VARIANCE**0.5 * noise
        shape = self.curvature.square() / CURVATURE_VARIANCE  # mean^2 over variance
        drawn = torch._standard_gamma(shape.expand(size), generator=generator)
        return DirectionalDerivatives(slopes, drawn * CURVATURE_VARIANCE / self.curvature)

    def run(self, step: Step, seed: int) -> Run:
        """Take steps from the start.

        Args:
            step: The optimizer.
            seed: Of the noise, which is the same for every optimizer as long as they are at the
                same point.

        Returns:
            What became of it.
        """
        generator = torch.Generator().manual_seed(seed)
        x = torch.full((self.dimension,), self.start, dtype=torch.float64)
        run = Run([self.loss(x)])
        for _ in range(self.steps):
            move, damping = step(self.derivatives(x, generator))
            x = x + move
            run.losses.append(self.loss(x))
            run.dampings.append((damping / self.curvature).tolist())
        run.distance = float(x.norm())
        return run


@dataclass
class Run:
    """A run of an optimizer.

    Attributes:
        losses: Before and after each step.
        dampings: Of each step and direction, relative to its curvature.
        distance: From the minimum, in the end.
    """

    losses: list[float]
    dampings: list[list[float]] = field(default_factory=list)
    distance: float = 0.0


def gradient_descent(derivatives: DirectionalDerivatives) -> tuple[Tensor, Tensor]:
    """A step of constant length per slope; its damping is what a Newton step would need for it."""
    slopes, curvatures = derivatives.gammas.mean(0), derivatives.lambdas.mean(0)
    return -LEARNING_RATE * slopes, 1 / LEARNING_RATE - curvatures


def newton(damping: float | BootstrapDamping) -> Step:
    """A damped Newton step.

    Args:
        damping: The same for all directions; or a rule.

    Returns:
        The step along each direction.
    """

    def step(derivatives: DirectionalDerivatives) -> tuple[Tensor, Tensor]:
        slopes, curvatures = derivatives.gammas.mean(0), derivatives.lambdas.mean(0)
        if isinstance(damping, BootstrapDamping):
            chosen = damping(curvatures, derivatives)
        else:
            chosen = torch.full_like(curvatures, damping)
        return -slopes / (curvatures + chosen), chosen

    return step


class NoisyQuadraticExperiment(Computation):
    """Gradient descent, constant dampings and bootstrap damping against each other."""

    name = "noisy-quadratic"
    label = Label("noisy quadratic")
    description = "does a damping chosen from the noise of each direction make better steps?"
    published = (
        "D = 20, curvatures i^2, 20 steps from 100 in every coordinate, 100 runs; gradient "
        "descent, constant dampings, bootstrap damping on a grid of 100 dampings from 1e-3 to 100"
    )
    scaled = "Nothing: it takes seconds."
    on_own = False
    is_small = True

    def jobs(self, request: Request) -> list[Job]:
        """One for each optimizer."""
        runs = 5 if request.scale is Scale.SMOKE else 100
        return [
            self._job(name, step, runs, request.seed)
            for name, step in {
                "gradient_descent": gradient_descent,
                **{f"damping_{damping:g}": newton(damping) for damping in DAMPINGS},
                "bootstrap": newton(BootstrapDamping(seed=request.seed)),
            }.items()
        ]

    def _job(self, name: str, step: Step, runs: int, seed: int) -> Job:
        problem = NoisyQuadratic()
        parameters = {
            "dimension": problem.dimension,
            "steps": problem.steps,
            "runs": runs,
            "batch_size": SAMPLES,
            "slope_variance": SLOPE_VARIANCE,
            "curvature_variance": CURVATURE_VARIANCE,
            "dtype": "float64",
            "seed": seed,
            "data": "synthetic",
        }
        cell = self.cell(PROBLEM, name, Quantity.DISTANCE, parameters)

        def run() -> Mapping[Cell, Answer]:
            made = [problem.run(step, seed * runs + index) for index in range(runs)]
            return {cell: summarized(made)}

        return Job(f"{self.name}: {name}", (cell,), run)


def summarized(runs: Sequence[Run]) -> Answer:
    """Final distances, and what the losses and dampings were on the way.

    Args:
        runs: Of one optimizer.

    Returns:
        The distances; mean and quartiles of the loss before and after each step; for each step
        the median relative damping of each direction.
    """
    losses = torch.tensor([run.losses for run in runs], dtype=torch.float64)
    dampings = torch.tensor([run.dampings for run in runs], dtype=torch.float64)
    low, median, high = (losses.quantile(q, dim=0).tolist() for q in QUARTILES)
    return ok(
        [run.distance for run in runs],
        mean_loss=losses.mean(0).tolist(),
        lower_quartile=low,
        median_loss=median,
        upper_quartile=high,
        dampings_by_step=dampings.median(0).values.tolist(),
    )


EXPERIMENT = NoisyQuadraticExperiment()
