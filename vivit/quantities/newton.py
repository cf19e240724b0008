"""Damped Newton steps in the eigenspace of the GGN, and rules for the damping.

Source: Dangel, Tatzel, Hennig, "ViViT", TMLR 2022, section 3.3 and appendix on damping.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vivit.errors import InputError
from vivit.quantities.directional import DirectionalDerivatives

DampingRule = Callable[[Tensor, DirectionalDerivatives], Tensor]
"""Maps eigenvalues ``[K]`` and directional derivatives to dampings, ``[K]`` or a scalar."""

Damping = float | DampingRule


def _default_grid() -> Tensor:
    return torch.logspace(-3, 2, 100, dtype=torch.float64)


@dataclass(frozen=True)
class BootstrapDamping:
    """The damping with the best lower percentile of the predicted loss reduction.

    Along direction ``k``, the step ``tau = -gamma / (lambda + delta)`` changes the quadratic model
    by ``gamma' tau + lambda' tau^2 / 2``, where ``gamma'`` and ``lambda'`` are means over a
    resample of the samples. Of all dampings of the grid, the one is chosen whose reduction is the
    largest at the given percentile over the resamples.

    Attributes:
        grid: Dampings to choose from, ascending.
        resamples: Number of bootstrap resamples.
        percentile: Of the predicted loss reduction, between 0 and 100.
        seed: Of the resampling.
    """

    grid: Tensor = field(default_factory=_default_grid)
    resamples: int = 100
    percentile: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.grid.ndim != 1 or not len(self.grid) or (self.grid <= 0).any():
            raise InputError("The grid of dampings must be a vector of positive numbers.")
        if self.resamples < 1:
            raise InputError(f"Bootstrap needs at least one resample, got {self.resamples}.")
        if not 0 <= self.percentile <= 100:
            raise InputError(f"The percentile must be in [0, 100], got {self.percentile}.")

    def __call__(self, values: Tensor, derivatives: DirectionalDerivatives) -> Tensor:
        """Choose a damping for every direction.

        Args:
            values: Eigenvalues, shape ``[K]``.
            derivatives: Of the same directions.

        Returns:
            Shape ``[K]``.
        """
        if not len(values):  # no curvature at all
            return values
        generator = torch.Generator().manual_seed(self.seed)
        gammas, lambdas = derivatives.gammas.double(), derivatives.lambdas.double()
        grid = self.grid.to(gammas)
        gamma = self._resampled_means(gammas, generator)
        lambda_ = self._resampled_means(lambdas, generator)
        tau = -gammas.mean(dim=0) / (lambdas.mean(dim=0) + grid[:, None])  # [grid, K]
        reduction = -(gamma.unsqueeze(1) * tau + 0.5 * lambda_.unsqueeze(1) * tau.square())
        score = reduction.quantile(self.percentile / 100, dim=0)  # [grid, K]
        best = grid[score.argmax(dim=0)]  # for the mean loss; a sum is steeper by a factor
        return (best * values.double() / lambdas.mean(dim=0)).to(values)

    def _resampled_means(self, samples: Tensor, generator: torch.Generator) -> Tensor:
        """Means over resamples of the rows, shape ``[resamples, K]``."""
        n = len(samples)
        index = torch.randint(n, (self.resamples, n), generator=generator).to(samples.device)
        counts = torch.zeros(self.resamples, n, dtype=samples.dtype, device=samples.device)
        counts.scatter_add_(1, index, torch.ones_like(index, dtype=samples.dtype))
        return counts @ samples / n


def dampings(damping: Damping, values: Tensor, derivatives: DirectionalDerivatives) -> Tensor:
    """Evaluate a damping.

    Args:
        damping: A number, or a rule.
        values: Eigenvalues, shape ``[K]``.
        derivatives: Of the same directions.

    Returns:
        Shape ``[K]``.

    Raises:
        InputError: The damping is negative, NaN or of the wrong shape, or a step would be
            infinite.
    """
    chosen = damping(values, derivatives) if callable(damping) else damping
    if isinstance(chosen, bool) or not isinstance(chosen, (int, float, Tensor)):
        raise InputError(f"The damping must be a number or a tensor, got {type(chosen).__name__}.")
    result = torch.as_tensor(chosen, dtype=values.dtype, device=values.device)
    if result.ndim and result.shape != values.shape:
        raise InputError(
            f"The damping must be a number or of shape {list(values.shape)}, one per direction, "
            f"got {list(result.shape)}."
        )
    result = result.expand(values.shape)
    if not (result.isfinite().all() and (result >= 0).all()):
        raise InputError("The damping must be finite and not negative.")
    return result
