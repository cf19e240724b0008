"""The autograd driver: any model with any ``forward``, by walking its autograd graph."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node

from vivit.backprop.called import Called, plain
from vivit.backprop.checks import (
    Versions,
    check_output,
    refuse_batch_statistics,
    refuse_contexts,
    refuse_gradient_hooks,
    refuse_renormalized_embeddings,
    refuse_single_sample,
    same_output,
)
from vivit.backprop.diagnosis import explained
from vivit.backprop.forward import checked_indices
from vivit.backprop.generic import GenericRule
from vivit.backprop.graph import ParameterUses, find_uses
from vivit.backprop.layout import Layout, arrange
from vivit.backprop.orders import Orders, find_orders
from vivit.backprop.passes import Passes
from vivit.backprop.products import Products
from vivit.backprop.pushforward import Pushforward, Ways
from vivit.backprop.random_state import RandomState
from vivit.backprop.sample_order import Take, ways_to_take
from vivit.backprop.sending import Receive, Sending
from vivit.errors import is_out_of_memory
from vivit.layers.layer import AffineLayer
from vivit.layers.sizes import BatchSizes
from vivit.losses import HessianFactor, columns_in_turn

TESTED_SAMPLES = 2
"""Samples on which ways to Jacobian-vector products are tested."""


class Linearization:
    """A model at its parameters and one batch, ready to be differentiated many times.

    Holds the autograd graph of one forward pass, which is run when it is first needed. All
    products below start from it, so they agree on dropout masks and need no further forward pass.

    Attributes:
        parameters: The selected parameters, by name.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Any,
        parameters: dict[str, Tensor],
        random_state: RandomState,
        generic: frozenset[str] = frozenset(),
        ways: Ways | None = None,
    ) -> None:
        """Check what can be checked before the forward pass.

        Args:
            model: Maps ``x`` to a tensor of shape ``[N, *out]``.
            x: Input batch.
            parameters: The selected parameters of ``model``, by name.
            random_state: Of the generators before the forward pass.
            generic: Names of parameters that are to be served by the generic rule in any case.
            ways: What another pass over this batch has found, and where to note it.

        Raises:
            UnsupportedError: The model mixes samples or cannot be differentiated correctly.
        """
        if not (isinstance(model, Called) and model.may_mix):
            refuse_batch_statistics(plain(model))
        refuse_renormalized_embeddings(plain(model))
        refuse_gradient_hooks(parameters)
        refuse_contexts()
        self._model, self._x, self._random_state = model, x, random_state
        self._generic, self._ways = generic, ways or Ways()
        self._samples: Tensor | None = None
        self._sizes: dict[bool, BatchSizes] = {}
        device = next(iter(parameters.values())).device
        self._passes = Passes(model, x, random_state, device)
        self._passes.lowest = self._ways.lowest
        self.parameters = parameters
        self._push = Pushforward(self._passes, model, x, parameters)
        self._versions = Versions.of(parameters, x)

    @cached_property
    def output(self) -> Tensor:
        """Model output, shape ``[N, *out]``, without gradient.

        Raises:
            InputError: It is not a finite tensor, or has no samples.
        """
        with explained(self._model, self._x, self.parameters):
            output = self._passes.output
        check_output(output, self.parameters)
        if plain(self._model) is self._model:  # else it is called in a way of its own
            refuse_single_sample(output, self._x)
        return output.detach()

    @cached_property
    def parameter_uses(self) -> ParameterUses:
        """How the parameters are used, as the graph shows it."""
        return self._find_uses()

    @property
    def random_state_after(self) -> RandomState:
        """Of the generators after the forward pass."""
        return self._passes.random_state_after

    @property
    def layers(self) -> list[AffineLayer]:
        """Affine layers, by whose index `send_back` hands over cotangents."""
        if self._samples is None:
            return self.layout.layers
        return [replace(layer, samples=self._samples) for layer in self.layout.layers]

    def _orders_of(self, uses: ParameterUses) -> Orders:
        self.output  # noqa: B018 - checks it
        return find_orders(uses.all_operations, self._passes, plain(self._model), self._x)

    def _find_uses(self, misread: frozenset[Node] = frozenset()) -> ParameterUses:
        root = self._passes.output.grad_fn
        if root is None:  # a parameter is the output itself, or there is none
            others = [name for name, p in self.parameters.items() if p is self._passes.output]
            return ParameterUses([], {}, others)
        affine = {name: p for name, p in self.parameters.items() if name not in self._generic}
        with self._passes.differentiating():  # it reads what checkpointed parts have saved
            uses = find_uses(root, affine, len(self._passes.output), misread)
        if uses.lower_precision is not None:
            self._passes.lowest = self._ways.lowest = uses.lower_precision.dtype
        return replace(uses, others=[*uses.others, *self._generic])

    @property
    def sizes(self) -> BatchSizes:
        """What this batch will leave for its Gram matrix.

        Before any backward pass, it is what is left if all operations are as they look.
        """
        known = self._sizes.get(self.has_layout)
        if known is None:
            known = self._sizes[self.has_layout] = self._sizes_now()
        return known

    def _sizes_now(self) -> BatchSizes:
        samples = len(self.output)
        if self.has_layout:
            layers = self.layout.layers[: self.layout.num_whole]
            dense = (*self.layout.parts, *self.layout.generic)
        else:
            uses = self.parameter_uses
            layers = [AffineLayer(x.weight, x.bias, x.uses, (), samples) for x in uses.operations]
            dense = (*uses.parts, *uses.others)
        position = {name: i for i, name in enumerate(self.parameters)}
        in_order = sorted(layers, key=lambda x: min(position[name] for name in x.key if name))
        sizes = tuple(layer.sizes for layer in in_order)
        return BatchSizes(samples, sizes, dense, self.output[0].numel())

    @property
    def has_layout(self) -> bool:
        """Whether it is known how the parameters are served."""
        return "layout" in self.__dict__

    @cached_property
    def layout(self) -> Layout:
        """How the parameters are served; products with the GGN do without."""
        self.check_fresh()
        uses = self.parameter_uses
        orders = self._orders_of(uses)
        misread = [node for x, order in orders.items() if order is None for node in x.nodes]
        if misread:  # some may be part of how a weight is made
            uses = self._find_uses(frozenset(misread))
            orders = self._orders_of(uses)
        layout = arrange(uses, orders, len(self.output))
        self._versions.watch(x for layer in layout.layers for use in layer.uses for x in use.seen)
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
        if self._passes.is_random:
            return None
        for take in ways_to_take(self._x, len(self.output)):
            some = self._of_inputs(take, samples)
            if some is not None:
                return some
        return None

    def _of_inputs(self, take: Take, samples: Tensor) -> Linearization | None:
        """The model on the inputs of some samples, if they are taken in the right way."""
        try:
            with checked_indices(self.output.device):
                some = Linearization(
                    self._model,
                    take(samples),
                    self.parameters,
                    self._random_state,
                    self._generic,
                    self._ways,
                )
                found, expected = some.output, self.output[samples]
                return some if same_output(found, expected, self._passes.lowest) else None
        except Exception as error:  # a model may need its batch size, and say so in any way
            if is_out_of_memory(error):
                raise
            return None

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
        factor: HessianFactor,
        wanted: Collection[int],
        receive: Receive,
        at_a_time: int,
        made_at_once: int,
    ) -> None:
        """Backpropagate the columns of a loss-Hessian factor to the affine layers.

        Args:
            factor: Of the samples to which this is `restricted`.
            wanted: Indices of layers in `layers`; backward passes end where no other is behind.
            receive: Takes the index of a layer in `layers`, some columns, and their cotangents
                ``[K, N, T, g, o]``, which do not live on. It may get them again.
            at_a_time: Columns of a pass. It is one in any case for operations that cannot have
                several.
            made_at_once: Columns of the factor that are made at once.
        """
        self.check_fresh()
        sending = Sending(self._passes, self.layers, self.layout.edges, wanted, receive)
        if not sending.edges:
            return
        for first, made in columns_in_turn(factor, made_at_once):
            for start in range(0, made.shape[1], at_a_time):
                columns = [self._embed(x) for x in made[:, start : start + at_a_time].unbind(1)]
                sending.send(first + start, columns)

    def generic_columns(
        self, factor: HessianFactor, samples: Tensor | None, names: Sequence[str], size: int
    ) -> dict[str, Tensor]:
        """The generic rule, for parameters that no other serves.

        Args:
            factor: Its columns.
            samples: Indices of these samples in the batch; None for all.
            names: Parameters that need it.
            size: Elements of parameters' copies and layers' outputs to make at a time.

        Returns:
            The columns ``J_n^T s_nc`` of each parameter, shape ``[N * C, p]``.
        """
        self.check_fresh()
        if not names:
            return {}
        parameters = {name: self.parameters[name] for name in names}
        everyone = torch.arange(len(self.output), device=self.output.device)
        per_sample = sum(layer.sizes.output_size for layer in self.layout.layers)
        per_sample += sum(p.numel() for p in parameters.values())
        rule = GenericRule(
            self._passes,
            self._model,
            self._x,
            parameters,
            factor,
            everyone if samples is None else samples,
            self._passes_of_sample,
            max(size // per_sample, 1),
        )
        self._ways.generic, columns = rule(self._ways.generic)
        return {name: x.flatten(0, 1) for name, x in columns.items()}

    def _passes_of_sample(self, sample: int) -> Passes | None:
        some = self.of_samples(torch.tensor([sample], device=self.output.device))
        return None if some is None else some._passes

    @property
    def served_by(self) -> dict[str, str]:
        """How each parameter is served; by the generic rule, as far as it has been tried."""
        layout = self.layout
        whole = (name for layer in layout.layers[: layout.num_whole] for name in layer.key)
        return {
            **{name: "affine" for name in whole if name is not None},
            **dict.fromkeys(layout.parts, "parts"),
            **dict.fromkeys(layout.generic, self._ways.generic.value),
        }

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
        return self._passes.pull_columns(columns, made, self.parameters[name])

    @property
    def products(self) -> Products:
        """Products with the Jacobian, all from this forward pass.

        Not kept: what refers to each other would hold the graph until it is collected.
        """
        return Products(self._passes, self._push, self.parameters, self._ways, self)

    @property
    def graph_bytes(self) -> int:
        """Of all operations' outputs."""
        return self.parameter_uses.graph_size * self.output.element_size()

    @property
    def tested(self) -> Pushforward:
        """Few samples are enough to tell which operations can be differentiated, and how.

        What a test needs goes with it.
        """
        few = torch.arange(min(TESTED_SAMPLES, len(self.output)), device=self.output.device)
        some = self.of_samples(few) if len(few) < len(self.output) else None
        if some is not None:
            return some._push
        return Pushforward(self._passes, self._model, self._x, self.parameters)

    def _embed(self, column: Tensor) -> Tensor:
        """A column of the samples to which this is restricted, as one of all samples."""
        if self._samples is None:
            return column
        return torch.zeros_like(self.output).index_copy_(0, self._samples, column)

    def check_fresh(self) -> None:
        """Refuse to go on if parameters or inputs are not those of the forward pass."""
        refuse_contexts()
        self._versions.check()
