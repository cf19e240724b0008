"""Bytes that a rank sends and receives while matrices are made, predicted from sizes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from vivit.gram.forms import Form
from vivit.gram.plan import Plan, Travel
from vivit.layers.sizes import BatchSizes, LayerSizes, runs_of
from vivit.ranks import steps_of

Key = tuple[str | None, ...]
"""Names of the parameters of a layer."""

ON_THE_WAY = 3
"""Parcels of a layer that a rank holds at once: its own, one at hand and the next."""


def travel_of(
    plan: Plan,
    rank: int,
    shares: Sequence[Sequence[BatchSizes]],
    groups: Mapping[str, Collection[str]],
    entries: Mapping[str, int],
    element_size: int,
    is_centered: bool,
) -> Travel:
    """What one rank sends and receives: what layers keep, half around the ring, and matrices.

    Args:
        plan: What is formed.
        rank: Its number.
        shares: Sizes of the batches of each rank.
        groups: Names of the parameters of each group.
        entries: Of each parameter.
        element_size: Bytes of an element.
        is_centered: Whether the sum of all columns is needed, too.

    Returns:
        The bytes.
    """
    crossing = {name for x in plan.matrices if x.form is Form.GRAM for name in groups[x.group]}
    of_ranks = [_parcels(runs_of(sizes), entries, element_size) for sizes in shares]
    counts = [sum(x.samples * x.columns for x in sizes) for sizes in shares]
    sent = received = held = 0
    for key, turn in _turns(plan, shares):
        if crossing.isdisjoint(key):
            continue
        held = max(held, *(parcels.get(key, 0) for parcels in of_ranks))
        for step in steps_of(rank, len(shares), turn) if of_ranks[rank] else ():
            if step.source is not None and of_ranks[step.source]:
                received += of_ranks[step.source][key]
            if step.target is not None and of_ranks[step.target]:
                sent += of_ranks[rank][key]
    for matrix in plan.matrices:
        if matrix.form is Form.COLUMNS:
            dimension = sum(entries[name] for name in groups[matrix.group])
            size = max(counts) * dimension * element_size
            sent, received = sent + size, received + (len(shares) - 1) * size
        else:
            is_outer = matrix.form is not Form.GRAM
            size = (matrix.side + is_outer * is_centered) * matrix.side * element_size
            sent, received = sent + size, received + size
    block = max(counts) ** 2 * element_size if crossing else 0
    return Travel(len(shares), sent, received, ON_THE_WAY * held + block)


def _turns(plan: Plan, shares: Sequence[Sequence[BatchSizes]]) -> Iterator[tuple[Key, int]]:
    """Layers of all sweeps in the order in which they are worked on, and whose turn it is."""
    sizes = next(sizes[0] for sizes in shares if sizes)
    layers = sorted((x.key for x in sizes.layers), key=lambda key: (str(key[0]), str(key[1])))
    every = [*layers, *((name,) for name in sizes.dense)]
    for names in plan.sweeps:
        keys = [key for key in every if not names.isdisjoint(key)]
        yield from zip(keys, plan.turns(keys), strict=True)


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
