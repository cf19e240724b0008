"""Products of what a layer keeps of runs of batches, added to the blocks of a matrix."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from vivit.layers.store import Store


def counting(layer: Sequence[Store], names: Collection[str], members: Collection[str]) -> set[str]:
    """Those parameters of a layer that count.

    Args:
        layer: What is kept of all runs, if there are any.
        names: Parameters of the sweep.
        members: And those of the matrix.
    """
    if not layer:
        return set()
    return {name for name in names if name in layer[0].parameters and name in members}


def add_lower(
    matrix: Tensor, places: Sequence[slice], layer: Sequence[Store], names: set[str]
) -> None:
    """Add the products of all pairs of runs to the blocks on and below the diagonal.

    Args:
        matrix: Symmetric in the end; changed in place.
        places: Of the columns of each run.
        layer: What is kept of each.
        names: Parameters that count.
    """
    for i, rows in enumerate(places):
        for j, cols in enumerate(places[: i + 1]):
            add_gram(matrix[rows, cols], layer[i], names, None if i == j else layer[j])


def add_all(
    matrix: Tensor,
    rows: Sequence[slice],
    layer: Sequence[Store],
    cols: Sequence[slice],
    others: Sequence[Store],
    names: set[str],
) -> None:
    """Add the products of some runs with others.

    Args:
        matrix: Changed in place.
        rows: Places of the columns of the runs.
        layer: What is kept of each.
        cols: Places of those of the others.
        others: What is kept of each.
        names: Parameters that count.
    """
    for height, store in zip(rows, layer, strict=True):
        for width, other in zip(cols, others, strict=True):
            add_gram(matrix[height, width], store, names, other)


def add_gram(gram: Tensor, store: Store, names: set[str], other: Store | None = None) -> None:
    """As the store's method, to a matrix that may have another precision than the columns."""
    if gram.dtype == store.dtype:
        store.add_gram(gram, names, other)
        return
    part = torch.zeros_like(gram, dtype=store.dtype)
    store.add_gram(part, names, other)
    gram += part
