"""Gram matrices of the columns of ``V``, accumulated layer by layer.

``V`` is not stored as a whole, unless it has fewer rows than columns and is what is needed.

The columns of all batches form one matrix. Its blocks on the diagonal belong to one batch each and
are symmetric; a block below is rectangular, between two batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor

from vivit.backprop.autograd import Linearization
from vivit.batches import BatchCurvature
from vivit.errors import InputError
from vivit.layers.affine import Workspace, mirror
from vivit.layers.store import DenseStore, LayerStore, Store, store_for
from vivit.spectrum import NOT_FINITE, GroupMatrix

DEFAULT_WORKSPACE = 32 * 2**20
"""Bytes for temporaries: as much as a processor's caches may hold, for more does not pay."""


@torch.no_grad()
def group_matrices(
    batches: Iterable[BatchCurvature],
    parameters: Mapping[str, Tensor],
    groups: Mapping[str, list[str]],
    workspace: int,
) -> dict[str, GroupMatrix]:
    """Matrices of all groups, in one sweep of backward passes.

    Args:
        batches: The batches, of which only one has to exist at a time.
        parameters: All parameters, by name.
        groups: Names of the parameters of each group.
        workspace: Bytes for the temporaries of one layer's evaluation.

    Returns:
        The matrix of each group; rows and columns of Gram matrices are ordered (n, c).
    """
    like = next(iter(parameters.values())).detach()
    memory = Workspace(workspace, like)
    stores = [_curvature_stores(batch, memory) for batch in batches if len(batch.factor)]
    sizes = [size for size, _ in stores]
    members = {group: set(names) for group, names in groups.items()}
    columns: dict[str, Tensor] = {}
    grams: dict[str, Tensor] = {}
    for group, group_names in groups.items():
        own = {name: parameters[name].detach() for name in group_names}
        if sum(p.numel() for p in own.values()) <= sum(sizes):
            columns[group] = torch.cat([_group_columns(s, own, size) for size, s in stores])
        else:
            grams[group] = like.new_zeros(sum(sizes), sum(sizes))
    per_batch = [s for _, s in stores]
    del stores
    while per_batch[0]:
        layer = [s.pop() for s in per_batch]  # its memory is free after this layer
        for group, names in members.items():
            gram = grams.get(group)
            if gram is not None and not names.isdisjoint(layer[0].parameters):
                _add_layer(gram, layer, sizes, names)
    for gram in grams.values():
        mirror(gram)
    # By the Cauchy-Schwarz inequality, what is not finite shows on the diagonal.
    if not all(x.isfinite().all() for x in (*columns.values(), *map(torch.diag, grams.values()))):
        raise InputError(NOT_FINITE)
    return {group: GroupMatrix(columns.get(group), grams.get(group)) for group in groups}


@torch.no_grad()
def gradient_grams(
    batches: Callable[[], Iterable[BatchCurvature]],
    names: Iterable[str],
    like: Tensor,
    workspace: int,
) -> Tensor:
    """Inner products of the columns of ``V`` with the gradients of the samples.

    Args:
        batches: Gives the batches, of which only one has to exist at a time.
        names: Parameters of the block.
        like: A tensor of the device and dtype to use.
        workspace: Bytes for the temporaries of one layer's evaluation.

    Returns:
        Shape ``[M, N]``: columns in the order (n, c), gradients of all samples.
    """
    members, memory = set(names), Workspace(workspace, like)
    left = [
        _stores(b.linearization, b.factor, b.samples, memory) for b in batches() if len(b.factor)
    ]
    right = [  # one column per sample: its loss gradient
        _stores(b.linearization, b.gradient.unsqueeze(1), None, memory) for b in batches()
    ]
    heights, widths = [size for size, _ in left], [size for size, _ in right]
    result = like.new_zeros(sum(heights), sum(widths))
    rows, cols = _slices(heights), _slices(widths)
    for row, (_, ours) in zip(rows, left, strict=True):
        for col, (_, theirs) in zip(cols, right, strict=True):
            for one, other in zip(ours, theirs, strict=True):
                if not members.isdisjoint(one.parameters):
                    one.add_gram(result[row, col], members, other)
    return result


def _curvature_stores(batch: BatchCurvature, workspace: Workspace) -> tuple[int, list[Store]]:
    """Send the columns back; their number, and what the layers keep of them."""
    if batch.samples is not None and batch.alone:
        some = batch.linearization.of_samples(batch.samples)
        if some is not None:
            return _stores(some, batch.factor, None, workspace)
    return _stores(batch.linearization, batch.factor, batch.samples, workspace)


def _stores(
    linearization: Linearization, factor: Tensor, samples: Tensor | None, workspace: Workspace
) -> tuple[int, list[Store]]:
    num_samples, num_columns = factor.shape[:2]
    with linearization.restricted(samples):
        layers = linearization.layers
        stores = [store_for(layer, num_columns, factor, workspace) for layer in layers]
        linearization.send_back(factor, lambda i, c, s: stores[i].receive(c, s))
    whole = stores[: linearization.layout.num_whole]
    parts = [DenseStore(name, columns) for name, columns in _sums(linearization, stores)]
    columns = {
        name: factor.new_empty(num_samples * num_columns, *linearization.parameters[name].shape)
        for name in linearization.layout.generic
    }
    for n, c, column in linearization.sample_columns(factor, samples):
        for name, value in column.items():
            columns[name][n * num_columns + c] = value
    generic = [DenseStore(name, values) for name, values in columns.items()]
    return num_samples * num_columns, [*whole, *parts, *generic]


def _sums(linearization: Linearization, stores: list[LayerStore]) -> Iterator[tuple[str, Tensor]]:
    """Columns of the parameters that have parts, shape ``[M, p]``."""
    for name, parts in linearization.layout.parts.items():
        total: Tensor | None = None
        for part in parts:
            store = stores[part.layer]
            columns = store.columns({label for label in store.parameters if label is not None})
            if part.made is not None:
                columns = linearization.pull_columns(columns, part.made, name)
            total = columns if total is None else total + columns
        assert total is not None
        yield name, total


def _group_columns(stores: list[Store], group: Mapping[str, Tensor], size: int) -> Tensor:
    """The columns of a group of few parameters, shape ``[M, D]``, in the order of flat vectors."""
    owners = {name: store for store in stores for name in store.parameters}
    parts = [
        owners[name].columns({name}) if name in owners else p.new_zeros(size, p.numel())
        for name, p in group.items()
    ]
    return torch.cat(parts, dim=1)


def _add_layer(gram: Tensor, layer: list[Store], sizes: list[int], names: set[str]) -> None:
    """Add the products of all pairs of batches to the lower blocks."""
    blocks = _slices(sizes)
    for i, rows in enumerate(blocks):
        for j, cols in enumerate(blocks[: i + 1]):
            layer[i].add_gram(gram[rows, cols], names, None if i == j else layer[j])


def _slices(sizes: list[int]) -> list[slice]:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [slice(start, start + size) for start, size in zip(starts, sizes, strict=True)]
