"""What a Gram matrix will cost, predicted from sizes before it is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from vivit.gram.plan import LayerPlan, Plan
from vivit.layers.cost import (
    AffineShape,
    Evaluation,
    cheapest_evaluation,
    evaluation_cost,
    keeps_columns,
)
from vivit.layers.sizes import BatchSizes


def make_plan(
    batches: Sequence[BatchSizes],
    columns: int,
    groups: Mapping[str, Mapping[str, int]],
    element_size: int,
    workspace: int,
    solver_copies: int,
    available: int | None = None,
    several_columns: bool = False,
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

    Returns:
        The plan, which has one sweep if more would not make it fit.
    """
    samples = sum(batch.samples for batch in batches)
    total = samples * columns
    sides = [min(total, sum(sizes.values())) for sizes in groups.values()]
    units = [*_units(batches, columns, groups, element_size, workspace)]
    names = frozenset(name for sizes in groups.values() for name in sizes)
    per_column = max(sum(unit[0].output_bytes for unit in units if unit), 1)
    plan = Plan(
        num_columns=total,
        num_samples=samples,
        layers=tuple(layer for unit in units for layer in unit),
        matrix_bytes=total * sum(sides) * element_size,
        solver_bytes=solver_copies * max(sides) ** 2 * element_size,
        forward_flops=sum(
            2.0 * samples * x.positions * x.groups * x.inputs * x.outputs
            for x in batches[0].layers
            if not x.one_hot
        ),
        sides=tuple(sides),
        sweeps=(names,),
        columns_per_pass=(max(min(workspace // per_column, columns), 1) if several_columns else 1),
    )
    return plan if available is None else _within(available, plan, units)


def _within(available: int, plan: Plan, units: Sequence[Sequence[LayerPlan]]) -> Plan:
    """The same with fewer columns per pass, and then in several sweeps, if that makes it fit."""
    while plan.peak_bytes > available and plan.columns_per_pass > 1:
        plan = replace(plan, columns_per_pass=plan.columns_per_pass // 2)
    if plan.peak_bytes <= available:
        return plan
    sweeps = _sweeps(units, available - plan.matrix_bytes - max(plan.passing_bytes))
    if len(sweeps) < 2:
        return plan
    (names,) = plan.sweeps
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
    element_size: int,
    workspace: int,
) -> Iterator[list[LayerPlan]]:
    """What is kept together: each layer, or parameter without one, in all of its groups."""
    samples = sum(batch.samples for batch in batches)
    total = samples * columns
    for layer in (replace(layer, samples=samples) for layer in batches[0].layers):
        selected = {name for name in (layer.weight, layer.bias) if name is not None}
        kept = _kept(layer.shape(columns, selected), element_size)
        unit = []
        for sizes in groups.values():
            names = tuple(x for x in (layer.weight, layer.bias) if x in sizes and x is not None)
            if names:
                small = sum(sizes.values()) <= total
                shape = layer.shape(columns, names)
                unit.append(_affine(names, shape, kept, small, element_size, workspace))
                kept = (kept[0], 0)  # once for all groups
        yield unit
    for name in batches[0].dense:
        yield [
            _dense(name, total, sizes[name], element_size)
            for sizes in groups.values()
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
    small: bool,
    element_size: int,
    workspace: int,
) -> LayerPlan:
    """A layer's part of a group, which may be small enough for its ``D x D`` matrix."""
    inputs = shape.samples * shape.positions * shape.groups * shape.product
    cotangents = shape.samples * shape.columns * shape.positions * shape.groups * shape.outputs
    evaluation, working = Evaluation.DIRECT, 0
    if kept[0] == "factors" and not small:
        evaluation = cheapest_evaluation(shape, element_size)
        space = workspace // element_size
        working = min(space, _temporaries(evaluation, shape))
        if evaluation is Evaluation.DIRECT:
            working = min(space, working + inputs)  # in pieces
        elif evaluation is Evaluation.PAIRWISE:
            working += inputs + inputs // shape.groups  # in another order
        if shape.groups > 1 and evaluation is not Evaluation.HADAMARD:
            working += cotangents // shape.groups
    return LayerPlan(
        names,
        kept[0],
        evaluation,
        evaluation_cost(evaluation, shape).flops,
        kept[1] * element_size,
        working * element_size,
        cotangents // shape.columns * element_size,
        inputs * element_size if kept[0] == "factors" and kept[1] else 0,
    )


def _temporaries(evaluation: Evaluation, shape: AffineShape) -> int:
    """Elements of an evaluation's temporaries in an unlimited workspace."""
    total = shape.samples * shape.columns
    if evaluation is Evaluation.HADAMARD:
        return total**2
    if evaluation is Evaluation.DIRECT:
        return total * shape.inputs * shape.outputs
    per_pair = shape.positions * (shape.positions + shape.outputs * shape.columns)
    return shape.samples**2 * per_pair


def _dense(name: str, total: int, size: int, element_size: int) -> LayerPlan:
    kept = total * size * element_size
    return LayerPlan((name,), "dense", Evaluation.DIRECT, float(total**2 * size), kept, 0, 0)
