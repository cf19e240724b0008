"""Uses of parameters in an autograd graph.

Parameters are found where they are used, not in the modules that own them: functional calls,
modules called twice and tied weights need no special treatment. Each parameter ends in an
``AccumulateGrad`` node; the nodes that feed it are its uses. Those of an affine operation become
`AffineUse` objects.

A parameter that is used in several ways, or that only becomes a weight through functions of its
own (a weight norm, a merged adapter), has *parts*: affine operations, each on the parameter itself
or on a tensor made of it. A parameter with any other use has no rule here and is served by the
generic one, so an operation that this file does not know can make the library slower, never wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import GradientEdge, Node

from vivit.backprop.roles import Consumers, Kind, Role, find_roles, saved, zeros_like_output
from vivit.errors import UnsupportedError
from vivit.layers.uses import AffineUse

NO_PADDING = 2**62
"""Below -1 as autograd keeps it, an unsigned number, and above any index."""

MAX_FUNCTIONS = 32
"""Operations between a parameter and the weights made of it, beyond which the search ends."""


@dataclass(frozen=True, eq=False)
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


@dataclass(frozen=True)
class Part:
    """An affine operation on a parameter, or on a tensor that is made of it.

    Attributes:
        operation: The operation; the name of its weight or bias says what this part is.
        made: Where the tensor leaves the function that makes it; None for the parameter itself.
    """

    operation: Operation
    made: GradientEdge | None


@dataclass(frozen=True)
class ParameterUses:
    """How parameters are used.

    Attributes:
        operations: Affine operations that are all that their parameters do.
        parts: The parts of each parameter that has several. Parameters share those on a tensor
            that is made of both.
        others: Names of the parameters that are used in another way.
        custom_function: Name of an autograd function of the user's own, if there is one.
        lower_precision: What computes in single precision for parameters in double precision.
    """

    operations: list[Operation]
    parts: dict[str, list[Part]]
    others: list[str]
    custom_function: str | None = None
    lower_precision: str | None = None

    @property
    def names(self) -> set[str]:
        """All parameters that reach the output."""
        plain = {name for operation in self.operations for name in operation.parameters}
        return plain | {*self.parts, *self.others}

    @property
    def all_operations(self) -> list[Operation]:
        """The operations, and then those of parts."""
        parts = (part.operation for each in self.parts.values() for part in each)
        return list(dict.fromkeys([*self.operations, *parts]))


def find_uses(
    root: Node, parameters: dict[str, Tensor], misread: frozenset[Node] = frozenset()
) -> ParameterUses:
    """Find how parameters are used; those that do not influence the output are in no list.

    Args:
        root: Autograd node of the model output.
        parameters: The parameters of interest, by name.
        misread: Nodes that look like an affine operation on samples, but are none.

    Returns:
        Their uses.

    Raises:
        UnsupportedError: Part of the graph is hidden by reentrant activation checkpointing, or
            computes in half precision.
    """
    consumers = _consumers(root)
    lower_precision = _lower_precision(consumers, parameters)
    position = {node: i for i, (node, _) in enumerate(consumers)}
    names = {id(p): name for name, p in parameters.items()}
    search = _Search(root, consumers, misread)
    plain: dict[str, list[Role]] = {}
    places: dict[str, list[_Place]] = {}
    others: list[str] = []
    for node, output in list(consumers):
        name = names.get(id(getattr(node, "variable", None)))
        if name is None:
            continue
        reached = search.places(name, (node, output), parameters[name])
        if reached is None:
            others.append(name)
            continue
        for place in reached:
            place.roles.sort(key=lambda role: position[role.node])
        if len(reached) == 1 and reached[0].made is None:
            plain[name] = reached[0].roles
        else:
            places[name] = reached
    operations = _operations(plain)
    served = [name for operation in operations for name in operation.parameters]
    if sorted(served) != sorted(plain):
        raise AssertionError(f"parameters {sorted(plain)} are served as {sorted(served)}")
    hiding = _custom_function(consumers)
    return ParameterUses(operations, _parts(places), others, hiding, lower_precision)


def _consumers(root: Node) -> Consumers:
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


def _lower_precision(consumers: Consumers, parameters: dict[str, Tensor]) -> str | None:
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


def _custom_function(consumers: Consumers) -> str | None:
    """A function of the user's own, which may hide parameters from autograd."""
    nodes: list[object] = [node for node, _ in consumers]
    return next((type(x).__name__ for x in nodes if isinstance(x, BackwardCFunction)), None)


