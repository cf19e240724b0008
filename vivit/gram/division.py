"""How layers are divided among sweeps of backward passes, each of which keeps its own layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from vivit.gram.plan import LayerPlan, Plan

Units = Sequence[Sequence[LayerPlan]]
"""What is kept together, from the first layers on."""

LEAN = 256 * 2**20
"""Bytes of a peak up to which one sweep is lean enough."""

SLOWER = 1.15
"""Predicted time of two sweeps, relative to that of one, up to which they may save memory."""

SAVED = 0.75
"""Peak of two sweeps, relative to that of one, from which on they are not worth their time."""

PER_FLOP = 2.5
"""Time of a flop of backward passes, in flops of contractions: these reach most of the rate of
matrix products, backward passes less than half of it."""


def within(available: int, plan: Plan, units: Units) -> Plan:
    """The same with fewer columns at once and in a pass, and then in several sweeps, to fit.

    Args:
        available: Bytes to get by with.
        plan: In one sweep.
        units: Its layers.
    """
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
    several = _divided(plan, sweeps, len(sweeps))
    return several if several.peak_bytes <= available else plan


def leaner(plan: Plan, units: Units, reaching: Iterable[float], again: bool) -> Plan:
    """The same in two sweeps, if they save much memory for little time.

    The first one is of late layers, so that its passes end early.

    Args:
        plan: In as many sweeps as it takes to fit.
        units: Its layers.
        reaching: Flops of the backward passes that reach each unit.
        again: Whether a second sweep makes the graphs anew, as those of several batches.

    Returns:
        The plan with the smallest peak among those that are hardly slower.
    """
    if plan.peak_bytes <= LEAN or len(plan.sweeps) != 1:
        return plan
    passes = [*reaching]
    bearable = (SLOWER - 1) * (plan.flops + PER_FLOP * passes[0])
    best = plan
    for cut in range(1, len(units)):
        more = max(passes[cut:]) + again * plan.forward_flops
        if PER_FLOP * more <= bearable:
            late = frozenset(name for unit in units[cut:] for x in unit for name in x.parameters)
            several = _divided(plan, [late, plan.sweeps[0] - late], 1 + more / max(passes[0], 1.0))
            if several.peak_bytes < best.peak_bytes:
                best = several
    return best if best.peak_bytes <= SAVED * plan.peak_bytes else plan


def _divided(plan: Plan, sweeps: list[frozenset[str]], passes: float) -> Plan:
    (names,) = plan.sweeps
    first = sweeps[0] | names.difference(*sweeps)  # those without influence, as far as is known
    return replace(plan, sweeps=(first, *sweeps[1:]), passes=passes)


def _sweeps(units: Units, limit: int) -> list[frozenset[str]]:
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
