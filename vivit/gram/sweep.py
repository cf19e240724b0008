"""A sweep of backward passes, and what the layers keep of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from torch import Tensor

from vivit.backprop.autograd import Linearization
from vivit.batches import Carrying
from vivit.layers.affine import Workspace
from vivit.layers.smaller import store_for
from vivit.layers.store import DenseStore, LayerStore, Store
from vivit.losses import HessianFactor

Advance = Callable[[int], None]
"""Is told of work that is done."""

Key = tuple[str | None, ...]
"""Names of the parameters that a store has the columns of."""


def unnoticed(count: int) -> None:
    """Tell nobody."""


def stores_of_run(
    batches: Iterator[Carrying],
    total: int,
    workspace: Workspace,
    names: Collection[str],
    columns_per_pass: int = 1,
    columns_at_once: int = 1,
    advance: Advance = unnoticed,
) -> dict[Key, Store]:
    """Send the columns of a run of batches back.

    The batches agree in the sizes of their layers, so that they are contracted as if they were
    one. Only one of their graphs is needed at a time.

    Args:
        batches: What carries curvature; as much is taken as the run has samples.
        total: Samples of the run.
        workspace: Memory for the temporaries of one layer's evaluation; what is kept is of its
            dtype.
        names: Parameters that count.
        columns_per_pass: Columns that a backward pass takes at once.
        columns_at_once: Columns of each sample to make before they are sent.
        advance: Is told how many columns more have been sent back.

    Returns:
        What is kept of those layers and other parameters that have one of the names.
    """
    run = _Run(total, workspace, names, columns_per_pass, columns_at_once, advance)
    while run.filled < total:
        run.take(*next(batches))
    return run.stores


class _Run:
    """What is kept of the batches so far.

    Attributes:
        filled: Samples so far.
    """

    def __init__(
        self,
        total: int,
        workspace: Workspace,
        names: Collection[str],
        columns_per_pass: int,
        columns_at_once: int,
        advance: Advance,
    ) -> None:
        self._total, self._workspace, self._names = total, workspace, {*names}
        self._columns_per_pass, self._columns_at_once = columns_per_pass, columns_at_once
        self._advance = advance
        self._layers: dict[Key, LayerStore] = {}
        self._dense: dict[str, Tensor] = {}
        self.filled = 0

    @property
    def stores(self) -> dict[Key, Store]:
        """All stores."""
        stores: dict[Key, Store] = {**self._layers}
        stores |= {
            (name,): DenseStore(name, columns, self._total)
            for name, columns in self._dense.items()
        }
        return stores

    def take(
        self, linearization: Linearization, factor: HessianFactor, samples: Tensor | None
    ) -> None:
        """Send the columns of a batch back.

        Args:
            linearization: The model.
            factor: Its columns.
            samples: Indices of its samples in the batch; None for all.
        """
        layout = linearization.layout
        whole = [
            i for i in range(layout.num_whole) if not self._names.isdisjoint(layout.layers[i].key)
        ]
        parts = [name for name in layout.parts if name in self._names]
        of_parts = {part.layer for name in parts for part in layout.parts[name]}
        with linearization.restricted(samples):
            layers, like = linearization.layers, linearization.output
            size, columns = factor.num_samples, factor.num_columns
            kept: dict[int, LayerStore] = {}
            for i in whole:
                key = layers[i].key
                if key not in self._layers:
                    self._layers[key] = store_for(
                        layers[i], self._total, columns, self._workspace.like, self._workspace
                    )
                kept[i] = self._layers[key]
            for i in of_parts:  # their tensors are made in the graph of this batch
                kept[i] = store_for(layers[i], size, columns, like, self._workspace)
            for i, store in kept.items():
                store.begin(layers[i])
            arrived = 0

            def receive(i: int, some: slice, s: Tensor) -> None:
                nonlocal arrived
                self._advance(max(some.start - arrived, 0))  # those before are done
                arrived = max(some.start, arrived)
                kept[i].receive(some, s)

            linearization.send_back(
                factor,
                [*kept],
                receive,
                self._columns_per_pass,
                self._columns_at_once,
            )
            self._advance(columns - arrived)
            for store in kept.values():
                store.end()
        for name in parts:
            self._put(name, size, _sum(linearization, kept, name))
        self._take_generic(linearization, factor, samples)
        self.filled += size

    def _take_generic(
        self, linearization: Linearization, factor: HessianFactor, samples: Tensor | None
    ) -> None:
        """Columns of parameters without a layer."""
        size = factor.num_samples
        names = [name for name in linearization.layout.generic if name in self._names]
        found = linearization.generic_columns(factor, samples, names, self._workspace.size)
        for name, columns in found.items():
            self._put(name, size, columns)

    def _put(self, name: str, samples: int, columns: Tensor) -> None:
        """Keep the columns of a parameter, ``[M, p]``, beside those of the batches before."""
        per_sample = len(columns) // samples
        columns = columns.to(self._workspace.like.dtype)
        if samples == self._total:
            self._dense[name] = columns
            return
        if name not in self._dense:
            self._dense[name] = columns.new_empty(self._total * per_sample, columns.shape[1])
        start = self.filled * per_sample
        self._dense[name][start : start + len(columns)] = columns


def _sum(linearization: Linearization, kept: Mapping[int, LayerStore], name: str) -> Tensor:
    """Columns of a parameter that has parts, shape ``[M, p]``."""
    total: Tensor | None = None
    for part in linearization.layout.parts[name]:
        store = kept[part.layer]
        columns = store.columns({label for label in store.parameters if label is not None})
        if part.made is not None:
            columns = linearization.pull_columns(columns, part.made, name)
        total = columns if total is None else total + columns
    assert total is not None
    return total
