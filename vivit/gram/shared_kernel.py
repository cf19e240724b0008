"""Kernels of several ranks: each has the rows of its own samples, and the columns of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vivit.gram.cross import Columns
from vivit.gram.kernel import Kernel, Side
from vivit.gram.matrices import add_layer
from vivit.gram.share import Share, names_of, parcel_of, stores_of
from vivit.gram.spread import SpreadMatrix
from vivit.gram.sweep import Key
from vivit.layers.store import Store
from vivit.ranks import Parcel

LAYER = " layers"
"""What a bar counts."""


class SharedKernel(Kernel):
    """What is kept of all samples of a rank lives at once; that of others comes by."""

    @torch.no_grad()
    def within(self, side: Side) -> Tensor:
        """Of one set: one of each pair of ranks computes a block, and sends it to the other."""
        self._check_fits(side, side)
        columns, memory = self._columns(side.blocks), self._workspace
        share = Share(self._curvature.ranks, side.counts)
        sizes = [size for size, _ in columns.kept]
        spread = SpreadMatrix(self._names, sizes, self._curvature.like, share)

        def add(key: Key, number: int, layer: Sequence[Store], _: Sequence[Store]) -> None:
            add_layer([spread], layer, key, number % 2, self._names, share, memory)

        self._each_layer(columns, None, share, add)
        return self._shaped(spread.finished().rows(), side, side)

    @torch.no_grad()
    def between(self, rows: Side, cols: Side) -> Tensor:
        """Of two sets: the columns of the second go around all ranks."""
        self._check_fits(rows, cols)
        ours, theirs = self._columns(rows.blocks), self._columns(cols.blocks)
        share = Share(self._curvature.ranks, cols.counts)
        block = _Rows(self._curvature.like, ours, self._names, share)

        def add(key: Key, _: int, layer: Sequence[Store], sent: Sequence[Store]) -> None:
            self._add_around(block, key, layer, sent)

        self._each_layer(ours, theirs, share, add)
        return self._shaped(block.matrix, rows, cols)

    def _add_around(
        self, block: _Rows, key: Key, layer: Sequence[Store], sent: Sequence[Store]
    ) -> None:
        """Add the products of a layer's columns with those of the other set, of all ranks."""
        share, memory = block.share, self._workspace

        def add_own() -> None:
            block.add(layer, sent, share.ranks.rank)

        def add_cross(rank: int, parcel: Parcel) -> None:
            if layer:
                block.add(layer, [*stores_of(parcel, layer[0], memory)], rank)

        what = f"the kernel, layer {names_of(key)}"
        share.ranks.around(parcel_of(sent, share), what, None, add_own, add_cross)

    def _each_layer(
        self,
        rows: Columns,
        cols: Columns | None,
        share: Share,
        add: Callable[[Key, int, Sequence[Store], Sequence[Store]], None],
    ) -> None:
        """Call a function with what is kept of each layer, which is free after that.

        Args:
            rows: Columns of the samples of one set.
            cols: And of the other, if there are two.
            share: Of this rank.
            add: Takes names and number of a layer, and what is kept of it by the blocks of either
                set.
        """
        ours = [stores for _, stores in rows.kept]
        theirs = [] if cols is None else [stores for _, stores in cols.kept]
        keys, bar = share.keys([*ours, *theirs]), self._curvature.progress
        with bar.stage("kernel", LAYER, len(keys)):
            for number, key in enumerate(keys):
                add(key, number, [x.pop(key) for x in ours], [x.pop(key) for x in theirs])
                bar.advance(LAYER)


class _Rows:
    """The rows of the samples of a rank, whose columns are those of another set.

    Attributes:
        matrix: Shape ``[m, M]``.
        share: Of the columns.
    """

    def __init__(self, like: Tensor, rows: Columns, names: set[str], share: Share) -> None:
        """Begin with zeros.

        Args:
            like: A tensor of the dtype and device to use.
            rows: Of this rank.
            names: Parameters that count.
            share: Of the columns of the other set.
        """
        self._names, self.share = names, share
        self._places = Share().slices([size for size, _ in rows.kept])
        self.matrix = like.new_zeros(rows.size, sum(share.counts))

    def add(self, layer: Sequence[Store], others: Sequence[Store], rank: int) -> None:
        """Add the products of a layer's columns.

        Args:
            layer: What is kept of all blocks here.
            others: And of the blocks of the other set of a rank.
            rank: Which.
        """
        places = self.share.slices([x.num_columns for x in others], rank)
        for rows, store in zip(self._places, layer, strict=True):
            for cols, other in zip(places, others, strict=True):
                store.add_gram(self.matrix[rows, cols], self._names, other)