@dataclass
class _Place:
    """Affine operations of one kind on one tensor.

    Attributes:
        name: Of the tensor.
        made: Where the tensor leaves the function that makes it; None for a parameter.
        roles: What the operations do with it.
    """

    name: str
    made: GradientEdge | None
    roles: list[Role]


@dataclass(frozen=True)
class _Search:
    """Follows parameters through the graph.

    Attributes:
        root: Autograd node of the model output.
        consumers: Who uses the outputs of each node.
        misread: Nodes that look like an affine operation on samples, but are none.
    """

    root: Node
    consumers: Consumers
    misread: frozenset[Node]

    def places(
        self, name: str, source: tuple[Node, int], parameter: Tensor
    ) -> list[_Place] | None:
        """All affine operations on a parameter and on tensors made of it; None if not all are."""
        found: list[_Place] = []
        todo, seen = [source], {source[0]}
        while todo:
            maker, output = todo.pop()
            is_parameter = (maker, output) == source
            tensor = parameter if is_parameter else zeros_like_output(maker, output)
            made = None if is_parameter else GradientEdge(maker, output)
            label = name if is_parameter else f"{name} through {maker.name()}"
            known: list[Role] = []
            for use, index in self.consumers[maker, output]:
                roles = self._roles(use, index, tensor)
                known += roles
                if roles or use in seen:
                    continue
                if use is self.root or len(seen) > MAX_FUNCTIONS:
                    return None
                seen.add(use)
                todo += [place for place in self.consumers if place[0] is use]
            found += [_Place(label, made, alike) for alike in _alike(known)]
        inner = self._inside_of_weights(found)
        if inner:  # they help to make a weight, and would count twice
            search = replace(self, misread=self.misread | inner)
            return search.places(name, source, parameter)
        return found

    @staticmethod
    def _inside_of_weights(places: list[_Place]) -> frozenset[Node]:
        """Those operations whose output goes into a tensor that is made of the parameter."""
        operations = {role.node for place in places for role in place.roles}
        makers = [place.made.node for place in places if place.made is not None]
        return frozenset(operations & _reachable(makers))

    def _roles(self, use: Node, index: int, tensor: Tensor) -> list[Role]:
        """What an operation does with a tensor; nothing if that is not known."""
        roles = find_roles(use, index, tensor, self.consumers)
        known = [role for role in roles if role is not None and role.node not in self.misread]
        return known if len(known) == len(roles) else []


def _alike(roles: list[Role]) -> list[list[Role]]:
    """Sort uses by kind, and by how they cut a tensor into features."""
    kinds: dict[object, list[Role]] = defaultdict(list)
    for role in roles:
        use = role.use
        kinds[role.kind, use.features, use.transposed, use.one_hot].append(role)
    return list(kinds.values())


def _parts(places: dict[str, list[_Place]]) -> dict[str, list[Part]]:
    """Give each tensor and kind of use one operation, which parameters share."""
    operations: dict[object, Operation] = {}
    parts: dict[str, list[Part]] = {}
    for name, reached in places.items():
        parts[name] = []
        for place in reached:
            nodes = tuple(role.node for role in place.roles)
            kind = place.roles[0].kind
            weight, bias = (None, place.name) if kind is Kind.BIAS else (place.name, None)
            uses = tuple(role.use for role in place.roles)
            key = (place.made or name, kind, nodes)
            operation = operations.setdefault(key, Operation(weight, bias, nodes, uses))
            parts[name].append(Part(operation, place.made))
    return parts


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
        for node in _reachable([root])
    )


def has_fused_bag(root: Node | None) -> bool:
    """Whether a graph has a bag of embeddings as one operation."""
    nodes = () if root is None else _reachable([root])
    return any(node.name() == "EmbeddingBagBackward0" for node in nodes)


def _reachable(nodes: Iterable[Node]) -> set[Node]:
    """Some nodes of a graph, and all that are behind them."""
    todo = [*nodes]
    seen = set(todo)
    while todo:
        for child, _ in todo.pop().next_functions:
            if child is not None and child not in seen:
                seen.add(child)
                todo.append(child)
    return seen


def zeros_at(place: Tensor | GradientEdge) -> Tensor:
    """A zero derivative for a tensor, or for an output of a node of the graph."""
    if isinstance(place, Tensor):
        return torch.zeros_like(place)
    return zeros_like_output(place.node, place.output_nr)
