"""What a Gram matrix will cost, predicted from sizes before it is computed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

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
from vivit.gram.plan import LIVE_COTANGENTS, LayerPlan, Plan
from vivit.layers.affine import TRIANGLE_BLOCKS
from vivit.layers.cost import (
    AffineShape,
    Evaluation,
    cheapest_evaluation,
    evaluation_cost,
    keeps_columns,
)
from vivit.layers.sizes import BatchSizes

LAST = "\uffff"
"""Columns that are kept as they are come behind all layers, whose names come before this."""


def make_plan(
    batches: Sequence[BatchSizes],
    columns: int,
    groups: Mapping[str, Mapping[str, int]],
    element_size: int,
    workspace: int,
    solver_copies: int,
    available: int | None = None,
    several_columns: bool = False,
    overhead: float = 0.0,
    whole: bool = False,
    has_products: bool = True,
) -> Plan:
    """Predict evaluations, flops and bytes.

    Args:
        batches: Sizes of each batch; their layers agree.
        columns: ``C``, columns per sample.
        groups: For each group the number of entries of its parameters, by name.
        element_size: Bytes of an element.
        workspace: Bytes for temporaries.
        solver_copies: Matrices that the eigensolver holds beside its input.
        available: Bytes to get by with, in as many sweeps as it takes; None for one sweep.
        several_columns: Whether a backward pass takes as many columns as the workspace holds
            cotangents of; else one.
        overhead: Time of a product for each layer whatever its size, in flops.
        whole: Whether Gram matrices are asked for, even of few parameters.
        has_products: Whether the model may have products with ``G``; not if it has refused one.

    Returns:
        The plan, which has one sweep if more would not make it fit.
    """
    samples = sum(batch.samples for batch in batches)
    total, forward_flops = samples * columns, _forward_flops(batches[0], samples)
    per_product = PASSES_PER_PRODUCT if has_products else math.inf
    launching = overhead * len(batches) * (len(batches[0].layers) + len(batches[0].dense))

    def matrix(group: str, sizes: Mapping[str, int]) -> MatrixPlan:
        times = _times(batches, columns, sizes, forward_flops, launching, per_product)
        dimension = sum(sizes.values())
        return matrix_plan(group, dimension, total, element_size, workspace, times, whole)

    matrices = tuple(matrix(group, sizes) for group, sizes in groups.items())
    swept, summed, multiplied = (
        {m.group: groups[m.group] for m in matrices if m.form in forms}
        for forms in (SWEPT, (Form.SUM,), (Form.PRODUCTS,))
    )
    adding = {
        m.group: _flops_of_adding(batches, columns, groups[m.group])
        for m in matrices
        if m.form is not Form.GRAM
    }
    units = [*_units(batches, columns, swept, adding, element_size, workspace)]
    largest = max(batches, key=lambda batch: batch.samples)
    added = _units_of_sums(
        _units([largest], columns, summed, adding, element_size, workspace),
        largest.samples * columns * max(m.side for m in matrices) * element_size,
        workspace,
    )
    layers = [layer for unit in (*units, *added) for layer in unit]
    layers += [
        LayerPlan((*sizes,), "nothing", None, 0.0, 0, 0, 0) for sizes in multiplied.values()
    ]
    outputs = [layer.output_bytes for unit in (*units, *added) for layer in unit]
    per_column = max(LIVE_COTANGENTS * max(outputs, default=0), 1)
    per_pass = max(min(workspace // per_column, columns), 1) if several_columns else 1
    names = _names(swept)
    column_bytes = largest.samples * largest.output * element_size
    plan = Plan(
        num_columns=total,
        num_samples=samples,
        layers=tuple(layers),
        matrices=matrices,
        matrix_bytes=sum(m.kept_bytes for m in matrices),
        solver_bytes=max(
            (solver_copies + (m.form is Form.COLUMNS)) * m.side**2 * element_size for m in matrices
        ),
        forward_flops=forward_flops,
        sweeps=(names,) if names else (),
        summed=_names(summed),
        columns_per_pass=per_pass,
        columns_at_once=min(max(workspace // max(column_bytes, 1), per_pass), columns),
        column_bytes=column_bytes if units or added else 0,
    )
    return plan if available is None else _within(available, plan, units)


def _forward_flops(sizes: BatchSizes, samples: int) -> float:
    """Of a forward pass of so many samples."""
    return sum(
        2.0 * samples * x.positions * x.groups * x.inputs * x.outputs
        for x in sizes.layers
        if not x.one_hot
    )


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
    columns: int,
    sizes: Mapping[str, int],
    forward_flops: float,
    launching: float,
    passes_per_product: float,
) -> Times:
    """Of the ways to the ``D x D`` matrix of some parameters."""
    adding = sum(sizes.values()) * _flops_of_adding(batches, columns, sizes)
    if any(name in sizes for name in batches[0].dense):  # the generic rule sends them again
        columns *= 2
    passes = (columns + PASSES_OF_GRAM) / PASSES_OF_PRODUCT
    return Times(
        product=passes_per_product * max(forward_flops, 1.0) + launching,
        sum=columns * forward_flops + passes * launching + adding,
    )


def _flops_of_adding(
    batches: Sequence[BatchSizes], columns: int, sizes: Mapping[str, int]
) -> float:
    """Of the ``D x D`` matrix of some parameters, for each of its rows; half of it is formed."""
    layers = [x for x in batches[0].layers if {x.weight, x.bias} & sizes.keys()]
    on_vectors = all(x.positions == 1 and x.groups == 1 and not x.one_hot for x in layers)
    on_vectors = on_vectors and not any(name in sizes for name in batches[0].dense)
    samples = sum(batch.samples for batch in batches)
    return float(samples) * sum(sizes.values()) * (1 if on_vectors else columns)


def _within(available: int, plan: Plan, units: Sequence[Sequence[LayerPlan]]) -> Plan:
    """The same with fewer columns at once and in a pass, and then in several sweeps, to fit."""
    if plan.peak_bytes > available:
        plan = replace(plan, columns_at_once=plan.columns_per_pass)
    while plan.peak_bytes > available and plan.columns_per_pass > 1:
        fewer = plan.columns_per_pass // 2
        plan = replace(plan, columns_per_pass=fewer, columns_at_once=fewer)
    if plan.peak_bytes <= available or not plan.sweeps:
        return plan
    sweeps = _sweeps(units, available - plan.matrix_bytes - max(plan.passing_bytes))
    if len(sweeps) < 2:
        return plan
    names = plan.sweeps[0]
    sweeps[0] |= names.difference(*sweeps)  # those without influence, as far as is known
    several = replace(plan, sweeps=tuple(sweeps))
    return several if several.peak_bytes <= available else plan


def _sweeps(units: Sequence[Sequence[LayerPlan]], limit: int) -> list[frozenset[str]]:
    """Divide layers such that no more than a limit is kept at a time, if that can be.

    Late layers come first: their backward passes end early.
    """
    sweeps: list[frozenset[str]] = []
    left = 0
    for unit in reversed(units):
        kept = sum(x.kept_bytes for x in unit)
        names = frozenset(name for x in unit for name in x.parameters)
        if sweeps and kept <= left:
            sweeps[-1] |= names
        else:
            sweeps.append(names)
            left = limit
        left -= kept
    return sweeps


def _units(
    batches: Sequence[BatchSizes],
    columns: int,
    groups: Mapping[str, Mapping[str, int]],
    adding: Mapping[str, float],
    element_size: int,
    workspace: int,
) -> Iterator[list[LayerPlan]]:
    """What is kept together: each layer, or parameter without one, in all of its groups.

    Of groups whose ``D x D`` matrix is formed, `adding` has the flops for each entry.
    """
    samples = sum(batch.samples for batch in batches)
    total = samples * columns
    if not groups:
        return
    for layer in (replace(layer, samples=samples) for layer in batches[0].layers):
        selected = {name for name in (layer.weight, layer.bias) if name is not None}
        kept = _kept(layer.shape(columns, selected), element_size)
        unit = []
        for group, sizes in groups.items():
            names = tuple(x for x in (layer.weight, layer.bias) if x in sizes and x is not None)
            if names:
                shape, own = layer.shape(columns, names), adding.get(group)
                planned = _affine(names, shape, kept, own, element_size, workspace)
                unit.append(replace(planned, turn=(str(layer.weight), str(layer.bias))))
                kept = (kept[0], 0)  # once for all groups
        yield unit
    for name in batches[0].dense:
        yield [
            _dense(name, total, sizes[name], adding.get(group), element_size)
            for group, sizes in groups.items()
            if name in sizes
        ]


def _kept(shape: AffineShape, element_size: int) -> tuple[str, int]:
    """What is kept of a layer, and its elements."""
    total = shape.samples * shape.columns * shape.groups * shape.outputs
    if keeps_columns(shape, element_size):
        return "columns", total * shape.inputs
    return "factors", total * shape.positions


def _affine(
    names: tuple[str, ...],
    shape: AffineShape,
    kept: tuple[str, int],
    adding: float | None,
    element_size: int,
    workspace: int,
) -> LayerPlan:
    """A layer's part of a group; with the flops for each entry, if ``D x D`` is formed."""
    inputs = shape.samples * shape.positions * shape.groups * shape.product
    cotangents = shape.samples * shape.columns * shape.positions * shape.groups * shape.outputs
    evaluation, working = Evaluation.DIRECT, 0
    entries = shape.groups * shape.inputs * shape.outputs
    flops = (adding or 0.0) * entries
    if adding is not None and (kept[0] == "factors" or len(names) > 1):
        working = shape.samples * shape.columns * entries  # formed, or picked, beside what stays
    if kept[0] == "factors" and adding is None:
        evaluation = cheapest_evaluation(shape, element_size)
        space = workspace // element_size
        working = min(space, _temporaries(evaluation, shape))
        if evaluation is Evaluation.DIRECT:
            working = min(space, working + inputs)  # in pieces
        elif evaluation is Evaluation.PAIRWISE:
            working += inputs + inputs // shape.groups  # in another order
        if shape.groups > 1 and evaluation is not Evaluation.HADAMARD:
            working += cotangents // shape.groups
    if adding is None:
        flops = evaluation_cost(evaluation, shape).flops
    return LayerPlan(
        names,
        kept[0],
        evaluation,
        flops,
        kept[1] * element_size,
        working * element_size,
        cotangents // shape.columns * element_size,
        inputs * element_size if kept[0] == "factors" and kept[1] else 0,
    )


def _temporaries(evaluation: Evaluation, shape: AffineShape) -> int:
    """Elements of an evaluation's temporaries in an unlimited workspace."""
    total = shape.samples * shape.columns
    if evaluation is Evaluation.HADAMARD:
        return -(-shape.samples // TRIANGLE_BLOCKS) * shape.columns * total
    if evaluation is Evaluation.DIRECT:
        return total * shape.inputs * shape.outputs
    per_pair = shape.positions * (shape.positions + shape.outputs * shape.columns)
    return shape.samples**2 * per_pair


def _dense(name: str, total: int, size: int, adding: float | None, element_size: int) -> LayerPlan:
    kept = total * size * element_size
    flops = size * (float(total**2) if adding is None else adding)
    return LayerPlan((name,), "dense", Evaluation.DIRECT, flops, kept, 0, 0, turn=(LAST, name))
