"""Bytes that a rank sends and receives while matrices are made, predicted from sizes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from vivit.gram.forms import Form, MatrixPlan
from vivit.gram.plan import Travel
from vivit.layers.sizes import BatchSizes, LayerSizes, runs_of
from vivit.ranks import steps_of

Key = tuple[str | None, ...]
"""Names of the parameters of a layer."""


def travel_of(
    rank: int,
    shares: Sequence[Sequence[BatchSizes]],
    matrices: Sequence[MatrixPlan],
    groups: Mapping[str, Collection[str]],
    entries: Mapping[str, int],
    dimensions: Mapping[str, int],
    sweeps: Sequence[Collection[str]],
    element_size: int,
    is_centered: bool = False,
) -> Travel:
    """What one rank sends and receives.

    Args:
        rank: Its number.
        shares: Sizes of the batches of each rank.
        matrices: What is formed for each group.
        groups: Names of the parameters of each.
        entries: Of each parameter.
        dimensions: Entries of all parameters of each group.
        sweeps: Names of the parameters that each sweep serves, in turn.
        element_size: Bytes of an element.
        is_centered: Whether the sum of all columns is needed, too.

    Returns:
        Bytes: what layers keep, half around the ring, and the matrices, which are added up.
    """
    sent = received = 0
    crossing = {name for x in matrices if x.form is Form.GRAM for name in groups[x.group]}
    of_ranks = [_parcels(runs_of(sizes), entries, element_size) for sizes in shares]
    for names in sweeps:
        for turn, key in enumerate(_keys(shares, names)):
            if crossing.isdisjoint(key) or not of_ranks[rank]:
                continue
            for step in steps_of(rank, len(shares), turn):
                if step.source is not None and of_ranks[step.source]:
                    received += of_ranks[step.source][key]
                if step.target is not None and of_ranks[step.target]:
                    sent += of_ranks[rank][key]
    counts = [sum(x.samples * x.columns for x in sizes) for sizes in shares]
    for matrix in matrices:
        if matrix.form is Form.COLUMNS:
            size = max(counts) * dimensions[matrix.group] * element_size
            sent, received = sent + size, received + (len(shares) - 1) * size
        else:
            is_outer = matrix.form is not Form.GRAM
            size = (matrix.side + is_outer * is_centered) * matrix.side * element_size
            sent, received = sent + size, received + size
    return Travel(len(shares), sent, received)


def _keys(shares: Sequence[Sequence[BatchSizes]], names: Collection[str]) -> list[Key]:
    """Of the layers of a sweep, in the order in which they are worked on."""
    sizes = next(sizes[0] for sizes in shares if sizes)
    layers = sorted((x.key for x in sizes.layers), key=lambda key: (str(key[0]), str(key[1])))
    dense = [(name,) for name in sizes.dense]
    return [key for key in (*layers, *dense) if not {*key}.isdisjoint(names)]


def _parcels(
    runs: Sequence[BatchSizes], entries: Mapping[str, int], element_size: int
) -> dict[Key, int]:
    """Bytes of what is sent of each layer, of all runs; nothing, without any."""
    found: dict[Key, int] = {}
    for run in runs:
        for layer in run.layers:
            size = _smaller(layer, run.columns, element_size)
            found[layer.key] = found.get(layer.key, 0) + size
        for name in run.dense:
            size = run.samples * run.columns * entries[name] * element_size
            found[(name,)] = found.get((name,), 0) + size
    return found


def _smaller(layer: LayerSizes, columns: int, element_size: int) -> int:
    """Of columns or factors, as `packed` chooses."""
    as_columns = layer.column_bytes(columns, element_size)
    return min(as_columns, layer.factor_bytes(columns, element_size))
