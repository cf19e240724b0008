"""What a Gram matrix will cost, predicted from sizes before it is computed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate, repeat

from vivit.gram.division import leaner, within
from vivit.gram.forms import (
    PASSES_OF_GRAM,
    PASSES_OF_PRODUCT,
    PASSES_PER_PRODUCT,
    SWEPT,
    Form,
    MatrixPlan,
    Times,
    matrix_plan,
)
from vivit.gram.layer_plans import layer_plans
from vivit.gram.plan import LIVE_COTANGENTS, LayerPlan, Plan
from vivit.layers.sizes import BatchSizes, runs_of


def make_plan(
    batches: Sequence[BatchSizes],
    groups: Mapping[str, Mapping[str, int]],
    element_size: int,
    workspace: int,
    solver_copies: int,
    available: int | None = None,
    busy: float = 0.0,
    overhead: float = 0.0,
    whole: bool = False,
    has_products: bool = True,
    of_all: int | None = None,
) -> Plan:
    """Predict evaluations, flops and bytes.

    Args:
        batches: Sizes of each batch; all have the same layers, maybe at other lengths.
        groups: For each group the number of entries of its parameters, by name.
        element_size: Bytes of an element.
        workspace: Bytes for temporaries.
        solver_copies: Matrices that the eigensolver holds beside its input.
        available: Bytes to get by with, in as many sweeps as it takes; None for one sweep.
        busy: Flops of a layer on average below which a backward pass takes as many columns as the
            workspace holds cotangents of; else one.
        overhead: Time of a product for each layer whatever its size, in flops.
        whole: Whether Gram matrices are asked for, even of few parameters.
        has_products: Whether the model may have products with ``G``; not if it has refused one.
        of_all: Columns of all ranks, whose matrices are formed; by default these are all.

    Returns:
        The plan, which has one sweep if more would not make it fit.
    """
    total = of_all or sum(x.samples * x.columns for x in batches)
    forward_flops = sum(x.forward_flops for x in batches)
    per_product = PASSES_PER_PRODUCT if has_products else math.inf
    matrices = []
    for group, sizes in groups.items():
        times = _times(batches, sizes, forward_flops, overhead, per_product)
        side = sum(sizes.values())
        found = matrix_plan(group, side, total, element_size, workspace, times, whole)
        matrices.append(found)
    entries = tuple((group, tuple(sizes.items())) for group, sizes in groups.items())
    plan, units, reaching = _in_one_sweep(
        (*batches,), entries, (*matrices,), total, element_size, workspace, solver_copies, busy
    )
    if available is not None:
        plan = within(available, plan, units)
    return leaner(plan, units, reaching, again=len(batches) > 1)


@lru_cache(maxsize=4)
def _in_one_sweep(
    batches: tuple[BatchSizes, ...],
    entries: tuple[tuple[str, tuple[tuple[str, int], ...]], ...],
    matrices: tuple[MatrixPlan, ...],
    total: int,
    element_size: int,
    workspace: int,
    solver_copies: int,
    busy: float,
) -> tuple[Plan, Sequence[Sequence[LayerPlan]], Sequence[float]]:
    """The plan for all the memory it takes, its units, and the flops that reach each of them.

    Made once for sizes that come again, as in each step of a training: for a network of a hundred
    parameters it would take a tenth of the time of all eigenvalues.
    """
    groups = {group: dict(sizes) for group, sizes in entries}
    columns = max(x.columns for x in batches)
    swept, summed, multiplied = (
        {m.group: groups[m.group] for m in matrices if m.form in forms}
        for forms in (SWEPT, (Form.SUM,), (Form.PRODUCTS,))
    )
    others = (m.group for m in matrices if m.form is not Form.GRAM)
    adding = {group: _flops_of_adding(batches, groups[group]) for group in others}
    units = [*layer_plans(runs_of(batches), swept, adding, element_size, workspace)]
    largest = max(batches, key=lambda batch: batch.samples * batch.output)
    formed = largest.samples * largest.columns * max(m.side for m in matrices) * element_size
    of_sums = layer_plans([largest], summed, adding, element_size, workspace)
    added = _units_of_sums(of_sums, formed, workspace)
    layers = [layer for unit in (*units, *added) for layer in unit]
    outputs = max((layer.output_bytes for layer in layers), default=0)
    per_pass = min(_per_pass(largest, outputs, workspace, busy), columns)
    layers += [LayerPlan((*x,), "nothing", None, 0.0, 0, 0, 0) for x in multiplied.values()]
    names = _names(swept)
    column_bytes = largest.samples * largest.output * element_size
    plan = Plan(
        num_columns=total,
        num_samples=sum(batch.samples for batch in batches),
        layers=tuple(layers),
        matrices=matrices,
        matrix_bytes=sum(m.kept_bytes for m in matrices),
        solver_bytes=_solver_bytes(matrices, solver_copies, element_size),
        forward_flops=sum(x.forward_flops for x in batches),
        sweeps=(names,) if names else (),
        summed=_names(summed),
        columns_per_pass=per_pass,
        columns_at_once=min(max(workspace // max(column_bytes, 1), per_pass), columns),
        column_bytes=column_bytes if units or added else 0,
    )
    return plan, units, [*_reaching(batches, len(units))]


def _solver_bytes(matrices: Iterable[MatrixPlan], copies: int, element_size: int) -> int:
    """Of the largest eigensolver; one of kept columns has the matrix itself to make, too."""
    return max((copies + (m.form is Form.COLUMNS)) * m.side**2 * element_size for m in matrices)


def _per_pass(largest: BatchSizes, output_bytes: int, workspace: int, busy: float) -> int:
    """Columns that a backward pass takes at once, if there are as many."""
    if largest.forward_flops >= busy * max(len(largest.layers), 1):
        return 1
    return max(workspace // max(LIVE_COTANGENTS * output_bytes, 1), 1)


def _reaching(batches: Sequence[BatchSizes], units: int) -> Iterator[float]:
    """Flops of the backward passes that reach each unit: those of the layers behind it.

    Parameters without a layer, which come last, may be anywhere: passes go all the way.
    """
    flops = [
        sum(x.columns * layer.forward_flops for x, layer in zip(batches, of_batches, strict=True))
        for of_batches in zip(*(batch.layers for batch in batches), strict=True)
    ]
    behind = [*accumulate(reversed(flops), initial=0.0)][::-1]  # with the layer itself
    yield from behind[1:]
    yield from repeat(behind[0], units - len(flops))


def _units_of_sums(
    units: Iterable[Sequence[LayerPlan]], formed_bytes: int, workspace: int
) -> list[list[LayerPlan]]:
    """Of matrices that are added up: columns are formed, as many as there is room for."""
    working = min(workspace, formed_bytes)
    return [
        [replace(layer, evaluation=None, working_bytes=working) for layer in unit]
        for unit in units
    ]


def _names(groups: Mapping[str, Mapping[str, int]]) -> frozenset[str]:
    return frozenset(name for sizes in groups.values() for name in sizes)


def _times(
    batches: Sequence[BatchSizes],
    sizes: Mapping[str, int],
    forward_flops: float,
    overhead: float,
    passes_per_product: float,
) -> Times:
    """Of the ways to the ``D x D`` matrix of some parameters."""
    adding = sum(sizes.values()) * _flops_of_adding(batches, sizes)
    launching = overhead * len(batches) * (len(batches[0].layers) + len(batches[0].dense))
    is_generic = any(name in sizes for name in batches[0].dense)  # which sends them again
    columns = [(1 + is_generic) * batch.columns for batch in batches]
    passes = (sum(columns) / len(columns) + PASSES_OF_GRAM) / PASSES_OF_PRODUCT
    sending = sum(c * batch.forward_flops for c, batch in zip(columns, batches, strict=True))
    return Times(
        product=passes_per_product * max(forward_flops, 1.0) + launching,
        sum=sending + passes * launching + adding,
    )


def _flops_of_adding(batches: Sequence[BatchSizes], sizes: Mapping[str, int]) -> float:
    """Of the ``D x D`` matrix of some parameters, for each of its rows; half of it is formed."""
    layers = [x for batch in batches for x in batch.layers if {x.weight, x.bias} & sizes.keys()]
    on_vectors = all(x.positions == 1 and x.groups == 1 and not x.one_hot for x in layers)
    on_vectors = on_vectors and not any(name in sizes for name in batches[0].dense)
    added = sum(batch.samples * (1 if on_vectors else batch.columns) for batch in batches)
    return float(added) * sum(sizes.values())
