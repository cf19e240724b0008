"""The eigenpairs of a block's Gram matrix: by which way, and in which precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial

from torch import Tensor

from vivit.devices import traits
from vivit.errors import ConvergenceError
from vivit.factor import Factor
from vivit.gram.blocks import BlockMatrices
from vivit.gram.forms import Form
from vivit.gram.plan import Plan
from vivit.gram.precision import has_weak, is_double, may_gain
from vivit.gram.spectrum import (
    EIGENVECTOR_COPIES,
    GramPairs,
    OuterMatrix,
    OuterPairs,
    Pairs,
    rank_cutoff,
)
from vivit.operators import flatten_columns, unflatten_columns
from vivit.progress import Progress
from vivit.quantities.lanczos import (
    Lanczos,
    Multiply,
    is_few,
    leading_of_matrix,
    pairs_of_gram,
)
from vivit.quantities.ritz import Space
from vivit.quantities.selection import Selection
from vivit.quantities.solvers import (
    FullGram,
    Solver,
    SpreadGram,
    cheapest_solver,
    typical_products,
)
from vivit.quantities.start import leading_of_some
from vivit.ranks import Ranks

COPIES = 4
"""Of its eigenvectors that an iteration holds in the end."""


def find_pairs(matrices: BlockMatrices, group: str, factor: Factor, selection: Selection) -> Pairs:
    """Eigenpairs of a block.

    Args:
        matrices: Of all blocks; they are made if they are needed.
        group: The block.
        factor: Its columns.
        selection: Which pairs, and by which way.

    Returns:
        The pairs, ascending; in double precision, where that counts.

    Raises:
        InputError: The selection makes no sense.
        ConvergenceError: Lanczos iteration did not find the pairs.
    """
    dimension, size = factor.shape
    selection.check(min(dimension, size))
    return _agreed(_Search(matrices, group, factor, selection).pairs(), factor.ranks)


def _agreed(pairs: Pairs, ranks: Ranks) -> Pairs:
    """The same pairs on all ranks: signs, and bases of eigenspaces, are arbitrary."""
    if ranks.size == 1:
        return pairs
    own = {field.name: getattr(pairs, field.name) for field in fields(pairs)}
    tensors = {name: x for name, x in own.items() if isinstance(x, Tensor)}
    agreed = ranks.agreed([*tensors.values()], "eigenpairs")
    of_first: Pairs = type(pairs)(**{**own, **dict(zip(tensors, agreed, strict=True))})
    return of_first


@dataclass(frozen=True)
class _Search:
    """The arguments of `find_pairs`."""

    matrices: BlockMatrices
    group: str
    factor: Factor
    selection: Selection

    def pairs(self) -> Pairs:
        """The pairs, by the method that was asked for or the cheapest."""
        method, k = self.selection.method or self._cheapest(), self.selection.k
        if isinstance(method, SpreadGram) and k is not None:
            return self._by_blocks(method, k)
        if isinstance(method, Lanczos) and k is not None:
            return self._by_products(method, k)
        return self._by_decomposition()

    def _cheapest(self) -> Solver:
        k, costs = self.selection.k, self.matrices.costs
        if k is None or k >= min(self.factor.shape) or self.matrices.are_made:
            return FullGram()
        overhead = traits(costs.room.device).overhead
        return cheapest_solver(
            costs.plan(self._copies), k, costs.room.available, overhead, self._spread_plan
        )

    @property
    def _spread_plan(self) -> Callable[[], Plan] | None:
        """Gives that of a Gram matrix in blocks, where there are ranks to have them."""
        (dimension, size), (group, costs) = self.factor.shape, (self.group, self.matrices.costs)
        if self.factor.ranks.size == 1 or dimension <= size or len(self.matrices.groups) > 1:
            return None
        return partial(costs.spread_plan, group)

    def _by_products(self, method: Lanczos, k: int) -> GramPairs:
        with self._progress.stage("Lanczos"):
            return self._in_fitting_space(method, k)

    def _by_blocks(self, method: SpreadGram, k: int) -> GramPairs:
        """By products with a Gram matrix whose blocks lie where they were computed."""
        (_, size), centered = self.factor.shape, self.factor.centered
        matrix = self.matrices.spread_of(self.group)

        def multiply(u: Tensor) -> tuple[Tensor, Tensor]:
            return centered(matrix.multiply(centered(u))), u[:0]

        with self._progress.stage("Lanczos"):
            return pairs_of_gram(self._iterated(method, multiply, size, k, None))

    def _in_fitting_space(self, method: Lanczos, k: int) -> GramPairs:
        """By products with the curvature where these take a run through the data less."""
        some = leading_of_some(self.matrices, self.group, k, method.block)
        if self.matrices.curvature.is_kept:
            return self._by_gram_products(method, k, some)
        fitting = self._fitting_vectors(k)
        if fitting >= method.max_products:
            return self._by_curvature_products(method, k, some)
        if fitting >= 2 * typical_products(k):
            try:
                fewer = replace(method, max_products=fitting)
                return self._by_curvature_products(fewer, k, some)
            except ConvergenceError:  # vectors of the size of the Gram matrix always fit
                pass
        return self._by_gram_products(method, k, some)

    def _by_gram_products(
        self, method: Lanczos, k: int, some: dict[str, Tensor] | None
    ) -> GramPairs:
        (_, size), factor = self.factor.shape, self.factor

        def multiply(u: Tensor) -> tuple[Tensor, Tensor]:
            return factor.multiply_gram(u), u[:0]

        start = None if some is None else factor.contract(some, pulled=True)
        return pairs_of_gram(self._iterated(method, multiply, size, k, start))

    def _by_curvature_products(
        self, method: Lanczos, k: int, some: dict[str, Tensor] | None
    ) -> GramPairs:
        (size, rank), factor = self.factor.shape, self.factor

        def multiply(v: Tensor) -> tuple[Tensor, Tensor]:
            product, image = factor.multiply_curvature(unflatten_columns(v, factor.shapes))
            return flatten_columns(product, factor.shapes), image

        start = None if some is None else flatten_columns(some, factor.shapes)
        found = self._iterated(method, multiply, size, k, start, min(size, rank))
        coefficients = found.images / found.images.norm(dim=0)
        return GramPairs(found.values, coefficients, found.vectors, found.images)

    def _iterated(
        self,
        method: Lanczos,
        multiply: Multiply,
        size: int,
        k: int,
        start: Tensor | None,
        rank: int | None = None,
    ) -> Space:
        """The leading pairs of a matrix; arguments as for `Lanczos.pairs`."""
        return method.pairs(
            multiply,
            size,
            k,
            self.selection.rank_tolerance,
            self.factor.like,
            start,
            rank=rank,
            report=self._progress.describe,
        )

    @property
    def _progress(self) -> Progress:
        return self.matrices.curvature.progress

    def _fitting_vectors(self, k: int) -> int:
        """Vectors of the size of the parameters that an iteration may keep.

        Half of them, for they are moved when there are more, beside those that are its result.
        """
        available, factor = self.matrices.costs.room.available, self.factor
        if available is None:
            return 0
        size, _ = factor.shape
        return available // (2 * size * factor.like.element_size()) - COPIES * k

    def _by_decomposition(self) -> Pairs:
        """It is repeated in double precision if weak pairs are kept.

        So it is at once where all are kept, or where that costs little anyway.
        """
        like, selection, (dimension, size) = self.factor.like, self.selection, self.factor.shape
        gains = may_gain(like) and dimension > size
        double = gains and bool(self._copies) and self._may_be_double(not selection.is_all)
        pairs = self._decomposed(double)
        places = selection.places(pairs.values.to(like.dtype))
        kept: Pairs = pairs.from_largest(places)
        is_enough = is_double(pairs.values.dtype) or not has_weak(kept.values, pairs.values)
        if not gains or is_enough or not self._may_be_double(small=False):
            return kept
        return self._decomposed(double=True).from_largest(places)

    def _may_be_double(self, small: bool) -> bool:
        return self.matrices.may_be_double(EIGENVECTOR_COPIES, small)

    def _decomposed(self, double: bool) -> Pairs:
        """All pairs of the block's matrix, or only the ``k`` largest, if these are few."""
        k, tolerance = self.selection.k, self.selection.rank_tolerance
        matrix = self.matrices.of_block(self.group, self._copies, double)
        if isinstance(matrix, OuterMatrix):
            return _of_outer(matrix, k, tolerance)
        if k is not None and matrix.gram is not None:
            leading = leading_of_matrix(matrix.gram, k, tolerance)
            if leading is not None:
                size, precision = len(matrix.gram), matrix.precision
                cutoff = rank_cutoff(leading.values, tolerance, size, precision, matrix.removed)
                return replace(leading.keep(leading.values > cutoff), kept=matrix.kept)
        return matrix.pairs(tolerance, self.matrices.costs.room)

    @property
    def _copies(self) -> int:
        """Matrices that are held beside the one that is decomposed; an iteration holds none."""
        dimension, size = self.factor.shape
        if not is_few(self.selection.k, min(dimension, size)):
            return EIGENVECTOR_COPIES
        if dimension > size:  # without a plan, which small problems would notice
            return 0
        is_kept = self.matrices.form_of(self.group) is Form.COLUMNS
        return EIGENVECTOR_COPIES if is_kept else 0


def _of_outer(matrix: OuterMatrix, k: int | None, tolerance: float | None) -> OuterPairs:
    """All pairs of a ``D x D`` matrix, or only the ``k`` largest, if these are few."""
    leading = None if k is None else leading_of_matrix(matrix.matrix, k, tolerance)
    if leading is None:
        return matrix.pairs(tolerance)
    cutoff = rank_cutoff(leading.values, tolerance, len(matrix.matrix), removed=matrix.removed)
    kept = leading.keep(leading.values > cutoff)
    return OuterPairs(kept.values, kept.coefficients)
