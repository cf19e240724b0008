"""``V V^T`` of blocks with few parameters, added up sample block by sample block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from vivit.batches import Carrying
from vivit.dtypes import is_finite, like_of
from vivit.errors import InputError
from vivit.gram.plan import Plan
from vivit.gram.spectrum import NOT_FINITE, OuterMatrix
from vivit.gram.sweep import Advance, stores_of_run
from vivit.layers.affine import Workspace, gram_of_columns, mirror
from vivit.layers.outer import VectorFactors, add_outer, is_faster
from vivit.layers.store import Store
from vivit.parameters import flat_places
from vivit.ranks import ALONE, Ranks

Batches = Callable[[], Iterator[Carrying]]
"""Gives what carries curvature, batch by batch; one has to exist at a time."""


@torch.no_grad()
def outer_matrices(
    carrying: Batches,
    parameters: Mapping[str, Tensor],
    groups: Mapping[str, Sequence[str]],
    workspace: int,
    plan: Plan,
    advance: Advance,
    dtype: torch.dtype | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, OuterMatrix]:
    """The ``D x D`` matrices of some groups, in one sweep; what is kept of a batch goes with it.

    Args:
        carrying: What carries curvature.
        parameters: All parameters, by name.
        groups: Names of the parameters of each group.
        workspace: Bytes for temporaries.
        plan: How many columns are made, and sent, at once.
        advance: Is told of backward passes that are done.
        dtype: To work in, from the backward passes on; by default that of results.
        ranks: Who has other batches, if any.

    Returns:
        The matrix of each group.

    Raises:
        InputError: One is not finite.
    """
    like = like_of(parameters) if dtype is None else like_of(parameters).to(dtype)
    places = {group: _places(names, parameters) for group, names in groups.items()}
    found = {group: like.new_zeros(_size(x), _size(x)) for group, x in places.items()}
    names = {name for members in groups.values() for name in members}
    for batch in carrying():
        memory = Workspace(workspace, like)
        samples, columns = batch[1].num_samples, batch[1].num_columns
        run = stores_of_run(
            iter([batch]),
            samples,
            memory,
            names,
            plan.columns_per_pass,
            plan.columns_at_once,
            advance,
        )
        for group, matrix in found.items():
            block = _Block([*run.values()], places[group], samples, columns, memory)
            block.add_to(matrix)
        del run, block, batch  # before those of the next batch
    ranks.add([*found.values()], "D x D matrices")
    for matrix in found.values():
        if not is_finite(matrix.diagonal()):
            raise InputError(NOT_FINITE)
        mirror(matrix)
    return {group: OuterMatrix(matrix) for group, matrix in found.items()}


def projections(
    carrying: Batches,
    parameters: Mapping[str, Tensor],
    vectors: Tensor,
    workspace: int,
) -> Iterator[Tensor]:
    """``V^T e`` for vectors of a block, in one sweep.

    Args:
        carrying: What carries curvature.
        parameters: Those of the block, by name.
        vectors: Shape ``[D, K]``.
        workspace: Bytes for temporaries.

    Yields:
        Those of some samples after the other, shape ``[n, C, K]``.
    """
    places = _places([*parameters], parameters)
    for batch in carrying():
        memory = Workspace(workspace, vectors)
        samples, columns = batch[1].num_samples, batch[1].num_columns
        stores = stores_of_run(iter([batch]), samples, memory, {*parameters})
        block = _Block([*stores.values()], places, samples, columns, memory)
        for formed in block.columns(vectors.shape[1]):
            yield (formed @ vectors).unflatten(0, (-1, columns))
        del stores, block, batch  # before those of the next batch


def _places(names: Sequence[str], parameters: Mapping[str, Tensor]) -> dict[str, slice]:
    return flat_places({name: parameters[name].shape for name in names})


def _size(places: Mapping[str, slice]) -> int:
    return max(place.stop for place in places.values())


class _Block:
    """The columns of one batch, of one group."""

    def __init__(
        self,
        stores: Sequence[Store],
        places: Mapping[str, slice],
        samples: int,
        columns: int,
        workspace: Workspace,
    ) -> None:
        self._places, self._workspace = places, workspace
        self._samples, self._columns = samples, columns
        self._owners = {
            name: store for store in stores for name in places if name in store.parameters
        }

    def add_to(self, matrix: Tensor) -> None:
        """Add to the lower blocks of ``V V^T``."""
        factors = self._vector_factors()
        if factors is None:
            for formed in self.columns():
                gram_of_columns(matrix, formed.T)
            return
        for i, (rows, left) in enumerate(factors):
            for cols, right in factors[: i + 1]:
                add_outer(matrix[rows, cols], left, right, self._workspace)

    def _vector_factors(self) -> list[tuple[slice, VectorFactors]] | None:
        """Those of all parameters in order, if all have some and it pays."""
        found = []
        for name, store in self._owners.items():
            factors = store.vector_factors(name)
            if factors is None:
                return None
            found.append((self._places[name], factors))
        outputs = sum(factors.s.shape[2] for _, factors in found)
        size = self._workspace.like.element_size()
        if not is_faster(self._samples, self._columns, outputs, _size(self._places), size):
            return None
        return sorted(found, key=lambda x: x[0].start)

    def columns(self, beside: int = 0) -> Iterator[Tensor]:
        """The columns of some samples after the other.

        Args:
            beside: Numbers that are made for each column beside it.

        Yields:
            Shape ``[n * C, D]``, zero where a parameter has none; to be used before the next are
            asked for.
        """
        size = _size(self._places)
        for store in {id(store): store for store in self._owners.values()}.values():
            store.settle()  # so that inputs are not made for each block
        step = max(self._workspace.size // (self._columns * (size + beside)), 1)
        for start in range(0, self._samples, step):
            some = slice(start, min(start + step, self._samples))
            formed = self._workspace.take((some.stop - start) * self._columns, size)
            formed.zero_()
            for name, store in self._owners.items():
                formed[:, self._places[name]] = store.columns({name}, some)
            yield formed
