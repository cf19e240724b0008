"""Run times of the library, in seconds."""

from __future__ import annotations

from typing import Any

from benchmarks.asv.base import TimedSuite
from benchmarks.grid.points import GRIDS


class Eigenvalues(TimedSuite):
    """All eigenvalues: variants and groupings."""

    grid = GRIDS["eigenvalues"]

    def time_eigenvalues(self, *_: Any) -> None:
        """One spectrum, from the forward pass on."""
        self.run()


class Eigenpairs(TimedSuite):
    """Leading eigenvalues and eigenvectors."""

    grid = GRIDS["leading"]

    def time_eigenpairs(self, *_: Any) -> None:
        """The pairs, from the forward pass on."""
        self.run()


class Derivatives(TimedSuite):
    """Directional derivatives per sample."""

    grid = GRIDS["derivatives"]

    def time_directional_derivatives(self, *_: Any) -> None:
        """First and second ones along leading eigenvectors, from the forward pass on."""
        self.run()


class NewtonStep(TimedSuite):
    """Damped Newton steps."""

    grid = GRIDS["newton"]

    def time_newton_step(self, *_: Any) -> None:
        """One step, from the forward pass on."""
        self.run()
