"""Whether a model computes in a lower precision than that of results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import Node

from vivit.backprop.nodes import Consumers
from vivit.dtypes import working

ACCURACY = {torch.float32: 1e-7, torch.float16: 1e-3, torch.bfloat16: 1e-2}
"""Errors of curvature relative to the largest, by the precision in which a model computes."""


@dataclass(frozen=True)
class LowerPrecision:
    """What computes in a lower precision.

    Attributes:
        dtype: The precision.
        where: Between which parameter and the output, and at which operation.
    """

    dtype: torch.dtype
    where: str

    @property
    def warning(self) -> str:
        """What to tell."""
        accuracy = ACCURACY.get(self.dtype, torch.finfo(self.dtype).eps)
        return (
            f"The model computes in {str(self.dtype).removeprefix('torch.')} {self.where}: "
            f"curvature is accurate to about {accuracy:.0e}, relative to the largest. For more, "
            "compute all of it in the precision of the results: model.float() or model.double(), "
            "no torch.autocast, no cast to a lower one."
        )


def find_lower_precision(
    consumers: Consumers, parameters: Mapping[str, Tensor]
) -> LowerPrecision | None:
    """What computes in a lower precision than results, between a parameter and the output.

    Args:
        consumers: Who uses the outputs of each node.
        parameters: By name.

    Returns:
        The lowest; None if there is none.
    """
    if not parameters:
        return None
    dtype = working(next(iter(parameters.values())).dtype)
    nodes, bound = {node for node, _ in consumers}, torch.finfo(dtype).eps
    if all(torch.finfo(x).eps <= bound for x in {x for node in nodes for x in _floating(node)}):
        return None
    low = {node for node in nodes if _eps(node) > bound}
    uses: dict[Node, list[Node]] = defaultdict(list)
    for (node, _), users in consumers.items():
        uses[node] += [user for user, _ in users]
    names = {id(p): name for name, p in parameters.items()}
    ends = {node: names.get(id(getattr(node, "variable", None))) for node in uses}
    behind = {node: name for node, name in ends.items() if name is not None}
    todo, found = [*behind], {}
    while todo:
        node = todo.pop()
        if node in low:
            found[node] = f"between {behind[node]!r} and the output (at {node.name()})"
        fresh = {user: behind[node] for user in uses[node] if user not in behind}
        behind.update(fresh)
        todo += fresh
    if not found:
        return None
    worst = max(found, key=_eps)
    return LowerPrecision(max(_floating(worst), key=lambda x: torch.finfo(x).eps), found[worst])


def _floating(node: Node) -> list[torch.dtype]:
    return [x.dtype for x in node._input_metadata if x.dtype.is_floating_point]


def _eps(node: Node) -> float:
    """Precision of what a node computes; zero if that is not floating-point."""
    return max((torch.finfo(dtype).eps for dtype in _floating(node)), default=0.0)
