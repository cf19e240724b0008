"""Gram matrices of the columns of ``V``, accumulated layer by layer.

``V`` is not stored as a whole, unless it has fewer rows than columns and is what is needed.

The columns of all batches form one matrix. Its blocks on the diagonal belong to one run of like
batches each and are symmetric; a block below is rectangular, between two runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from vivit.batches import Carrying
from vivit.dtypes import is_finite, like_of
from vivit.errors import InputError
from vivit.gram.centering import center_columns, center_gram
from vivit.gram.kept import KeptColumns
from vivit.gram.plan import Plan
from vivit.gram.runs import add_gram, add_lower, counting
from vivit.gram.share import Share, names_of, parcel_of, stores_of
from vivit.gram.spectrum import NOT_FINITE, GroupMatrix
from vivit.gram.sweep import Advance, Key, stores_of_run, unnoticed
from vivit.layers.affine import Workspace, mirror
from vivit.layers.store import Store
from vivit.parameters import flat_places
from vivit.ranks import Parcel


@torch.no_grad()
def group_matrices(
    carrying: Callable[[], Iterator[Carrying]],
    runs: Sequence[tuple[int, int]],
    parameters: Mapping[str, Tensor],
    groups: Mapping[str, list[str]],
    workspace: int,
    plan: Plan,
    dtype: torch.dtype | None = None,
    keep: bool = False,
    whole: bool = False,
    centered: bool = False,
    advance: Advance = unnoticed,
    share: Share | None = None,
) -> dict[str, GroupMatrix]:
    """Gram matrices of groups, or their columns where these are smaller.

    Args:
        carrying: Gives what carries curvature, batch by batch; one has to exist at a time.
        runs: Samples of each run of batches that agree in the sizes of their layers, and columns
            of each of them.
        parameters: All parameters, by name.
        groups: Names of the parameters of each group.
        workspace: Bytes for the temporaries of one layer's evaluation.
        plan: Which parameters each sweep of backward passes serves (what is kept for them is free
            before the next), and how many columns a pass takes.
        dtype: To work in, from the backward passes on; by default that of results.
        keep: Whether what the layers keep stays.
        whole: Whether Gram matrices are asked for in any case.
        centered: Whether the mean of all columns is subtracted from each.
        advance: Is told of backward passes that are done.
        share: Of this rank, if there are others; by default these columns are all.

    Returns:
        The matrix of each group; rows and columns of Gram matrices are ordered (n, c).
    """
    own = like_of(parameters)
    like = own if dtype is None else own.to(dtype)
    sizes, share = [total * columns for total, columns in runs], share or Share()
    kept = KeptColumns(share.slices(sizes)) if keep else None
    shapes = {name: p.shape for name, p in parameters.items()}

    def empty() -> list[GroupAccumulator]:
        return [
            GroupAccumulator(members, shapes, sizes, like, own.dtype, whole, share)
            for members in groups.values()
        ]

    matrices = accumulated(empty, carrying, runs, like, workspace, plan, advance, share, kept)
    return {group: x.finished(kept, centered) for group, x in zip(groups, matrices, strict=True)}


class Accumulator(Protocol):
    """What products of columns are added to."""

    def crosses(self, key: Key) -> bool:
        """Whether products of columns of a layer with those of other ranks are needed."""
        ...

    def add(self, layer: Sequence[Store], names: Collection[str]) -> None:
        """Add what a layer keeps of all runs, of those parameters that count."""
        ...

    def add_cross(
        self, layer: Sequence[Store], theirs: Sequence[Store], rank: int, names: Collection[str]
    ) -> None:
        """Add the products with what another rank keeps of a layer."""
        ...


A = TypeVar("A", bound=Accumulator)


@torch.no_grad()
def accumulated(
    empty: Callable[[], Sequence[A]],
    carrying: Callable[[], Iterator[Carrying]],
    runs: Sequence[tuple[int, int]],
    like: Tensor,
    workspace: int,
    plan: Plan,
    advance: Advance,
    share: Share,
    kept: KeptColumns | None = None,
) -> Sequence[A]:
    """Send all columns back, and add their products to some matrices, layer by layer.

    Args:
        empty: Makes the matrices, which are not needed during the first backward passes.
        carrying: As for `group_matrices`, as are those without a word.
        runs: Samples of each run, and columns of each of them.
        like: A tensor of the dtype and device to work with.
        workspace: Bytes for temporaries.
        plan: The sweeps.
        advance: Is told of backward passes.
        share: Of this rank.
        kept: Takes what the layers keep, if that stays.

    Returns:
        The matrices, to which all has been added.
    """
    matrices: Sequence[A] = ()
    for names in plan.sweeps:
        memory = Workspace(workspace, like)  # free during the backward passes of the next
        batches = carrying()
        stores = [
            stores_of_run(
                batches, total, memory, names, plan.columns_per_pass, plan.columns_at_once, advance
            )
            for total, _ in runs
        ]
        matrices = matrices or empty()
        keys = share.keys(stores)
        for key, turn in zip(keys, plan.turns(keys), strict=True):
            layer = [s.pop(key) for s in stores]  # its memory is free after this layer
            add_layer(matrices, layer, key, turn, names, share, memory)
            if kept is not None and layer:
                kept.add(layer)
            del layer
        memory.release()  # what is kept refers to it
    return matrices


def add_layer(
    matrices: Sequence[Accumulator],
    layer: Sequence[Store],
    key: Key,
    turn: int,
    names: Collection[str],
    share: Share,
    memory: Workspace,
) -> None:
    """Add the products of a layer's columns, with those of other ranks, which come by, too.

    Args:
        matrices: What they are added to.
        layer: What is kept of all runs of this rank, if it has any.
        key: Names of the layer's parameters.
        turn: Which of two opposite ranks has the work: see `vivit.ranks.steps_of`.
        names: Parameters that count.
        share: Of this rank.
        memory: For temporaries.
    """
    crossing = [matrix for matrix in matrices if matrix.crosses(key)]

    def add_own() -> None:
        for matrix in matrices:
            matrix.add(layer, names)

    def add_cross(rank: int, parcel: Parcel) -> None:
        theirs = [*stores_of(parcel, layer[0], memory)]
        for matrix in crossing:
            matrix.add_cross(layer, theirs, rank, names)

    if not crossing:
        add_own()
        return
    what = f"the Gram matrix, layer {names_of(key)}"
    share.ranks.around(parcel_of(layer, share), what, turn, add_own, add_cross)


class GroupAccumulator:
    """The matrix of a group: its columns, or their Gram matrix if that is smaller."""

    def __init__(
        self,
        names: list[str],
        shapes: Mapping[str, torch.Size],
        sizes: list[int],
        like: Tensor,
        precision: torch.dtype,
        whole: bool = False,
        share: Share | None = None,
    ) -> None:
        """Begin with zeros.

        Args:
            names: Parameters of the group.
            shapes: Of all parameters.
            sizes: Number of columns of each run.
            like: A tensor of the dtype and device to use.
            precision: That of the columns, which may be lower.
            whole: Whether the Gram matrix is asked for in any case.
            share: Of this rank, if there are others.
        """
        self._precision, self._share = precision, share or Share()
        self._places = flat_places({name: shapes[name] for name in names})
        total = sum(self._share.counts) or sum(sizes)
        dimension = sum(shapes[name].numel() for name in names)
        self._is_small = dimension <= total and not whole
        self._blocks = (Share() if self._is_small else self._share).slices(sizes)
        rows = sum(sizes) if self._is_small else total
        self._matrix = like.new_zeros(rows, dimension if self._is_small else total)

    def crosses(self, key: Key) -> bool:
        """Whether products of columns of a layer with those of other ranks are needed."""
        return not self._is_small and any(name in self._places for name in key)

    def add(self, layer: Sequence[Store], names: Collection[str]) -> None:
        """Add what a layer keeps.

        Args:
            layer: The stores of all runs.
            names: Parameters that count, if they are of this group.
        """
        own = counting(layer, names, self._places)
        if self._is_small:
            for name in own:
                for rows, store in zip(self._blocks, layer, strict=True):
                    self._matrix[rows, self._places[name]] = store.columns({name})
        elif own:
            add_lower(self._matrix, self._blocks, layer, own)

    def add_cross(
        self, layer: Sequence[Store], theirs: Sequence[Store], rank: int, names: Collection[str]
    ) -> None:
        """Add the products with what another rank keeps of a layer.

        Args:
            layer: The stores of all runs here, at least one.
            theirs: And there.
            rank: Whose they are.
            names: Parameters that count, if they are of this group.
        """
        own = counting(layer, names, self._places)
        places = self._share.slices([store.num_columns for store in theirs], rank)
        for rows, store in zip(self._blocks, layer, strict=True):
            for cols, other in zip(places, theirs, strict=True):
                if rows.start > cols.start:
                    add_gram(self._matrix[rows, cols], store, own, other)
                    continue
                block = self._matrix.new_zeros(_length(rows), _length(cols))
                add_gram(block, store, own, other)
                self._matrix[cols, rows] += block.T  # blocks below the diagonal are what counts

    def finished(self, kept: KeptColumns | None = None, centered: bool = False) -> GroupMatrix:
        """The whole matrix.

        Args:
            kept: What its columns are made of, if that is kept.
            centered: Whether the mean of all columns is subtracted from each.

        Raises:
            InputError: It is not finite.
        """
        ranks = self._share.ranks
        if self._is_small:
            shown = self._matrix = ranks.rows(self._matrix, "columns of few parameters")
        else:
            ranks.add([self._matrix], "the blocks of the Gram matrix")
            mirror(self._matrix)
            shown = self._matrix.diagonal()  # by the Cauchy-Schwarz inequality, all shows there
        if not is_finite(shown):
            raise InputError(NOT_FINITE)
        center = center_columns if self._is_small else center_gram
        removed = center(self._matrix) if centered else 0.0
        columns, gram = (self._matrix, None) if self._is_small else (None, self._matrix)
        return GroupMatrix(columns, gram, self._precision, kept, removed)


def _length(places: slice) -> int:
    return places.stop - places.start
