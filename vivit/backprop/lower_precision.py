"""Whether a model computes in a lower precision than that of its parameters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.autograd.graph import Node

from vivit.backprop.nodes import Consumers
from vivit.errors import UnsupportedError


def find_lower_precision(consumers: Consumers, parameters: Mapping[str, Tensor]) -> str | None:
    """What computes in a lower precision between a parameter and the output, if anything does."""
    if not parameters:
        return None
    dtype = next(iter(parameters.values())).dtype
    low = {node for node, _ in consumers if _eps(node) > torch.finfo(dtype).eps}
    if not low:
        return None
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
    if _eps(worst) > torch.finfo(torch.float32).eps:
        raise UnsupportedError(
            f"The model computes in a lower precision than {dtype}, that of its parameters, "
            f"{found[worst]}: the curvature would be as inaccurate as that, by up to a percent "
            "for bfloat16. Run all of it in one precision: model.float(), no torch.autocast "
            "inside of forward, no cast to a lower one."
        )
    return found[worst]


def _eps(node: Node) -> float:
    """Precision of what a node computes; zero if that is not floating-point."""
    dtypes = [tensor.dtype for tensor in node._input_metadata]
    return max((torch.finfo(x).eps for x in dtypes if x.is_floating_point), default=0.0)
