"""The curvature of a batch whose samples share units: see `Sampling`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from vivit.batches import BatchCurvature, Carrying
from vivit.losses import DenseFactor, HessianFactor
from vivit.losses.rows import Rows
from vivit.losses.units import UnitFactor


@dataclass(frozen=True, kw_only=True)
class UnitCurvature(BatchCurvature):
    """A batch with its autograd graph, of units, which the model keeps apart.

    The outputs are those of units; factors have all columns of a unit; all else is by samples.

    Attributes:
        layout: How samples lie in the outputs.
    """

    layout: Rows

    def by_samples(self, u: Tensor) -> Tensor:
        """From the shape of the model's output to ``[N, *out]``."""
        return self.layout.split(u)

    def _by_units(self, rows: Tensor) -> Tensor:
        return self.layout.join(rows, self.linearization.output.shape)

    @property
    def output(self) -> Tensor:
        """As if samples were all that there is, shape ``[N, *out]``."""
        return self.by_samples(self.linearization.output)

    @property
    def target(self) -> Any:
        """Beside it."""
        return self.layout.targets(self.batch.y)

    @property
    def gradient(self) -> Tensor:
        """By the output, in its shape."""
        return self._by_units(self.sample_gradients)

    @property
    def gradient_factor(self) -> HessianFactor:
        """A column of each sample."""
        factor = DenseFactor(self.sample_gradients.unsqueeze(1))
        return UnitFactor(factor, self.layout, self.linearization.output.shape)

    @cached_property
    def factor(self) -> UnitFactor:
        """Those of the samples that carry curvature."""
        shape = self.linearization.output.shape
        return UnitFactor(super().factor, self.layout, shape, self.samples)

    @property
    def carried(self) -> BatchCurvature:
        """All of it: a part of a unit cannot be run."""
        return self

    def carrying(self) -> Carrying:
        """The model and the factor of all units."""
        return self.linearization, self.factor, None

    def multiply(self, u: Tensor) -> Tensor:
        """The loss Hessian, as it is approximated, times ``u`` of the output's shape."""
        found = self.columns.product(self.by_samples(u)) if self.samples is None else None
        if found is None:
            return self.spread(self.contract(u))
        return self._by_units(self.scale**2 * found)

    def contract(self, u: Tensor) -> Tensor:
        """``S^T u``: from the output's shape to ``[U, C]``, the columns of each unit."""
        return self.factor.contract(u)

    def spread(self, coefficients: Tensor) -> Tensor:
        """``S coefficients``: from as many numbers as columns to the output's shape."""
        return self.factor.spread(coefficients)
