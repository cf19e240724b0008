"""Uses of parameters in an autograd graph.

Parameters are found where they are used, not in the modules that own them: functional calls,
modules called twice and tied weights need no special treatment. Each parameter ends in an
``AccumulateGrad`` node; the nodes that feed it are its uses. Those of an affine operation become
`AffineUse` objects. A parameter with any other use has no rule here and is served by the generic
one, so an operation that this file does not know can make the library slower, never wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from vivit.errors import UnsupportedError
from vivit.layers.uses import AffineUse, BiasUse, ConvolutionUse, LinearUse


@dataclass(frozen=True)
class Operation:
    """Uses of one pair of parameters by affine operations, to become an `AffineLayer`.

    Attributes:
        weight: Name of the weight, if it is selected.
        bias: Name of the bias, if it is selected.
        nodes: The operations' autograd nodes.
        uses: What they compute, in the order of ``nodes``.
    """

    weight: str | None
    bias: str | None
    nodes: tuple[Node, ...]
    uses: tuple[AffineUse, ...]

    @property
    def edges(self) -> list[GradientEdge]:
        """Where the cotangents of the operations' outputs arrive."""
        return [GradientEdge(node, 0) for node in self.nodes]

    @property
    def parameters(self) -> list[str]:
        """Names of the parameters."""
        return [name for name in (self.weight, self.bias) if name is not None]


def find_operations(
    root: Node, parameters: dict[str, Tensor]
) -> tuple[list[Operation], list[str]]:
    """Find how parameters are used.

    Args:
        root: Autograd node of the model output.
        parameters: The parameters of interest, by name.

    Returns:
        The affine operations, and the names of all parameters that are used in another way.
        Parameters in neither do not influence the output.

    Raises:
        UnsupportedError: Part of the graph is hidden by reentrant activation checkpointing.
    """
    consumers = _consumers(root)
    position = {node: i for i, node in enumerate(consumers)}
    names = {id(p): name for name, p in parameters.items()}
    weights: dict[str, list[Node]] = {}
    biases: dict[str, list[Node]] = {}
    others: list[str] = []
    for node in list(consumers):
        name = names.get(id(getattr(node, "variable", None)))
        if name is None:
            continue
        roles = [
            _role(consumer, index, parameters[name], consumers)
            for consumer, index in consumers[node]
        ]
        nodes = sorted((n for _, found in roles for n in found), key=position.__getitem__)
        kinds = {kind for kind, _ in roles}
        if kinds == {"weight"} and _agree(nodes):
            weights[name] = nodes
        elif kinds == {"bias"}:
            biases[name] = nodes
        else:
            others.append(name)
    operations = _operations(weights, biases, parameters)
    served = [name for operation in operations for name in operation.parameters]
    found = [*weights, *biases, *others]
    if sorted(served + others) != sorted(found):
        raise AssertionError(f"parameters {found} are served as {served} and {others}")
    return operations, others


def _consumers(root: Node) -> dict[Node, list[tuple[Node, int]]]:
    """All nodes of the graph with the (node, input index) pairs that use their output."""
    consumers: dict[Node, list[tuple[Node, int]]] = defaultdict(list)
    consumers[root] = []
    todo, seen = [root], {root}
    while todo:
        node = todo.pop()
        if node.name() == "CheckpointFunctionBackward":
            raise UnsupportedError(
                "The model uses reentrant activation checkpointing, which hides parameters from "
                "autograd. Call torch.utils.checkpoint.checkpoint(..., use_reentrant=False)."
            )
        for index, (child, _) in enumerate(node.next_functions):
            if child is not None:
                consumers[child].append((node, index))
                if child not in seen:
                    seen.add(child)
                    todo.append(child)
    return dict(consumers)


