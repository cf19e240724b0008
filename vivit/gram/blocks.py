"""The matrices of all blocks of a curvature, which share their forward and backward passes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from time import perf_counter

import torch
from torch import Tensor

from vivit.curvature import Curvature
from vivit.errors import UnsupportedError
from vivit.gram.centering import center_outer
from vivit.gram.costs import Costs
from vivit.gram.forms import SWEPT, Form
from vivit.gram.matrices import accumulated, group_matrices
from vivit.gram.memory import Room
from vivit.gram.outer import outer_matrices
from vivit.gram.plan import Done, Plan
from vivit.gram.products import matrix_by_products
from vivit.gram.share import Share
from vivit.gram.spectrum import GroupMatrix, OuterMatrix
from vivit.gram.spread import SpreadMatrix
from vivit.layers.sizes import runs_of
from vivit.progress import PASS


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
        self._made: dict[str, GroupMatrix | OuterMatrix] | None = None
        self._forms: dict[str, Form] = {}
        self._spread: dict[str, SpreadMatrix] = {}
        self._seconds = 0.0

    @property
    def are_made(self) -> bool:
        """Whether nothing is left to be done, in one precision or the other."""
        return self._made is not None

    def of_block(
        self, group: str, solver_copies: int = 0, double: bool = False
    ) -> GroupMatrix | OuterMatrix:
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
            started = perf_counter()
            self._made = self._make(solver_copies, double)
            self._seconds = perf_counter() - started
            self.has_double = double
        return self._made[group]

    def plan(self, solver_copies: int) -> Plan:
        """What the matrices will cost; or did, and how, once they are made.

        Args:
            solver_copies: Matrices that the eigensolver will hold beside its input.
        """
        plan = self.costs.plan(solver_copies, self.has_double)
        if self._made is None:
            return plan
        multiplied = {
            name: "products"
            for group, form in self._forms.items()
            if form is Form.PRODUCTS
            for name in self.groups[group]
        }
        found = self.curvature.served_by
        names = (name for members in self.groups.values() for name in members)
        other = "unused" if self.curvature.batches else "on other ranks"
        served_by = {name: (multiplied | found).get(name, other) for name in names}
        return replace(plan, done=Done(served_by, self._seconds))

    def gram_of(self, group: str) -> Tensor:
        """The Gram matrix of a block, a tensor of its own; it is made anew if it is not at hand.

        Args:
            group: The block.

        Raises:
            InsufficientMemoryError: It would not fit.
        """
        if self.form_of(group) in SWEPT:
            matrix = self.of_block(group)
            assert isinstance(matrix, GroupMatrix)
            return matrix.gram_matrix()
        self.curvature.check_fresh()
        plan = self.costs.fitting_plan(solver_copies=0, whole=group)
        with self._sweeping(plan):
            found = self._gram_matrices(plan, {group: self.groups[group]}, whole=True)
        return found[group].gram_matrix()

    def spread_of(self, group: str) -> SpreadMatrix:
        """The Gram matrix of a block, of which each rank has the blocks that it computes.

        Args:
            group: The block.

        Raises:
            InsufficientMemoryError: These would not fit.
        """
        self.curvature.check_fresh()
        if group not in self._spread:
            plan, curvature = self.costs.spread_plan(group), self.curvature
            self.costs.check_fits(plan)
            sizes = [samples * columns for samples, columns in self._runs]
            with self._sweeping(plan):
                (matrix,) = accumulated(
                    lambda: [SpreadMatrix(self.groups[group], sizes, curvature.like, self._share)],
                    curvature.carrying,
                    self._runs,
                    curvature.like,
                    self.costs.room.workspace,
                    plan,
                    self._advance,
                    self._share,
                )
            self._spread[group] = matrix.finished()
        return self._spread[group]

    @property
    def _share(self) -> Share:
        return Share.of(self.curvature)

    def form_of(self, group: str) -> Form:
        """What is formed for a block, or was: in double precision, it may be something else."""
        if self._made is not None:
            return self._forms[group]
        matrices = self.costs.plan().matrices
        return next(matrix.form for matrix in matrices if matrix.group == group)

    def may_be_double(self, solver_copies: int, small: bool) -> bool:
        """As `Costs.may_be_double`, unless they are already."""
        return self.has_double or self.costs.may_be_double(solver_copies, small)

    def _make(self, solver_copies: int, double: bool) -> dict[str, GroupMatrix | OuterMatrix]:
        """All matrices, each in the form that is planned."""
        curvature, plan = self.curvature, self.costs.fitting_plan(solver_copies, double)
        self._forms = {matrix.group: matrix.form for matrix in plan.matrices}
        swept, summed, multiplied = (
            {group: self.groups[group] for group, form in self._forms.items() if form in forms}
            for forms in (SWEPT, (Form.SUM,), (Form.PRODUCTS,))
        )
        found: dict[str, GroupMatrix | OuterMatrix] = {}
        dtype = torch.float64 if double else None
        with self._sweeping(plan):
            if swept:
                keep = double and self.costs.is_small(plan)
                found |= self._gram_matrices(plan, swept, dtype, keep)
            if summed:
                found |= outer_matrices(
                    curvature.carrying,
                    curvature.parameters,
                    summed,
                    self.costs.room.workspace,
                    plan,
                    self._advance,
                    dtype,
                    curvature.ranks,
                )
        for group, names in multiplied.items():
            parameters = {name: curvature.parameters[name] for name in names}
            try:
                with curvature.progress.stage("products", total=len(curvature.batches)):
                    with curvature.ranks.telling("products"):
                        found[group] = matrix_by_products(curvature, parameters)
            except UnsupportedError:  # what has no products has columns
                self.costs.do_without_products()
                return self._make(solver_copies, double)
        if curvature.kind.is_centered:  # Gram matrices and columns have been
            for group, matrix in found.items():
                if isinstance(matrix, OuterMatrix):
                    found[group] = center_outer(matrix, curvature, self.groups[group])
        return found

    def _sweeping(self, plan: Plan) -> AbstractContextManager[None]:
        """Show the backward passes of a plan, if there are any."""
        curvature, sweeps = self.curvature, len(plan.sweeps) + bool(plan.summed)
        if not sweeps:
            return nullcontext()
        passes = sweeps * sum(sizes.columns for sizes in curvature.sizes)
        return curvature.progress.stage("backward passes", PASS, passes)

    def _advance(self, count: int) -> None:
        self.curvature.progress.advance(PASS, count)

    def _gram_matrices(
        self,
        plan: Plan,
        groups: Mapping[str, list[str]],
        dtype: torch.dtype | None = None,
        keep: bool = False,
        whole: bool = False,
    ) -> dict[str, GroupMatrix]:
        curvature = self.curvature
        return group_matrices(
            curvature.carrying,
            self._runs,
            curvature.parameters,
            groups,
            self.costs.room.workspace,
            plan,
            dtype,
            keep,
            whole,
            curvature.kind.is_centered,
            self._advance,
            self._share,
        )

    @property
    def _runs(self) -> list[tuple[int, int]]:
        """Samples with curvature, and columns of each, of runs of batches whose layers agree."""
        return [(run.samples, run.columns) for run in runs_of(self.curvature.sizes)]
