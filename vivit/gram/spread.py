"""Gram matrices in blocks, each of which stays on the rank that has computed it.

Of each pair of ranks, one has the products of their columns, or both have a part of them that the
other lacks. So all ranks together hold little more than half of the matrix.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from vivit.dtypes import is_finite
from vivit.errors import InputError
from vivit.gram.runs import add_all, add_lower, counting
from vivit.gram.share import Share
from vivit.gram.spectrum import NOT_FINITE
from vivit.gram.sweep import Key
from vivit.layers.affine import mirror
from vivit.layers.store import Store
from vivit.ranks import steps_of


class SpreadMatrix:
    """The blocks of ``V^T V`` that this rank has computed: rows are its own columns of ``V``."""

    def __init__(
        self, names: Collection[str], sizes: Sequence[int], like: Tensor, share: Share
    ) -> None:
        """Begin with zeros.

        Args:
            names: Parameters that count.
            sizes: Number of columns of each run of this rank.
            like: A tensor of the dtype and device to use.
            share: Of this rank.
        """
        self._names, self._share = {*names}, share
        self._rows = Share().slices(sizes)
        self._own = like.new_zeros(sum(sizes), sum(sizes))
        self._others: dict[int, Tensor] = {}

    def crosses(self, key: Key) -> bool:
        """Whether a layer has parameters that count."""
        return not self._names.isdisjoint(key)

    def add(self, layer: Sequence[Store], names: Collection[str]) -> None:
        """Add the products of the columns of this rank, on and below the diagonal.

        Args:
            layer: What is kept of all runs.
            names: Parameters that count, if they do here.
        """
        own = counting(layer, names, self._names)
        if own:
            add_lower(self._own, self._rows, layer, own)

    def add_cross(
        self, layer: Sequence[Store], theirs: Sequence[Store], rank: int, names: Collection[str]
    ) -> None:
        """Add the products with the columns of another rank.

        Args:
            layer: What is kept of all runs here, at least one.
            theirs: And there.
            rank: Whose they are.
            names: Parameters that count, if they do here.
        """
        own, widths = counting(layer, names, self._names), [x.num_columns for x in theirs]
        if rank not in self._others:
            self._others[rank] = self._own.new_zeros(len(self._own), sum(widths))
        cols = Share().slices(widths)
        add_all(self._others[rank], self._rows, layer, cols, theirs, own)

    def finished(self) -> SpreadMatrix:
        """Itself, with all blocks.

        Raises:
            InputError: It is not finite.
        """
        mirror(self._own)
        if not is_finite(self._own.diagonal()):  # where all shows, by Cauchy-Schwarz
            raise InputError(NOT_FINITE)
        return self

    @torch.no_grad()
    def multiply(self, u: Tensor) -> Tensor:
        """The product with the whole matrix, the same on all ranks.

        Args:
            u: Shape ``[M, K]``.

        Returns:
            Shape ``[M, K]``.
        """
        share, product = self._share, torch.zeros_like(u)
        own = share.columns_of(share.ranks.rank)
        product[own] = self._own @ u[own]
        for rank, block in self._others.items():
            theirs = share.columns_of(rank)
            product[own] += block @ u[theirs]
            product[theirs] += block.T @ u[own]
        share.ranks.add([product], "a product with the Gram matrix")
        return product

    def rows(self) -> Tensor:
        """The rows of this rank's columns, shape ``[m, M]``: blocks go to who lacks them."""
        share = self._share
        matrix = self._own.new_zeros(len(self._own), sum(share.counts))
        matrix[:, share.columns_of(share.ranks.rank)] = self._own
        for rank, block in self._others.items():
            matrix[:, share.columns_of(rank)] = block
        sent = {rank: block.T for rank, block in self._others.items()}
        for rank, block in share.ranks.to_each(sent, "rows of the Gram matrix").items():
            matrix[:, share.columns_of(rank)] += block.to(matrix.device)
        return matrix


def spread_bytes(counts: Sequence[int], element_size: int) -> int:
    """Bytes of the blocks of a spread matrix, on the rank that has the most.

    Args:
        counts: Columns of each rank.
        element_size: Bytes of an element.
    """
    size = len(counts)

    def of_rank(rank: int) -> int:
        steps = [step for turn in range(2) for step in steps_of(rank, size, turn)]
        met = {step.source for step in steps if step.source is not None}
        return counts[rank] * (counts[rank] + sum(counts[x] for x in met))

    return max(of_rank(rank) for rank in range(size)) * element_size
