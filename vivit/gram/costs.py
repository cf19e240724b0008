"""What the matrices of some blocks will cost, what is affordable, and what would be instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from vivit.curvature import Curvature
from vivit.devices import traits
from vivit.gram.forms import Form
from vivit.gram.memory import Room, check_fits
from vivit.gram.plan import Plan
from vivit.gram.precision import is_affordable, is_small
from vivit.gram.prediction import make_plan
from vivit.gram.spectrum import EIGENVECTOR_COPIES
from vivit.gram.spread import spread_bytes
from vivit.gram.travel import travel_of
from vivit.layers.sizes import BatchSizes
from vivit.parameters import group_by_name

TYPICAL_VECTORS = 100
"""Vectors that a Lanczos iteration keeps, or twice as many for a moment."""


class Costs:
    """Plans of the matrices of all blocks, and what follows from them.

    Attributes:
        room: Bytes to work with.
    """

    def __init__(
        self, curvature: Curvature, groups: Mapping[str, Iterable[str]], room: Room
    ) -> None:
        """Plan for some blocks.

        Args:
            curvature: The loss curvature.
            groups: Names of the parameters of each block.
            room: Bytes to work with.
        """
        self._curvature, self._groups, self.room = curvature, groups, room
        self._has_products = True
        self._last: tuple[tuple[object, ...], Plan] | None = None  # asked for again at once

    def do_without_products(self) -> None:
        """Plan no products with ``G`` from now on: the model has none."""
        self._has_products = False

    def plan(self, solver_copies: int = 0, double: bool = False, whole: str | None = None) -> Plan:
        """What the matrices of all blocks will cost.

        Args:
            solver_copies: Matrices that the eigensolver will hold beside its input.
            double: Whether they are in double precision.
            whole: A block whose Gram matrix is wanted, whatever its size, and nothing else.

        Returns:
            The plan.
        """
        sizes, has_products = self._sizes, self._has_products
        asked = (solver_copies, double, whole, has_products, self.room.available, *sizes)
        if self._last is None or self._last[0] != asked:
            self._last = asked, self._made(sizes, solver_copies, double, whole)
        return self._last[1]

    def _made(
        self, sizes: Sequence[BatchSizes], solver_copies: int, double: bool, whole: str | None
    ) -> Plan:
        """A plan, made anew."""
        curvature, element_size = self._curvature, 8 if double else None
        groups = self._groups if whole is None else {whole: self._groups[whole]}
        plan = self._plan(
            sizes, groups, solver_copies, element_size, whole is not None, curvature.num_columns
        )
        return plan if curvature.ranks.size == 1 else self._with_travel(plan, groups, element_size)

    @property
    def _sizes(self) -> list[BatchSizes]:
        """Of the batches of one rank: of the one with the most, so that all plan alike."""
        shares = self._curvature.shares
        if not shares:
            return self._curvature.sizes
        return max(shares, key=lambda sizes: sum(x.samples * x.columns for x in sizes))

    def _with_travel(
        self, plan: Plan, groups: Mapping[str, Iterable[str]], element_size: int | None
    ) -> Plan:
        """The same with what other ranks add to the work, and what is sent."""
        curvature, size = self._curvature, element_size or self._curvature.like.element_size()
        own = sum(x.samples * x.columns for x in self._sizes)
        of_grams = {name for x in plan.matrices if x.form is Form.GRAM for name in groups[x.group]}
        layers = tuple(
            replace(x, flops=x.flops * plan.num_columns / own)
            if of_grams.intersection(x.parameters)
            else x
            for x in plan.layers
        )
        samples = sum(x.samples for sizes in curvature.shares for x in sizes)
        planned = replace(plan, layers=layers, num_samples=samples)
        travel = travel_of(
            planned,
            curvature.ranks.rank,
            curvature.shares,
            {group: {*names} for group, names in groups.items()},
            {name: p.numel() for name, p in curvature.parameters.items()},
            size,
            curvature.kind.is_centered,
        )
        return replace(planned, travel=travel)

    def spread_plan(self, group: str) -> Plan:
        """What the Gram matrix of a single block costs, if its own blocks stay on each rank.

        With the vectors of a Lanczos iteration, in place of an eigensolver.

        Args:
            group: The block.
        """
        curvature, element_size = self._curvature, self._curvature.like.element_size()
        vectors = 2 * TYPICAL_VECTORS * curvature.num_columns * element_size
        return replace(
            self.plan(whole=group),
            matrix_bytes=spread_bytes(curvature.columns_of_ranks, element_size),
            solver_bytes=vectors,
        )

    def plan_of_few(self, group: str, samples: int) -> Plan:
        """What eigenvectors of a single block will cost, of the first samples with curvature."""
        few = [self._curvature.sizes[0].of_samples(samples)]
        groups = {group: self._groups[group]}
        return self._plan(few, groups, EIGENVECTOR_COPIES, whole=True)

    def fitting_plan(
        self, solver_copies: int, double: bool = False, whole: str | None = None
    ) -> Plan:
        """The `plan`, of what fits.

        Raises:
            InsufficientMemoryError: It does not.
        """
        plan = self.plan(solver_copies, double, whole)
        self.check_fits(plan, solver_copies)
        return plan

    def check_fits(self, plan: Plan, solver_copies: int = 0) -> None:
        """Refuse what does not fit.

        Args:
            plan: What it costs.
            solver_copies: Matrices that the eigensolver holds beside its input.

        Raises:
            InsufficientMemoryError: It needs more than there is.
        """
        check_fits(plan, self.room.available, lambda: self._smaller_plans(solver_copies))

    def fits(self, plan: Plan) -> bool:
        """Whether there is memory enough, as far as is known."""
        available = self.room.available
        return available is None or plan.peak_bytes <= available

    def is_small(self, plan: Plan) -> bool:
        """Whether what a plan in double precision says is cheap: see `precision.is_small`."""
        return is_small(plan, self.room.workspace, self.room.available)

    def may_be_double(self, solver_copies: int, small: bool) -> bool:
        """Whether the matrices may be made in double precision.

        Args:
            solver_copies: Matrices that the eigensolver will hold beside its input.
            small: Whether only if that is cheap; else if weak directions are worth it.

        Returns:
            Whether they may.
        """
        plan = self.plan(solver_copies, double=True)
        if not is_affordable(plan, self.room.available):
            return False
        return not small or self.is_small(plan)

    def _smaller_plans(self, solver_copies: int) -> Iterator[tuple[str, Plan]]:
        """What may be done with less memory."""
        curvature, groups = self._curvature, self._groups
        sizes = self._sizes
        n = 1 if curvature.sampling.has_units else curvature.num_curvature_samples
        while n > 1:
            n //= 2
            few = [sizes[0].of_samples(n)]
            some = self._plan(few, groups, solver_copies)
            yield f"{n} samples, or subset=range({n})", some
        if curvature.kind.may_be_sampled:
            per_sample = curvature.places.most  # columns; units have several times as many
            single = [x.with_columns(max(x.columns // per_sample, 1)) for x in sizes]
            yield "MonteCarlo(samples=1)", self._plan(single, groups, solver_copies)
        if solver_copies == EIGENVECTOR_COPIES:
            yield "method=Lanczos(), for the k largest", self._without_matrices(TYPICAL_VECTORS)
        yield "products, ggn @ v or scipy's solvers on ggn.to_scipy()", self._without_matrices(2)
        if len(groups) == 1:
            layers = group_by_name(curvature.parameters, "layer")
            blocks = self._plan(sizes, layers, solver_copies)
            yield 'block_diagonal(groups="layer")', blocks

    def _without_matrices(self, count: int) -> Plan:
        """What products cost: nothing is kept but some vectors."""
        plan = self.plan()
        layers = tuple(replace(x, kept_bytes=0, working_bytes=0) for x in plan.layers)
        vectors = count * plan.num_columns * self._curvature.like.element_size()
        return replace(
            plan, layers=layers, matrix_bytes=vectors, solver_bytes=0, columns_at_once=1
        )

    def _plan(
        self,
        sizes: Sequence[BatchSizes],
        groups: Mapping[str, Iterable[str]],
        solver_copies: int,
        element_size: int | None = None,
        whole: bool = False,
        of_all: int | None = None,
    ) -> Plan:
        parameters, like = self._curvature.parameters, self._curvature.like
        entries = {
            group: {name: parameters[name].numel() for name in names}
            for group, names in groups.items()
        }
        return make_plan(
            sizes,
            entries,
            element_size or like.element_size(),
            self.room.workspace,
            solver_copies,
            self.room.available,
            busy=traits(like.device).busy,
            overhead=traits(like.device).overhead,
            whole=whole,
            has_products=self._has_products,
            of_all=of_all,
        )
