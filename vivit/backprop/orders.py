"""How operations lay out samples: as the graph shows, else as a probe finds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from vivit.backprop.apart import rows_kept_apart
from vivit.backprop.graph import Operation
from vivit.backprop.mixing import mixing_module
from vivit.backprop.passes import Passes
from vivit.backprop.sample_order import sample_orders
from vivit.layers.uses import SampleOrder

Orders = dict[Operation, tuple[SampleOrder, ...] | None]
"""Of each use; None where there is one that is not known."""


def find_orders(
    operations: Iterable[Operation], passes: Passes, model: nn.Module, x: Any
) -> Orders:
    """The orders of the uses of all operations.

    Args:
        operations: The operations.
        passes: Whose graph they are in.
        model: The model itself, a module of which is named if it mixes samples.
        x: Its inputs.

    Returns:
        By operation.

    Raises:
        UnsupportedError: The model mixes samples.
        InputError: A derivative that a probe met is NaN or infinite.
    """
    root, output = passes.output.grad_fn, passes.output.detach()
    known = frozenset() if root is None else rows_kept_apart(root, len(output))
    orders: Orders = {}
    unknown = []
    for operation in operations:
        in_order = known.issuperset(operation.nodes) and operation.begins_with_rows
        if in_order or len(output) == 1:  # whose all rows are
            orders[operation] = (SampleOrder.SAMPLE_FIRST,) * len(operation.uses)
        else:
            unknown.append(operation)

    def where() -> str | None:
        return mixing_module(model, passes.forward, x, len(output), passes.lowest)

    found = sample_orders(unknown, output, passes.visit, passes.forward, x, passes.lowest, where)
    return orders | dict(zip(unknown, found, strict=True))
