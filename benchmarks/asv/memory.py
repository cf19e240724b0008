"""Peak memory of a whole process, in bytes: asv's `peakmem_`, with imports, model and data.

It counts what `setup` does, too: so nothing is checked here. The speed of the same points is, and
`tracked.py` has the bytes of tensors alone.
"""

from __future__ import annotations

from typing import Any

from benchmarks.asv.base import Suite, skipping
from benchmarks.asv.tracked import WHOLE
from benchmarks.grid.points import GRIDS


class Eigenvalues(Suite):
    """All eigenvalues of the exact GGN."""

    grid = WHOLE

    def peakmem_eigenvalues(self, *_: Any) -> None:
        """One spectrum."""
        skipping(self._measured.prepare())


class NewtonStep(Suite):
    """Damped Newton steps."""

    grid = GRIDS["newton"]

    def peakmem_newton_step(self, *_: Any) -> None:
        """One step."""
        skipping(self._measured.prepare())
