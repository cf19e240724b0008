"""A forward pass, and the backward passes through its graph."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.graph import GradientEdge, Node
from torch.func import vmap

from vivit.backprop.bags import has_bags, unfused_bags
from vivit.backprop.called import output_of, output_with
from vivit.backprop.forward import (
    eager,
    full_precision,
    twice_differentiable,
    unfused_recurrence,
    untouched,
)
from vivit.backprop.nodes import dense, has_fused_bag, last_of, zeros_at
from vivit.backprop.random_state import RandomState
from vivit.backprop.ranges import MORE_ROOM, SINGLE, SUMMED, Scaled
from vivit.dtypes import is_finite
from vivit.errors import is_out_of_memory

functorch: Any = torch._C._functorch

T = TypeVar("T")

PULLED_TOGETHER = 2**22
"""Elements of the columns that are pulled back through a function in one pass."""


class Passes:
    """The graph of one forward pass, from which all backward passes start.

    It is made when it is first needed.

    Attributes:
        carried: Whether it was made by a forward pass with tangents.
        lowest: The lowest precision in which it computes, where it is known to be lower than that
            of results.
    """

    def __init__(
        self, model: nn.Module, x: Any, random_state: RandomState, device: torch.device
    ) -> None:
        """Run nothing yet.

        Args:
            model: Maps ``x`` to a tensor.
            x: Input batch.
            random_state: Of the generators before each forward pass.
            device: Of the model.
        """
        self._model, self._x, self._random_state, self._device = model, x, random_state, device
        self._last: dict[frozenset[Node], set[Node]] = {}
        self._unfused = has_bags(model)
        self._output: Tensor | None = None
        self.carried = False
        self.lowest: torch.dtype | None = None

    @property
    def has_graph(self) -> bool:
        """Whether the graph has been made."""
        return self._output is not None

    @property
    def output(self) -> Tensor:
        """Model output, shape ``[N, *out]``, with its graph."""
        if self._output is None:
            output = self.forward(self._x)
            if not self._unfused and has_fused_bag(getattr(output, "grad_fn", None)):
                self._unfused = True
                output = self.forward(self._x)
            self._output = output
        return self._output

    def push(self, v: dict[str, Tensor], parameters: dict[str, Tensor]) -> Tensor:
        """A Jacobian-vector product by a forward pass that makes the graph, if need be anew.

        Args:
            v: Tangents of parameters; zero for those that are left out.
            parameters: These parameters, by name.

        Returns:
            Shape ``[N, *out]``; any error, if an operation has no forward mode.
        """
        scaled, tangents = self.tangents(v, parameters)
        with torch.enable_grad(), forward_ad.dual_level():
            duals = {n: forward_ad.make_dual(parameters[n], x) for n, x in tangents.items()}
            output = self.run(lambda: output_with(self._model, duals, self._x))
            self._output, tangent = forward_ad.unpack_dual(output)
        self.carried = True
        self._last.clear()
        if tangent is None:
            return torch.zeros_like(output.detach())
        return scaled.restored(tangent.detach())

    def tangents(
        self, v: dict[str, Tensor], parameters: dict[str, Tensor]
    ) -> tuple[Scaled, dict[str, Tensor]]:
        """Tangents as a forward pass can carry them.

        Args:
            v: In the precision of results.
            parameters: Whose tangents they are, by name.

        Returns:
            How they are scaled; the tangents, in the parameters' precisions.
        """
        scaled = Scaled.of([*v.values()], self.lowest)
        pairs = zip(v, scaled.tensors, strict=True)
        return scaled, {name: x.to(parameters[name].dtype) for name, x in pairs}

    @property
    def random_state_after(self) -> RandomState:
        """State of the generators after the last forward pass."""
        assert self.output is not None
        return self._after

    @property
    def is_random(self) -> bool:
        """Whether the forward pass draws random numbers."""
        return not self._random_state.same_as(self.random_state_after)

    def forward(self, x: Any) -> Tensor:
        """The model output on any batch, with a graph that can be differentiated twice."""
        with torch.enable_grad():
            return self.run(lambda: output_of(self._model, x))

    def run(self, forward: Callable[[], T]) -> T:
        """A forward pass in the same circumstances each time.

        Buffers and backward hooks of modules are taken aside, so that the ones are not changed
        and the others do not take part.
        """
        modules = [*self._model.modules()]
        with (
            self._random_state.restored() as after,
            untouched(modules) as changed_buffers,
            unfused_recurrence(modules),
            unfused_bags(self._unfused),
            full_precision(self._device),
            twice_differentiable(),
            eager(modules),
        ):
            result = forward()
        self._after = after[0]
        self._changes_buffers = bool(changed_buffers)
        return result

    @contextmanager
    def differentiating(self) -> Iterator[None]:
        """Circumstances of a backward pass, in which checkpointed parts run forward again."""
        with full_precision(self._device), twice_differentiable():
            if not self._changes_buffers:  # copying them for every pass would be in vain
                yield
                return
            with untouched(self._model.modules()):
                yield

    def pull(self, u: Tensor, inputs: list[Tensor] | list[GradientEdge]) -> list[Tensor]:
        """Derivatives of ``<u, output>``.

        Args:
            u: Shape ``[N, *out]``.
            inputs: Tensors or edges of the graph to differentiate by.

        Returns:
            A derivative for each, in the precision of results; zeros where there is no path.
        """
        if not self.output.requires_grad:
            return [zeros_at(x) for x in inputs]
        places: list[Tensor | GradientEdge] = [*inputs]
        found: list[Tensor] = []
        for largest in (SUMMED, SUMMED * MORE_ROOM):
            scaled = Scaled.of([u], self.lowest, largest)
            found = [
                zeros_at(x) if g is None else scaled.restored(dense(g))
                for g, x in zip(self._pull(scaled, inputs), places, strict=True)
            ]
            if self.lowest is not torch.float16 or all(map(is_finite, found)):
                break  # else sums of many samples were beyond the largest number
        return found

    def _pull(
        self, scaled: Scaled, inputs: list[Tensor] | list[GradientEdge]
    ) -> list[Tensor | None]:
        with self.differentiating():
            grads: tuple[Tensor | None, ...] = torch.autograd.grad(
                self.output, inputs, scaled.tensors, retain_graph=True, allow_unused=True
            )
        return [*grads]

    def visit(
        self, u: Tensor, edges: list[GradientEdge], receive: Callable[[int, Tensor], None]
    ) -> None:
        """Hand over the derivative at each edge when it is known, so that it need not live on.

        Only those edges are asked for that have no other behind them: the engine passes the
        others on its way there, and calls hooks.

        Args:
            u: Cotangent of the output.
            edges: Where the derivatives are wanted.
            receive: Takes the index of an edge and its derivative.
        """
        waiting: dict[Node, list[int]] = defaultdict(list)
        for i, edge in enumerate(edges):
            waiting[edge.node].append(i)
        scaled = Scaled.of([u], self.lowest, SINGLE)

        def hand_over(node: Node, s: Tensor | None) -> None:
            for i in waiting.pop(node, ()):
                receive(i, zeros_at(edges[i]) if s is None else scaled.restored(dense(s)))

        last = self._last_of(set(waiting)) if self.output.requires_grad else set()
        handles = [
            node.register_prehook(lambda grads, node=node: hand_over(node, grads[0]))
            for node in waiting
            if node not in last
        ]
        ends = [GradientEdge(node, 0) for node in waiting if node in last]
        try:
            arrived = self._pull(scaled, ends) if ends else []
        finally:
            for handle in handles:
                handle.remove()
        while ends:
            hand_over(ends.pop().node, arrived.pop())
        for node in list(waiting):  # no derivative comes by
            hand_over(node, None)

    def visit_together(
        self, columns: Tensor, edges: list[GradientEdge], receive: Callable[[int, Tensor], None]
    ) -> bool:
        """`visit` for several cotangents in one pass.

        Args:
            columns: Cotangents of the output, one behind the other.
            edges: Where the derivatives are wanted.
            receive: As for `visit`; what it takes stands for those of all columns: see `several`.

        Returns:
            False if an operation cannot have several at once; some may have been handed over.
        """

        def one(u: Tensor) -> Tensor:
            self.visit(u, edges, receive)
            return u

        return self._together(one, columns) is not None

    def pull_columns(self, columns: Tensor, made: GradientEdge, parameter: Tensor) -> Tensor:
        """From the columns of a tensor to those of a parameter that it is made of.

        Args:
            columns: Shape ``[M, p]``, with ``p`` entries of the tensor.
            made: Where the tensor leaves the function that makes it.
            parameter: The parameter, with ``q`` entries.

        Returns:
            Shape ``[M, q]``.
        """
        scaled = Scaled.of([columns], self.lowest)
        (columns,) = scaled.tensors
        shape = zeros_at(made).shape
        result = columns.new_empty(len(columns), parameter.numel())
        step = max(PULLED_TOGETHER // (shape.numel() + parameter.numel()), 1)

        def one(u: Tensor) -> Tensor:
            with self.differentiating():
                (found,) = torch.autograd.grad([made], [parameter], [u], retain_graph=True)
            return found.flatten()

        for some, target in zip(columns.split(step), result.split(step), strict=True):
            cotangents = some.reshape(-1, *shape)
            pulled = self._together(one, cotangents) if step > 1 else None
            target.copy_(torch.stack([*map(one, cotangents)]) if pulled is None else pulled)
        return scaled.restored(result)

    def _together(self, one: Callable[[Tensor], Tensor], cotangents: Tensor) -> Tensor | None:
        """A pass for several cotangents at once; None if some operation refuses that."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "There is a performance drop")
                result: Tensor = vmap(one)(cotangents)
                return result
        except RuntimeError as error:  # what is wrong in any case shows again, one by one
            if is_out_of_memory(error):
                raise
            return None

    def _last_of(self, nodes: set[Node]) -> set[Node]:
        """Those nodes behind which there is none of the others."""
        key = frozenset(nodes)
        if key not in self._last:
            self._last[key] = last_of(self.output.grad_fn, nodes)
        return self._last[key]


def several(x: Tensor, count: int) -> Tensor:
    """What a tensor stands for in a pass of several cotangents, one behind the other.

    Args:
        x: Of `Passes.visit_together`, or of `Passes.visit` for a single one.
        count: How many there are.

    Returns:
        Shape ``[count, *shape]``; equal ones, if it does not depend on the cotangent.
    """
    if not functorch.is_batchedtensor(x):
        return x.expand(count, *x.shape)
    values, axis = functorch._unwrap_batched(x, functorch.maybe_get_level(x))
    return values.movedim(axis, 0)