def _role(
    node: Node, index: int, parameter: Tensor, consumers: dict[Node, list[tuple[Node, int]]]
) -> tuple[str, list[Node]]:
    """What the operation ``node`` does with a parameter that is its input ``index``.

    Anything but the positions that are listed here is another role: a parameter may well be the
    input of a convolution.
    """
    match node.name(), index:
        case "TBackward0", 0 if parameter.ndim == 2:
            uses = consumers[node]
            if uses and all(_multiplies_transposed(use, i) for use, i in uses):
                return "weight", [use for use, _ in uses]
        case "ConvolutionBackward0", 1 if not _saved(node, "transposed"):
            return "weight", [node]
        case "ConvolutionBackward0", 2 if not _saved(node, "transposed"):
            return "bias", [node]
        case "AddmmBackward0", 0 if _is_plain_addmm(node) and _is_last_axis(parameter, node):
            return "bias", [node]
        case "AddBackward0", 0 if _is_last_axis(parameter, node):
            return "bias", [node]
        case "AddBackward0", 1 if _saved(node, "alpha") == 1 and _is_last_axis(parameter, node):
            return "bias", [node]
    return "other", []


def _is_last_axis(parameter: Tensor, node: Node) -> bool:
    """Whether a vector lies along the last axis; one that is broadcast otherwise is no bias."""
    shape = _output_shape(node)
    return len(shape) > 1 and tuple(parameter.shape) == shape[-1:]


def _multiplies_transposed(node: Node, index: int) -> bool:
    if node.name() == "MmBackward0":
        return index == 1
    return node.name() == "AddmmBackward0" and index == 2 and _is_plain_addmm(node)


def _is_plain_addmm(node: Node) -> bool:
    return _saved(node, "alpha") == 1 and _saved(node, "beta") == 1


def _agree(nodes: list[Node]) -> bool:
    """Whether all operations cut the parameter into the same features."""
    return len({_channel_groups(node) for node in nodes}) == 1


def _channel_groups(node: Node) -> int:
    return _saved(node, "groups") if node.name() == "ConvolutionBackward0" else 1


def _operations(
    weights: dict[str, list[Node]], biases: dict[str, list[Node]], parameters: dict[str, Tensor]
) -> list[Operation]:
    """Join a weight and a bias that are always used together, leave the others alone."""
    bias_at = {tuple(nodes): name for name, nodes in biases.items()}
    operations = []
    for weight, nodes in weights.items():
        bias = bias_at.pop(tuple(nodes), None)
        uses = tuple(_WEIGHT_USES[node.name()](node) for node in nodes)
        operations.append(Operation(weight, bias, tuple(nodes), uses))
    for alone in bias_at.values():
        nodes = biases[alone]
        uses = tuple(_bias_use(node, parameters[alone]) for node in nodes)
        operations.append(Operation(None, alone, tuple(nodes), uses))
    return operations


def _linear_use(node: Node) -> LinearUse:
    field = "mat1" if node.name() == "AddmmBackward0" else "self"
    return LinearUse(_saved(node, field).detach(), _output_shape(node)[1])


def _convolution_use(node: Node) -> ConvolutionUse:
    return ConvolutionUse(
        input=_saved(node, "input").detach(),
        weight_shape=tuple(_saved(node, "weight").shape),
        output_size=_output_shape(node)[2:],
        stride=tuple(_saved(node, "stride")),
        padding=tuple(_saved(node, "padding")),
        dilation=tuple(_saved(node, "dilation")),
        groups=_saved(node, "groups"),
    )


def _bias_use(node: Node, bias: Tensor) -> BiasUse:
    return BiasUse(bias, _output_shape(node), 1 if node.name() == "ConvolutionBackward0" else -1)


_WEIGHT_USES: dict[str, Callable[[Node], AffineUse]] = {
    "AddmmBackward0": _linear_use,
    "MmBackward0": _linear_use,
    "ConvolutionBackward0": _convolution_use,
}


def _saved(node: Node, field: str) -> Any:
    """What the forward pass saved at a node; its names are autograd's own."""
    return getattr(node, f"_saved_{field}")


def _output_shape(node: Node) -> tuple[int, ...]:
    metadata: Any = getattr(node, "_input_metadata")  # noqa: B009 - not in torch's type stubs
    return tuple(metadata[0].shape)


def zeros_at(place: Tensor | GradientEdge) -> Tensor:
    """A zero derivative for a tensor, or for an output of a node of the graph."""
    if isinstance(place, Tensor):
        return torch.zeros_like(place)
    metadata: Any = getattr(place.node, "_input_metadata")  # noqa: B009 - see _output_shape
    output = metadata[place.output_nr]
    return torch.zeros(tuple(output.shape), dtype=output.dtype, device=output.device)
