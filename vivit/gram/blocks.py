"""The matrices of all blocks of a curvature, which share their forward and backward passes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch

from vivit.curvature import Curvature
from vivit.gram.costs import Costs
from vivit.gram.matrices import group_matrices
from vivit.gram.memory import Room
from vivit.gram.spectrum import GroupMatrix


class BlockMatrices:
    """Matrices of some blocks: all are made when the first is asked for, and kept.

    Attributes:
        curvature: Where the columns come from.
        groups: Names of the parameters of each block.
        costs: What they cost.
        has_double: Whether they have been made in double precision.
    """

    def __init__(self, curvature: Curvature, groups: Mapping[str, list[str]], room: Room) -> None:
        """Make none yet.

        Args:
            curvature: Where the columns come from.
            groups: Names of the parameters of each block.
            room: Bytes to work with.
        """
        self.curvature, self.groups = curvature, groups
        self.costs = Costs(curvature, groups, room)
        self.has_double = False
        self._made: dict[str, GroupMatrix] | None = None

    @property
    def are_made(self) -> bool:
        """Whether nothing is left to be done, in one precision or the other."""
        return self._made is not None

    def of_block(self, group: str, solver_copies: int = 0, double: bool = False) -> GroupMatrix:
        """The matrix of a block; not that of parameters that have changed since.

        Args:
            group: The block.
            solver_copies: Matrices that the eigensolver will hold beside its input.
            double: Whether it must be in double precision; it may be in any case.

        Returns:
            The matrix.

        Raises:
            InsufficientMemoryError: Those of all blocks would not fit.
        """
        self.curvature.check_fresh()
        if self._made is None or double > self.has_double:
            self._made = None  # those in single precision, which are not needed any more
            self._made = self._make(solver_copies, double)
            self.has_double = double
        return self._made[group]

    def may_be_double(self, solver_copies: int, small: bool) -> bool:
        """As `Costs.may_be_double`, unless they are already."""
        return self.has_double or self.costs.may_be_double(solver_copies, small)

    def _make(self, solver_copies: int, double: bool) -> dict[str, GroupMatrix]:
        curvature, plan = self.curvature, self.costs.fitting_plan(solver_copies, double)
        return group_matrices(
            curvature.carrying,
            self._runs,
            curvature.parameters,
            self.groups,
            curvature.columns,
            self.costs.room.workspace,
            plan,
            torch.float64 if double else None,
            keep=double and self.costs.is_small(plan),
        )

    @property
    def _runs(self) -> list[int]:
        """Samples with curvature of each run of batches whose layers agree in their sizes."""
        runs = itertools.groupby(self.curvature.sizes, key=lambda sizes: sizes.of_samples(0))
        return [sum(sizes.samples for sizes in run) for _, run in runs]
