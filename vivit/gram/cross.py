"""Rectangular Gram matrices: inner products of columns of some samples with those of others."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vivit.batches import Carrying
from vivit.gram.sweep import Key, stores_of_run
from vivit.layers.affine import Workspace
from vivit.layers.store import Store


class Columns:
    """What is kept of the columns of some batches, to be multiplied with those of others.

    Attributes:
        size: Number of columns.
        kept: How many each batch has, and what is kept of them, by layer.
    """

    def __init__(
        self,
        batches: Iterator[Carrying],
        names: set[str],
        workspace: Workspace,
        columns_per_pass: int = 1,
        columns_at_once: int = 1,
        folded: bool = False,
    ) -> None:
        """Send the columns back.

        Args:
            batches: What has columns.
            names: Parameters that count.
            workspace: Memory for temporaries; what is kept is of its dtype.
            columns_per_pass: Columns that a backward pass takes at once.
            columns_at_once: Columns of each sample to make before they are sent.
            folded: Whether the columns of a sample are one, so that inner products are summed
                over them.
        """
        self._names, self._workspace, self._folded = names, workspace, folded
        self._columns_per_pass, self._columns_at_once = columns_per_pass, columns_at_once
        self.kept = [self._stores(batch) for batch in batches]
        self.size = sum(size for size, _ in self.kept)

    def _stores(self, batch: Carrying) -> tuple[int, dict[Key, Store]]:
        """How many columns a batch has, and what is kept of them."""
        samples, columns = batch[1].num_samples, batch[1].num_columns
        stores = stores_of_run(
            iter([batch]),
            samples,
            self._workspace,
            self._names,
            self._columns_per_pass,
            self._columns_at_once,
        )
        if not self._folded:
            return samples * columns, stores
        return samples, {key: store.folded() for key, store in stores.items()}

    @torch.no_grad()
    def add_own(self, gram: Tensor) -> None:
        """Add the inner products of the columns of a single batch, on and below the diagonal.

        Args:
            gram: Shape ``[size, size]``; changed in place.
        """
        ((_, stores),) = self.kept
        for store in stores.values():
            store.add_gram(gram, self._names)

    @torch.no_grad()
    def add_blocks(self, blocks: Tensor) -> None:
        """Add the inner products of the columns of each sample with each other.

        Args:
            blocks: Shape ``[N, C, C]``, samples of all batches; changed in place.
        """
        start = 0
        for size, stores in self.kept:
            stop = start + size // blocks.shape[1]
            for store in stores.values():
                for name in self._names & store.parameters:
                    _add_blocks(blocks[start:stop], store, name, self._workspace)
            start = stop

    @torch.no_grad()
    def add_products(self, gram: Tensor, others: Iterator[Carrying]) -> None:
        """Add the inner products with the columns of other batches, one batch after the other.

        Args:
            gram: Shape ``[size, any]``, a column for each of the others; changed in place.
            others: What has these columns.
        """
        start = 0
        for batch in others:
            width, theirs = self._stores(batch)
            cols, row = slice(start, start + width), 0
            for height, ours in self.kept:
                _add_products(gram[row : row + height, cols], ours, theirs, self._names)
                row += height
            start += width
            del theirs, batch  # before those of the next


def _add_products(
    gram: Tensor, ours: dict[Key, Store], theirs: dict[Key, Store], names: set[str]
) -> None:
    """Those of two batches; from columns, where they are not served by the same rules."""
    for key, store in ours.items():
        if key in theirs:
            store.add_gram(gram, names, theirs[key])
    left, right = (
        {
            name: store
            for key, store in of_batch.items()
            if key not in other
            for name in names & store.parameters
        }
        for of_batch, other in ((ours, theirs), (theirs, ours))
    )
    for name in left.keys() & right.keys():
        gram += left[name].columns({name}) @ right[name].columns({name}).T


def _add_blocks(blocks: Tensor, store: Store, name: str, workspace: Workspace) -> None:
    """Those of one parameter: from plain vectors, or of as many samples as the workspace holds."""
    samples, columns, _ = blocks.shape
    factors = store.vector_factors(name)
    if factors is not None:
        lengths = factors.a.square().sum(dim=1)
        blocks += (factors.s @ factors.s.mT) * lengths[:, None, None]
        return
    per_sample = store.columns({name}, slice(0, 1)).numel()
    step = max(workspace.size // max(per_sample, 1), 1)
    for start in range(0, samples, step):
        some = slice(start, min(start + step, samples))
        formed = store.columns({name}, some).unflatten(0, (-1, columns))
        blocks[some] += formed @ formed.mT
