"""What the nodes of an autograd graph tell of themselves, and walks along them.

The names of nodes and of what they save are autograd's own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from vivit.dtypes import in_working
from vivit.errors import UnsupportedError

NO_PADDING = 2**62
"""Below -1 as autograd keeps it, an unsigned number, and above any index."""

Consumers = dict[tuple[Node, int], list[tuple[Node, int]]]
"""For each output of a node the (node, input index) pairs that use it."""


def saved(node: Node, field: str) -> Any:
    """What the forward pass saved at a node."""
    return getattr(node, f"_saved_{field}")


def output_shape(node: Node) -> tuple[int, ...]:
    """Shape of the first output of a node."""
    metadata: Any = getattr(node, "_input_metadata")  # noqa: B009 - not in torch's type stubs
    return tuple(metadata[0].shape)


def output_size(nodes: Iterable[Node]) -> int:
    """Elements of the outputs of some operations of a graph."""
    operations = (node for node in {*nodes} if not hasattr(node, "variable"))
    return sum(math.prod(output_shape(node)) for node in operations)


def zeros_like_output(node: Node, index: int) -> Tensor:
    """A zero of the shape, dtype and device of one of a node's outputs, not to be written to."""
    metadata: Any = getattr(node, "_input_metadata")  # noqa: B009 - as above
    output = metadata[index]
    zero = torch.zeros((), dtype=output.dtype, device=output.device)
    return zero.expand(tuple(output.shape))


def dense(x: Tensor) -> Tensor:
    """A tensor that may be sparse, as others are; without a copy of one that is."""
    return x if x.layout is torch.strided else x.to_dense()


def zeros_at(place: Tensor | GradientEdge) -> Tensor:
    """A zero derivative for a tensor, or for an output of a node of the graph."""
    if isinstance(place, Tensor):
        return in_working(torch.zeros_like(place))
    return in_working(zeros_like_output(place.node, place.output_nr))


def is_cast(node: Node) -> bool:
    """Whether a node is nothing but its input in another precision."""
    return node.name() == "ToCopyBackward0"


def find_consumers(root: Node) -> Consumers:
    """All outputs of nodes of the graph with the (node, input index) pairs that use them."""
    consumers: Consumers = defaultdict(list)
    consumers[root, 0] = []
    todo, seen = [root], {root}
    while todo:
        node = todo.pop()
        if node.name() == "CheckpointFunctionBackward":
            raise UnsupportedError(
                "The model uses reentrant activation checkpointing, which hides parameters from "
                "autograd. Call torch.utils.checkpoint.checkpoint(..., use_reentrant=False)."
            )
        for index, (child, output) in enumerate(node.next_functions):
            if child is not None:
                consumers[child, output].append((node, index))
                if child not in seen:
                    seen.add(child)
                    todo.append(child)
    return dict(consumers)


def refuse_missing_derivatives(consumers: Consumers, parameters: Mapping[str, Tensor]) -> None:
    """Refuse operations behind parameters that autograd takes for constants, with a warning.

    Args:
        consumers: Of the graph.
        parameters: Those that count, by name.

    Raises:
        UnsupportedError: There is one.
    """
    names = {id(p): name for name, p in parameters.items()}
    for node in {node for node, _ in consumers if node.name().endswith("::WarnNotImplemented")}:
        behind = {names.get(id(getattr(x, "variable", None))) for x in reachable([node])}
        found = [name for name in parameters if name in behind]
        if found:
            raise UnsupportedError(
                f"Behind {found[0]!r} is an operation without a derivative, as modules with "
                "quantised arithmetic have: autograd takes it for a constant, and the curvature "
                "would be wrong. Compute with weights that are dequantised in forward, as "
                "adapters on 8-bit weights do, or use the model before it was quantised."
            )


def last_of(root: Node | None, nodes: set[Node]) -> set[Node]:
    """Those of some nodes of a graph from which no other of them can be reached.

    Args:
        root: Where the graph begins.
        nodes: The nodes of interest.

    Returns:
        The subset.
    """
    ahead: dict[Node, bool] = {}  # whether a node of interest lies at or behind a node
    last: set[Node] = set()
    todo = [] if root is None else [root]
    while todo:  # depth first, children before parents
        node = todo[-1]
        children = [child for child, _ in node.next_functions if child is not None]
        fresh = [child for child in children if child not in ahead]
        if fresh:
            todo += fresh
            continue
        todo.pop()
        if node in ahead:
            continue
        behind = any(ahead[child] for child in children)
        if node in nodes and not behind:
            last.add(node)
        ahead[node] = behind or node in nodes
    return last


def has_padding(root: Node) -> bool:
    """Whether a graph has an embedding with a vector that gets no gradient."""
    return any(
        node.name() == "EmbeddingBackward0" and saved(node, "padding_idx") < NO_PADDING
        for node in reachable([root])
    )


def has_fused_bag(root: Node | None) -> bool:
    """Whether a graph has a bag of embeddings as one operation."""
    nodes = () if root is None else reachable([root])
    return any(node.name() == "EmbeddingBagBackward0" for node in nodes)


def reachable(nodes: Iterable[Node]) -> set[Node]:
    """Some nodes of a graph, and all that are behind them."""
    todo = [*nodes]
    seen = set(todo)
    while todo:
        for child, _ in todo.pop().next_functions:
            if child is not None and child not in seen:
                seen.add(child)
                todo.append(child)
    return seen
