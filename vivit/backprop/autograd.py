"""The autograd driver: any model with any ``forward``, by walking its autograd graph."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node
from torch.func import functional_call, jvp

from vivit.backprop.checks import (
    Versions,
    check_output,
    once_differentiable,
    refuse_batch_statistics,
    refuse_contexts,
    refuse_gradient_hooks,
    refuse_renormalized_embeddings,
)
from vivit.backprop.forward import (
    full_precision,
    twice_differentiable,
    unfused_recurrence,
    untouched,
)
from vivit.backprop.graph import (
    Operation,
    ParameterUses,
    find_uses,
    has_padding,
    last_of,
    zeros_at,
)
from vivit.backprop.layout import Layout, arrange
from vivit.backprop.random_state import RandomState
from vivit.backprop.sample_order import PROBE_SEED, sample_orders, take_samples
from vivit.layers.layer import AffineLayer
from vivit.layers.uses import SampleOrder
from vivit.plan import BatchSizes

T = TypeVar("T")


def same_output(output: Tensor, expected: Tensor) -> bool:
    """Whether two outputs are the same but for rounding errors."""
    if output.shape != expected.shape:
        return False
    tolerance = 1e3 * torch.finfo(expected.dtype).eps * expected.abs().max()
    return bool((output - expected).abs().max() <= tolerance)


class Linearization:
    """A model at its parameters and one batch, ready to be differentiated many times.

    Holds the autograd graph of one forward pass. All products below start from it, so they agree
    on dropout masks and need no further forward pass.

    Attributes:
        output: Model output, shape ``[N, *out]``, without gradient.
        parameters: The selected parameters, by name.
        random_state_after: Of the generators after the forward pass.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Any,
        parameters: dict[str, Tensor],
        random_state: RandomState,
        generic: frozenset[str] = frozenset(),
    ) -> None:
        """Run the forward pass and find how the parameters are used.

        Args:
            model: Maps ``x`` to a tensor of shape ``[N, *out]``.
            x: Input batch.
            parameters: The selected parameters of ``model``, by name.
            random_state: Of the generators before the forward pass.
            generic: Names of parameters that are to be served by the generic rule in any case.

        Raises:
            InputError: The output is not a finite tensor, or has no samples.
            UnsupportedError: The model mixes samples or cannot be differentiated correctly.
        """
        refuse_batch_statistics(model)
        refuse_renormalized_embeddings(model)
        refuse_gradient_hooks(parameters)
        refuse_contexts()
        self._model, self._x, self._random_state = model, x, random_state
        self._generic, self._device = generic, next(iter(parameters.values())).device
        self._samples: Tensor | None = None
        self._last: dict[frozenset[Node], set[Node]] = {}
        self._output = self._forward(x)
        check_output(self._output, parameters)
        self.output = self._output.detach()
        self.parameters = parameters
        self._versions = Versions.of(parameters, x)
        self._transposed: tuple[Tensor, dict[str, Tensor]] | None = None
        self._has_forward_mode: bool | None = None
        self._parameter_uses = self._find_uses()

    @property
    def layers(self) -> list[AffineLayer]:
        """Affine layers, by whose index `send_back` hands over cotangents."""
        if self._samples is None:
            return self.layout.layers
        return [replace(layer, samples=self._samples) for layer in self.layout.layers]

    def _forward(self, x: Any) -> Tensor:
        """The model output, with a graph of operations that can be differentiated twice."""
        with torch.enable_grad():
            return self._run(lambda: self._model(x))

    def _run(self, forward: Callable[[], T]) -> T:
        """A forward pass in the same circumstances each time.

        Buffers and backward hooks of modules are taken aside, so that the ones are not changed
        and the others do not take part.
        """
        with (
            self._random_state.restored() as after,
            untouched(self._model) as changed_buffers,
            unfused_recurrence(self._model),
            full_precision(self._device),
            twice_differentiable(),
        ):
            result = forward()
        self.random_state_after = after[0]
        self._changes_buffers = bool(changed_buffers)
        return result

    @contextmanager
    def _differentiating(self) -> Iterator[None]:
        """Circumstances of a backward pass, in which checkpointed parts run forward again."""
        with full_precision(self._device), twice_differentiable():
            if not self._changes_buffers:  # copying them for every pass would be in vain
                yield
                return
            with untouched(self._model):
                yield

    def _orders(self, uses: ParameterUses) -> dict[Operation, tuple[SampleOrder, ...] | None]:
        operations = uses.all_operations
        found = sample_orders(operations, self.output, self._visit, self._forward, self._x)
        return dict(zip(operations, found, strict=True))

    def _find_uses(self, misread: frozenset[Node] = frozenset()) -> ParameterUses:
        root = self._output.grad_fn
        if root is None:  # a parameter is the output itself, or there is none
            others = list(self.parameters if self._output.requires_grad else ())
            return ParameterUses([], {}, others)
        affine = {name: p for name, p in self.parameters.items() if name not in self._generic}
        with self._differentiating():  # it reads what checkpointed parts have saved
            uses = find_uses(root, affine, misread)
        return replace(uses, others=[*uses.others, *self._generic])

    @property
    def sizes(self) -> BatchSizes:
        """What this batch will leave for its Gram matrix, if all operations are as they look.

        It is known before any backward pass.
        """
        uses, samples = self._parameter_uses, len(self.output)
        position = {name: i for i, name in enumerate(self.parameters)}
        operations = sorted(uses.operations, key=lambda x: position[x.parameters[0]])
        layers = (AffineLayer(x.weight, x.bias, x.uses, (), samples) for x in operations)
        dense = (*uses.parts, *uses.others)
        return BatchSizes(samples, tuple(layer.sizes for layer in layers), dense)

    @cached_property
    def layout(self) -> Layout:
        """How the parameters are served; products with the GGN do without."""
        self.check_fresh()
        uses = self._parameter_uses
        orders = self._orders(uses)
        misread = [node for x, order in orders.items() if order is None for node in x.nodes]
        if misread:  # some may be part of how a weight is made
            uses = self._find_uses(frozenset(misread))
            orders = self._orders(uses)
        layout = arrange(uses, orders, len(self.output))
        inputs = (use.input for layer in layout.layers for use in layer.uses)
        self._versions.watch(x for x in inputs if x is not None)
        return layout

    def of_samples(self, samples: Tensor) -> Linearization | None:
        """The model on some of the samples alone, whose backward passes cost less.

        Args:
            samples: Their indices.

        Returns:
            None if that is another function: if the model draws random numbers, which it would
            draw anew, or gives other outputs or none at all.
        """
        self.check_fresh()
        if not self._random_state.same_as(self.random_state_after):
            return None
        try:
            x = take_samples(self._x, samples, len(self.output))
            some = Linearization(
                self._model, x, self.parameters, self._random_state, self._generic
            )
        except Exception:  # a model may need its batch size, and say so in any way
            return None
        return some if same_output(some.output, self.output[samples]) else None

    @contextmanager
    def restricted(self, samples: Tensor | None) -> Iterator[Linearization]:
        """Let factors belong to some of the samples only.

        Args:
            samples: Their indices; None for all.

        Yields:
            This object.
        """
        self._samples = samples
        try:
            yield self
        finally:
            self._samples = None

    def send_back(
        self,
        factor: Tensor,
        wanted: Collection[int],
        receive: Callable[[int, int, Tensor], None],
        at_a_time: int = 1,
    ) -> None:
        """Backpropagate the columns of a loss-Hessian factor to the affine layers.

        Args:
            factor: Shape ``[N, C, *out]`` for the samples to which this is `restricted`.
            wanted: Indices of layers in `layers`; backward passes end where no other is behind.
            receive: Takes the index of a layer in `layers`, that of a column, and the cotangent
                ``[N, T, g, o]``, which does not live on; the columns of a layer come in order.
            at_a_time: Columns of a pass, whose cotangents at all layers then live at once. It is
                one in any case for operations that cannot have several.
        """
        self.check_fresh()
        layers, groups = self.layers, self.layout.edges
        flat = [edge for i in wanted for edge in groups[i]]
        if not flat:
            return
        owners = [(i, place) for i in wanted for place in range(len(groups[i]))]

        def receiver(c: int) -> Callable[[int, Tensor], None]:
            partial: dict[int, dict[int, Tensor]] = {}

            def take(edge: int, s: Tensor) -> None:
                i, place = owners[edge]
                arrived = partial.setdefault(i, {})
                arrived[place] = s
                if len(arrived) == len(groups[i]):
                    del partial[i]
                    uses = [arrived[place] for place in range(len(groups[i]))]
                    receive(i, c, layers[i].cotangents(uses))

            return take

        for start in range(0, factor.shape[1], at_a_time):
            columns = [self._embed(x) for x in factor[:, start : start + at_a_time].unbind(1)]
            receivers = [receiver(start + r) for r in range(len(columns))]
            if len(columns) == 1 or not self._visit_together(columns, flat, receivers):
                for column, take in zip(columns, receivers, strict=True):
                    self._visit(column, flat, take)

    def sample_columns(
        self, factor: Tensor, samples: Tensor | None, names: Sequence[str]
    ) -> Iterator[tuple[int, int, dict[str, Tensor]]]:
        """The generic rule: one vector-Jacobian product per sample and column.

        Args:
            factor: Shape ``[N, C, *out]``.
            samples: Indices of these samples in the batch; None for all.
            names: Parameters that need it.

        Yields:
            Sample ``n``, column ``c`` and ``J_n^T s_nc`` for the parameters.
        """
        self.check_fresh()
        inputs = [self.parameters[name] for name in names]
        if not inputs:
            return
        cotangent = torch.zeros_like(self.output)
        rows = range(len(self.output)) if samples is None else samples.tolist()
        for n, row in enumerate(rows):
            for c in range(factor.shape[1]):
                cotangent[row] = factor[n, c]
                yield n, c, dict(zip(names, self._pull(cotangent, inputs), strict=True))
            cotangent[row] = 0

    def pull_columns(self, columns: Tensor, made: GradientEdge, name: str) -> Tensor:
        """From the columns of a tensor to those of a parameter that it is made of.

        Args:
            columns: Shape ``[M, p]``, with ``p`` entries of the tensor.
            made: Where the tensor leaves the function that makes it.
            name: Of the parameter.

        Returns:
            Shape ``[M, q]``, with ``q`` entries of the parameter.
        """
        self.check_fresh()
        parameter, like = self.parameters[name], zeros_at(made)
        result = columns.new_empty(len(columns), parameter.numel())
        with self._differentiating():
            for row, column in zip(result, columns, strict=True):
                (pulled,) = torch.autograd.grad(
                    [made], [parameter], [column.reshape(like.shape)], retain_graph=True
                )
                row.copy_(pulled.flatten())
        return result

    def pullback(self, u: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """Vector-Jacobian product ``sum_n J_n^T u_n``.

        Args:
            u: Shape ``[N, *out]``.
            names: Parameters to differentiate by.

        Returns:
            A tensor of the parameter's shape for each name.
        """
        self.check_fresh()
        names = list(names)
        inputs = [self.parameters[name] for name in names]
        return dict(zip(names, self._pull(u, inputs), strict=True))

    def pushforward(self, v: dict[str, Tensor]) -> Tensor:
        """Jacobian-vector product ``J_n v``, by differentiating the linear map `pullback`.

        Args:
            v: Tensors of the parameters' shapes; zero for those that are left out.

        Returns:
            Shape ``[N, *out]``.
        """
        self.check_fresh()
        if self._transposed is None:
            self._transposed = self._differentiable_pullback()
            self._check_adjoint()
        u, pulled = self._transposed
        names = [name for name in v if name in pulled]
        if not names:
            return torch.zeros_like(self.output)
        outputs, directions = [pulled[name] for name in names], [v[name] for name in names]
        with self._differentiating():
            (result,) = torch.autograd.grad(
                outputs, u, directions, retain_graph=True, allow_unused=True
            )
        return torch.zeros_like(self.output) if result is None else result

    def pushforward_of_pulled(self, v: dict[str, Tensor]) -> Tensor:
        """`pushforward` of what `pullback` gave, in forward mode where that is possible.

        A forward pass with tangents is faster than differentiating `pullback`, whose double
        backward passes compute more than they are asked for. But it also moves what has no
        gradient, such as the padding vector of an embedding, hence the restriction on ``v``.

        Args:
            v: What `pullback` gave, or a sum of such.

        Returns:
            Shape ``[N, *out]``.
        """
        self.check_fresh()
        if self._has_forward_mode is None:
            self._has_forward_mode = self._check_forward_mode()
        return self._forward_mode(v)[1] if self._has_forward_mode else self.pushforward(v)

    def _forward_mode(self, v: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Model output and `pushforward`."""

        def forward(values: dict[str, Tensor]) -> Tensor:
            return functional_call(self._model, values, (self._x,))

        values = {name: self.parameters[name].detach() for name in v}
        with torch.no_grad():
            output, tangent, *_ = self._run(lambda: jvp(forward, (values,), (v,)))
        return output, tangent

    def _check_forward_mode(self) -> bool:
        """Whether the forward mode works, and does what `pushforward` does.

        Few samples are enough to tell which operations have one, and how they behave. Padding
        vectors, which it moves, may not be among them.
        """
        if self._output.grad_fn is None or has_padding(self._output.grad_fn):
            return False
        few = torch.arange(min(2, len(self.output)), device=self.output.device)
        some = self.of_samples(few)
        return (some or self)._agrees_in_forward_mode()

    def _agrees_in_forward_mode(self) -> bool:
        v = self._probing_vector()[1]
        expected = self.pushforward(v)
        self._transposed = None  # it is of no use for products in forward mode
        try:
            output, tangent = self._forward_mode(v)
        except Exception:  # operations without a forward mode say so in any way
            return False
        error = (tangent - expected).norm()
        small = error <= torch.finfo(expected.dtype).eps ** 0.5 * expected.norm()
        return same_output(output, self.output) and bool(small)

    def _differentiable_pullback(self) -> tuple[Tensor, dict[str, Tensor]]:
        u = torch.zeros_like(self.output, requires_grad=True)
        if not self._output.requires_grad:
            return u, {}
        with self._differentiating(), torch.enable_grad():
            grads = torch.autograd.grad(
                self._output,
                list(self.parameters.values()),
                u,
                create_graph=True,
                allow_unused=True,
            )
        named = zip(self.parameters, grads, strict=True)
        return u, {name: g for name, g in named if g is not None and g.requires_grad}

    def _check_adjoint(self) -> None:
        """Verify that `pushforward` is the adjoint of `pullback`.

        An operation whose backward pass autograd cannot differentiate drops out of ``J v``, in
        some cases without an error.
        """
        u, v = self._probing_vector()
        try:
            pushed = self.pushforward(v)
        except RuntimeError as error:
            if any(word in str(error) for word in ("derivative", "differentiate")):
                raise once_differentiable(str(error)) from error
            raise
        tolerance = torch.finfo(u.dtype).eps ** 0.5 * len(v)
        if not ((u * pushed).sum() - len(v)).abs() <= tolerance:
            raise once_differentiable("its backward pass is constant or not linear for autograd.")

    def _probing_vector(self) -> tuple[Tensor, dict[str, Tensor]]:
        """A random ``u``, and ``v`` along ``J^T u`` with ``<u, J v>`` equal to its length.

        ``v`` is scaled such that every parameter contributes one to the product, also if its
        derivative is small.
        """
        generator = torch.Generator().manual_seed(PROBE_SEED)
        u = torch.randn(self.output.shape, generator=generator).to(self.output)
        pulled = self.pullback(u, self.parameters)
        squares = {name: x.double().square().sum() for name, x in pulled.items()}
        v = {n: (pulled[n] / x).to(u.dtype) for n, x in squares.items() if x > 0 and x.isfinite()}
        return u, v

    def _pull(self, u: Tensor, inputs: list[Tensor] | list[GradientEdge]) -> list[Tensor]:
        """Derivatives at tensors or edges of the graph, zeros where there is no path."""
        if not self._output.requires_grad:
            return [zeros_at(x) for x in inputs]
        with self._differentiating():
            grads = torch.autograd.grad(
                self._output, inputs, u, retain_graph=True, allow_unused=True
            )
        return [
            zeros_at(x) if g is None else g.to_dense() if g.is_sparse else g
            for g, x in zip(grads, inputs, strict=True)
        ]

    def _visit(
        self, u: Tensor, edges: list[GradientEdge], receive: Callable[[int, Tensor], None]
    ) -> None:
        """Hand over the derivative at each edge when it is known, so that it need not live on.

        Only those edges are asked for that have no other behind them: the engine passes the
        others on its way there, and calls hooks.
        """
        waiting: dict[Node, list[int]] = defaultdict(list)
        for i, edge in enumerate(edges):
            waiting[edge.node].append(i)

        def hand_over(node: Node, s: Tensor | None) -> None:
            for i in waiting.pop(node, ()):
                receive(i, zeros_at(edges[i]) if s is None else s.to_dense())

        last = self._last_of(set(waiting)) if self._output.requires_grad else set()
        handles = [
            node.register_prehook(lambda grads, node=node: hand_over(node, grads[0]))
            for node in waiting
            if node not in last
        ]
        ends = [GradientEdge(node, 0) for node in waiting if node in last]
        try:
            arrived = self._pull(u, ends) if ends else []
        finally:
            for handle in handles:
                handle.remove()
        while ends:
            hand_over(ends.pop().node, arrived.pop())
        for node in list(waiting):  # no derivative comes by
            hand_over(node, None)

    def _visit_together(
        self,
        columns: list[Tensor],
        edges: list[GradientEdge],
        receivers: list[Callable[[int, Tensor], None]],
    ) -> bool:
        """`_visit` for several cotangents in one pass, each with a receiver of its own.

        Returns:
            False if an operation cannot have several at once; nothing has been handed over then.
        """
        if not self._output.requires_grad:
            return False
        try:
            with self._differentiating(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "There is a performance drop")
                arrived = torch.autograd.grad(
                    self._output,
                    edges,
                    torch.stack(columns),
                    retain_graph=True,
                    allow_unused=True,
                    is_grads_batched=True,
                )
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # what is wrong in any case shows again, one by one
            return False
        for edge, batched in enumerate(arrived):
            for r, receive in enumerate(receivers):
                receive(edge, zeros_at(edges[edge]) if batched is None else batched[r])
        return True

    def _last_of(self, nodes: set[Node]) -> set[Node]:
        """Those nodes behind which there is none of the others."""
        key = frozenset(nodes)
        if key not in self._last:
            self._last[key] = last_of(self._output.grad_fn, nodes)
        return self._last[key]

    def _embed(self, column: Tensor) -> Tensor:
        """A column of the samples to which this is restricted, as one of all samples."""
        if self._samples is None:
            return column
        return torch.zeros_like(self.output).index_copy_(0, self._samples, column)

    def check_fresh(self) -> None:
        """Refuse to go on if parameters or inputs are not those of the forward pass."""
        refuse_contexts()
        self._versions.check()
