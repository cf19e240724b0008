"""Factors of units: what the model keeps apart, such as sequences of which each token is a sample.

The samples of a unit may depend on each other. So the columns of all of them are columns of the
unit, ordered by sample, and their cotangents are zero for its other samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vivit.losses.factor import HessianFactor
from vivit.losses.rows import Rows


@dataclass(frozen=True)
class UnitFactor:
    """``S`` of some units; the ``N`` of a `HessianFactor` is their number ``U``.

    Attributes:
        factor: Of the samples, unit by unit; each unit has as many.
        rows: How samples lie in the outputs.
        shape: Of the outputs, ``(U, *out)``.
        chosen: Indices of those samples of a single unit that have columns; None for all.
    """

    factor: HessianFactor
    rows: Rows
    shape: tuple[int, ...]
    chosen: Tensor | None = None

    @property
    def num_samples(self) -> int:
        """``U``."""
        return self.shape[0]

    @property
    def _per_unit(self) -> int:
        """Samples of a unit that have columns."""
        return self.factor.num_samples // self.num_samples

    @property
    def num_columns(self) -> int:
        """Those of a unit's samples, one behind the other."""
        return self._per_unit * self.factor.num_columns

    def columns(self, some: slice) -> Tensor:
        """Each is zero at all samples but one."""
        size = self.factor.num_columns
        first, last = some.start // size, -(-some.stop // size)
        pieces = [
            self._columns_of(i, max(some.start - i * size, 0), min(some.stop - i * size, size))
            for i in range(first, last)
        ]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)

    def _columns_of(self, i: int, start: int, stop: int) -> Tensor:
        """Columns of the i-th sample of each unit, shape ``[U, c, *out]``."""
        units, place = self.num_samples, i if self.chosen is None else int(self.chosen[i])
        index = torch.arange(units) * self._per_unit + i
        found = self.factor.of_samples(index).columns(slice(start, stop))
        embedded = found.new_zeros(units, stop - start, self._samples, *found.shape[2:])
        embedded[:, :, place] = found
        return self.rows.join(embedded.flatten(0, 2), (units, stop - start, *self.shape[1:]))

    @property
    def _samples(self) -> int:
        """Of a unit, with or without columns."""
        return self.rows.count(self.shape) // self.num_samples

    def spread(self, x: Tensor) -> Tensor:
        """``S_n x_n`` of all samples: from as many numbers as columns, of any shape."""
        found = self.factor.spread(x.reshape(-1, self.factor.num_columns))
        if self.chosen is not None:
            everyone = found.new_zeros(self._samples, *found.shape[1:])
            found = everyone.index_copy_(0, self.chosen, found)
        return self.rows.join(found, self.shape)

    def contract(self, u: Tensor) -> Tensor:
        """``S_n^T u_n`` of all samples, shape ``[U, C]``."""
        rows = self.rows.split(u)
        rows = rows if self.chosen is None else rows[self.chosen]
        return self.factor.contract(rows).reshape(self.num_samples, -1)

    def of_samples(self, samples: Tensor) -> UnitFactor:
        """The factors of some units."""
        within = torch.arange(self._per_unit, device=samples.device)
        index = (samples[:, None] * self._per_unit + within).flatten()
        shape = len(samples), *self.shape[1:]
        return replace(self, factor=self.factor.of_samples(index), shape=shape)

    def scaled(self, scale: float) -> UnitFactor:
        """Scaled factors of the samples."""
        return replace(self, factor=self.factor.scaled(scale))
