"""What each layer will keep, and how it will be contracted, predicted from sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from vivit.gram.plan import LayerPlan
from vivit.layers.affine import THINNEST_PRODUCTS, TRIANGLE_BLOCKS
from vivit.layers.cost import (
    AffineShape,
    Evaluation,
    cheapest_evaluation,
    evaluation_cost,
    keeps_columns,
)
from vivit.layers.sizes import BatchSizes, LayerSizes

LAST = "\uffff"
"""Columns that are kept as they are come behind all layers, whose names come before this."""


def layer_plans(
    runs: Sequence[BatchSizes],
    groups: Mapping[str, Mapping[str, int]],
    adding: Mapping[str, float],
    element_size: int,
    workspace: int,
) -> Iterator[list[LayerPlan]]:
    """What is kept together: each layer, or parameter without one, in all of its groups.

    Of groups whose ``D x D`` matrix is formed, `adding` has the flops for each entry.
    """
    if not groups:
        return
    total = sum(run.samples * run.columns for run in runs)
    for layers in zip(*(run.layers for run in runs), strict=True):
        own = {x: sizes for x, sizes in groups.items() if {*layers[0].key} & sizes.keys()}
        of_runs = (
            _unit(layer, run.columns, own, adding, element_size, workspace)
            for layer, run in zip(layers, runs, strict=True)
        )
        joined = zip(own, *of_runs, strict=True)
        yield [_joined(parts, group in adding) for group, *parts in joined]
    for name in runs[0].dense:
        yield [
            _dense(name, total, sizes[name], adding.get(group), element_size)
            for group, sizes in groups.items()
            if name in sizes
        ]


def _unit(
    layer: LayerSizes,
    columns: int,
    groups: Mapping[str, Mapping[str, int]],
    adding: Mapping[str, float],
    element_size: int,
    workspace: int,
) -> list[LayerPlan]:
    """A layer in all of its groups, in one run of batches."""
    selected = {name for name in layer.key if name is not None}
    kept = _kept(layer.shape(columns, selected), element_size)
    unit = []
    for group, sizes in groups.items():
        names = tuple(x for x in layer.key if x in sizes and x is not None)
        shape, own = layer.shape(columns, names), adding.get(group)
        planned = _affine(names, shape, kept, own, element_size, workspace)
        unit.append(replace(planned, turn=(str(layer.weight), str(layer.bias))))
        kept = (kept[0], 0)  # once for all groups
    return unit


def _joined(parts: Sequence[LayerPlan], adds: bool) -> LayerPlan:
    """A layer in all runs; its Gram matrix has products of their columns with each other, too."""
    first, *others = parts
    if not others:
        return first
    return replace(
        first,
        flops=first.flops if adds else sum(x.flops**0.5 for x in parts) ** 2,
        kept_bytes=sum(x.kept_bytes for x in parts),
        working_bytes=max(x.working_bytes for x in parts),
        output_bytes=max(x.output_bytes for x in parts),
        input_bytes=sum(x.input_bytes for x in parts),
    )


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
        rows = max(-(-shape.samples // TRIANGLE_BLOCKS) * shape.columns, THINNEST_PRODUCTS)
        return min(rows, total) * total
    if evaluation is Evaluation.DIRECT:
        return total * shape.inputs * shape.outputs
    per_pair = shape.positions * (shape.positions + shape.outputs * shape.columns)
    return shape.samples**2 * per_pair


def _dense(name: str, total: int, size: int, adding: float | None, element_size: int) -> LayerPlan:
    kept = total * size * element_size
    flops = size * (float(total**2) if adding is None else adding)
    return LayerPlan((name,), "dense", Evaluation.DIRECT, flops, kept, 0, 0, turn=(LAST, name))
