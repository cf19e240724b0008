"""Uses of parameters in an autograd graph.

Parameters are found where they are used, not in the modules that own them: functional calls,
modules called twice and tied weights need no special treatment. Each parameter ends in an
``AccumulateGrad`` node; the nodes that feed it are its uses. Those of an affine operation become
`AffineUse` objects. A parameter with any other use has no rule here and is served by the generic
one, so an operation that this file does not know can make the library slower, never wrong.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from vivit.backprop.roles import Consumers, Kind, Role, find_roles, zeros_like_output
from vivit.errors import UnsupportedError
from vivit.layers.uses import AffineUse


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
    found: dict[str, list[Role]] = {}
    others: list[str] = []
    for node in list(consumers):
        name = names.get(id(getattr(node, "variable", None)))
        if name is None:
            continue
        parameter = parameters[name]
        roles = [r for use, i in consumers[node] for r in find_roles(use, i, parameter, consumers)]
        known = [role for role in roles if role is not None]
        if len(known) == len(roles) and _agree(known):
            found[name] = sorted(known, key=lambda role: position[role.node])
        else:
            others.append(name)
    operations = _operations(found)
    served = [name for operation in operations for name in operation.parameters]
    if sorted(served) != sorted(found):
        raise AssertionError(f"parameters {sorted(found)} are served as {sorted(served)}")
    return operations, others


def _consumers(root: Node) -> Consumers:
    """All nodes of the graph with the (node, input index) pairs that use their output."""
    consumers: Consumers = defaultdict(list)
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


def _agree(roles: list[Role]) -> bool:
    """Whether all uses are of one kind, and cut the parameter into the same features."""
    return len({(role.kind, role.use.features, role.use.transposed) for role in roles}) == 1


def _operations(found: dict[str, list[Role]]) -> list[Operation]:
    """Join a weight and a bias that are always used together, leave the others alone."""
    nodes = {name: tuple(role.node for role in roles) for name, roles in found.items()}
    kinds = {name: roles[0].kind for name, roles in found.items()}
    bias_at = {nodes[name]: name for name, kind in kinds.items() if kind is Kind.BIAS}
    operations, paired = [], set()
    for name, roles in found.items():
        if kinds[name] is not Kind.BIAS:
            bias = bias_at.get(nodes[name]) if kinds[name] is Kind.WEIGHT else None
            groups, _, outputs = roles[0].use.features
            if bias is not None and found[bias][0].use.features[2] != groups * outputs:
                bias = None  # broadcast along the outputs
            paired.add(bias)
            uses = tuple(role.use for role in roles)
            operations.append(Operation(name, bias, nodes[name], uses))
    for name, roles in found.items():
        if kinds[name] is Kind.BIAS and name not in paired:
            uses = tuple(role.use for role in roles)
            operations.append(Operation(None, name, nodes[name], uses))
    return operations


def zeros_at(place: Tensor | GradientEdge) -> Tensor:
    """A zero derivative for a tensor, or for an output of a node of the graph."""
    if isinstance(place, Tensor):
        return torch.zeros_like(place)
    return zeros_like_output(place.node, place.output_nr)
