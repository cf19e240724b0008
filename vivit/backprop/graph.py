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
from dataclasses import dataclass, replace

from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import GradientEdge, Node

from vivit.backprop.lower_precision import LowerPrecision, find_lower_precision
from vivit.backprop.nodes import (
    Consumers,
    find_consumers,
    is_cast,
    output_size,
    reachable,
    refuse_missing_derivatives,
    zeros_like_output,
)
from vivit.backprop.roles import Kind, Role, find_roles
from vivit.layers.uses import AffineUse

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
    def begins_with_rows(self) -> bool:
        """Whether rows are the first axis of all outputs."""
        return all(use.begins_with_rows for use in self.uses)

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
        lower_precision: What computes in a lower precision than that of results.
        graph_size: Elements of the outputs of all operations of the graph.
    """

    operations: list[Operation]
    parts: dict[str, list[Part]]
    others: list[str]
    custom_function: str | None = None
    lower_precision: LowerPrecision | None = None
    graph_size: int = 0

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
    root: Node,
    parameters: dict[str, Tensor],
    num_samples: int,
    misread: frozenset[Node] = frozenset(),
) -> ParameterUses:
    """Find how parameters are used; those that do not influence the output are in no list.

    Args:
        root: Autograd node of the model output.
        parameters: The parameters of interest, by name.
        num_samples: Of the batch.
        misread: Nodes that look like an affine operation on samples, but are none.

    Returns:
        Their uses.

    Raises:
        UnsupportedError: Part of the graph is hidden by reentrant activation checkpointing, or
            has no derivative.
    """
    consumers = find_consumers(root)
    refuse_missing_derivatives(consumers, parameters)
    lower_precision = find_lower_precision(consumers, parameters)
    position = {node: i for i, (node, _) in enumerate(consumers)}
    names = {id(p): name for name, p in parameters.items()}
    search = _Search(root, consumers, num_samples, misread)
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
    size = output_size(node for node, _ in consumers)
    return ParameterUses(operations, _parts(places), others, hiding, lower_precision, size)


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
        num_samples: Of the batch.
        misread: Nodes that look like an affine operation on samples, but are none.
    """

    root: Node
    consumers: Consumers
    num_samples: int
    misread: frozenset[Node]

    def places(
        self, name: str, source: tuple[Node, int], parameter: Tensor
    ) -> list[_Place] | None:
        """All affine operations on a parameter and on tensors made of it; None if not all are.

        A tensor in another precision is the same one.
        """
        origins = {source: source}
        known: dict[tuple[Node, int], list[Role]] = {}
        todo, seen = [source], {source[0]}
        while todo:
            place = todo.pop()
            origin = origins[place]
            tensor = parameter if origin == source else zeros_like_output(*origin)
            for use, index in self.consumers[place]:
                roles = self._roles(use, index, tensor)
                known.setdefault(origin, []).extend(roles)
                if roles or use in seen:
                    continue
                if use is self.root or len(seen) > MAX_FUNCTIONS:
                    return None
                seen.add(use)
                fresh = [made for made in self.consumers if made[0] is use]
                origins |= {made: origin if is_cast(use) else made for made in fresh}
                todo += fresh
        found = [
            _Place(f"{name} through {origin[0].name()}", GradientEdge(*origin), alike)
            if origin != source
            else _Place(name, None, alike)
            for origin, roles in known.items()
            for alike in _alike(roles)
        ]
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
        return frozenset(operations & reachable(makers))

    def _roles(self, use: Node, index: int, tensor: Tensor) -> list[Role]:
        """What an operation does with a tensor; nothing if that is not known."""
        roles = find_roles(use, index, tensor, self.consumers)
        known = [role for role in roles if role is not None and self._may_fit(role)]
        return known if len(known) == len(roles) else []

    def _may_fit(self, role: Role) -> bool:
        """Whether an operation may be one on samples: they then have equal numbers of rows."""
        return role.node not in self.misread and role.use.rows % self.num_samples == 0


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
            key = (place.made or name, kind, nodes, uses[0].transposed)
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
