"""Kernels of several ranks: each has the rows of its own samples, and the columns of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from vivit.gram.cross import Columns
from vivit.gram.kernel import Kernel, Side
from vivit.gram.matrices import add_layer
from vivit.gram.runs import add_all
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
        for number, (key, (layer,)) in enumerate(self._layers([columns], share)):
            add_layer([spread], layer, key, number % 2, self._names, share, memory)
        return self._shaped(spread.finished().rows(), side, side)

    @torch.no_grad()
    def between(self, rows: Side, cols: Side) -> Tensor:
        """Of two sets: the columns of the second go around all ranks."""
        self._check_fits(rows, cols)
        ours, theirs = self._columns(rows.blocks), self._columns(cols.blocks)
        share = Share(self._curvature.ranks, cols.counts)
        matrix = self._curvature.like.new_zeros(ours.size, sum(cols.counts))
        places = Share().slices([size for size, _ in ours.kept])

        def add(layer: Sequence[Store], others: Sequence[Store], rank: int) -> None:
            of_rank = share.slices([x.num_columns for x in others], rank)
            add_all(matrix, places, layer, of_rank, others, self._names)

        for key, (layer, sent) in self._layers([ours, theirs], share):
            self._around(add, share, key, layer, sent)
        return self._shaped(matrix, rows, cols)

    def _around(
        self,
        add: Callable[[Sequence[Store], Sequence[Store], int], None],
        share: Share,
        key: Key,
        layer: Sequence[Store],
        sent: Sequence[Store],
    ) -> None:
        """Send what is kept of a layer of one set to all ranks, and use what they send.

        Args:
            add: Adds products of what is kept of the one set with that of the other, of a rank.
            share: Of this rank.
            key: Names of the layer's parameters.
            layer: What is kept here of the one set.
            sent: And of the other.
        """
        memory = self._workspace

        def add_own() -> None:
            add(layer, sent, share.ranks.rank)

        def add_cross(rank: int, parcel: Parcel) -> None:
            if layer:
                add(layer, [*stores_of(parcel, layer[0], memory)], rank)

        what = f"the kernel, layer {names_of(key)}"
        share.ranks.around(parcel_of(sent, share), what, None, add_own, add_cross)

    def _layers(
        self, sets: Sequence[Columns], share: Share
    ) -> Iterator[tuple[Key, list[list[Store]]]]:
        """Names of each layer, and what the blocks of each set keep of it until the next."""
        stores = [[kept for _, kept in columns.kept] for columns in sets]
        keys, bar = share.keys([x for of_set in stores for x in of_set]), self._curvature.progress
        with bar.stage("kernel", LAYER, len(keys)):
            for key in keys:
                yield key, [[x.pop(key) for x in of_set] for of_set in stores]
                bar.advance(LAYER)
