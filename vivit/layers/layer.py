"""A layer: all uses of one pair of parameters, and their contribution to Gram matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vivit.layers.affine import (
    add_ones,
    direct,
    form_columns,
    gram_of_columns,
    hadamard,
    pairwise,
)
from vivit.layers.cost import AffineShape, Evaluation, cheapest_evaluation
from vivit.layers.uses import AffineUse, SampleOrder


@dataclass(frozen=True)
class AffineLayer:
    """An affine operation's parameters with all of their uses.

    Several uses (a module called twice, positions in separate rows) are one use with more shared
    positions: their columns add up, as the positions' do.

    Attributes:
        weight: Name of the weight, if it is selected.
        bias: Name of the bias, if it is selected.
        uses: The uses, which agree in their features.
        orders: How samples and positions share the rows of each use.
        num_samples: ``N``.
    """

    weight: str | None
    bias: str | None
    uses: tuple[AffineUse, ...]
    orders: tuple[SampleOrder, ...]
    num_samples: int

    @property
    def features(self) -> tuple[int, int, int]:
        """Channel groups, inputs (none without the weight) and outputs per group."""
        groups, inputs, outputs = self.uses[0].features
        return groups, 0 if self.weight is None else inputs, outputs

    @property
    def positions(self) -> int:
        """Shared positions per sample, ``T``, of all uses together."""
        return sum(use.rows * use.positions for use in self.uses) // self.num_samples

    def inputs(self) -> Tensor:
        """``a`` of all uses, shape ``[N, T, g, i]``."""
        a = self._join([use.inputs() for use in self.uses])
        return a[..., :0] if self.weight is None else a

    def cotangents(self, s: Sequence[Tensor]) -> Tensor:
        """``s`` of all uses for one column, shape ``[N, T, g, o]``."""
        return self._join([use.cotangents(x) for use, x in zip(self.uses, s, strict=True)])

    def shape(self, columns: int, parameters: set[str]) -> AffineShape:
        """Sizes for the cost model.

        Args:
            columns: Columns per sample.
            parameters: Names of those parameters that count; others are left out.

        Returns:
            The sizes of the factors.
        """
        groups, inputs, outputs = self.features
        inputs = (self.weight in parameters) * inputs + (self.bias in parameters)
        return AffineShape(self.num_samples, columns, self.positions, inputs, outputs, groups)

    def _join(self, rows: list[Tensor]) -> Tensor:
        split = [
            order.split(x, self.num_samples).flatten(1, 2)
            for order, x in zip(self.orders, rows, strict=True)
        ]
        return split[0] if len(split) == 1 else torch.cat(split, dim=1)


class Store(Protocol):
    """What a layer keeps of the backward passes until its Gram matrix is formed."""

    def receive(self, c: int, s: Tensor) -> None:
        """Take the cotangents of column ``c``, shape ``[N, T, g, o]``."""
        ...

    def add_gram(self, gram: Tensor, parameters: set[str]) -> None:
        """Add the Gram matrix of the columns of ``parameters`` to its lower blocks."""
        ...


def store_for(layer: AffineLayer, columns: int, like: Tensor, workspace: int) -> Store:
    """Keep the smaller of a layer's columns and its factors, if the columns are of use.

    Args:
        layer: The layer.
        columns: Columns per sample.
        like: A tensor of the device and dtype to use.
        workspace: Bytes for the temporaries of the evaluation.

    Returns:
        An empty store.
    """
    names = {name for name in (layer.weight, layer.bias) if name is not None}
    shape = layer.shape(columns, names)
    evaluation = cheapest_evaluation(shape, like.element_size())
    if evaluation is Evaluation.DIRECT and shape.inputs <= shape.positions:
        return ColumnStore(layer, columns, like)
    return FactorStore(layer, columns, like, workspace)


class ColumnStore:
    """Keeps the columns ``[N, C, g, o, i]``: few weights, many positions."""

    def __init__(self, layer: AffineLayer, columns: int, like: Tensor) -> None:
        """Allocate the columns; arguments as for `store_for`."""
        self._layer = layer
        self._inputs: Tensor | None = None
        groups, inputs, outputs = layer.features
        inputs += layer.bias is not None
        self._columns = like.new_empty(layer.num_samples, columns, groups, outputs, inputs)

    def receive(self, c: int, s: Tensor) -> None:
        """Contract the positions of column ``c`` away."""
        if self._inputs is None:
            a = self._layer.inputs()
            self._inputs = a if self._layer.bias is None else add_ones(a)
        for g in range(s.shape[2]):
            columns = form_columns(self._inputs[:, :, g], s[:, None, :, g])
            self._columns[:, c, g] = columns[:, 0]

    def add_gram(self, gram: Tensor, parameters: set[str]) -> None:
        """Multiply the columns with each other."""
        self._inputs = None
        columns = self._columns
        if self._layer.bias is not None and self._layer.bias not in parameters:
            columns = columns[..., :-1]
        elif self._layer.weight is not None and self._layer.weight not in parameters:
            columns = columns[..., -1:]
        gram_of_columns(gram, columns.reshape(len(gram), -1))


class FactorStore:
    """Keeps the cotangents ``[N, C, g, T, o]``: many weights, few positions."""

    def __init__(self, layer: AffineLayer, columns: int, like: Tensor, workspace: int) -> None:
        """Allocate the cotangents; arguments as for `store_for`."""
        self._layer, self._workspace = layer, workspace
        groups, _, outputs = layer.features
        self._cotangents = like.new_empty(
            layer.num_samples, columns, groups, layer.positions, outputs
        )

    def receive(self, c: int, s: Tensor) -> None:
        """Copy the cotangents of column ``c``."""
        self._cotangents[:, c] = s.transpose(1, 2)

    def add_gram(self, gram: Tensor, parameters: set[str]) -> None:
        """Evaluate in the order of contraction that the cost model prefers."""
        shape = self._layer.shape(self._cotangents.shape[1], parameters)
        evaluation = cheapest_evaluation(shape, gram.element_size())
        a = self._layer.inputs()
        if self._layer.weight not in parameters:
            a = a[..., :0]
        if self._layer.bias in parameters:
            a = add_ones(a)
        for g in range(shape.groups):
            evaluate(evaluation, gram, a[:, :, g], self._cotangents[:, :, g], self._workspace)


def evaluate(evaluation: Evaluation, gram: Tensor, a: Tensor, s: Tensor, workspace: int) -> None:
    """Add the Gram matrix of an affine layer by the given evaluation.

    Args:
        evaluation: The order of contraction.
        gram: Shape ``[N * C, N * C]``; its lower blocks are added to, in place.
        a: Inputs, shape ``[N, T, i]``.
        s: Cotangents, shape ``[N, C, T, o]``.
        workspace: Bytes for temporaries.
    """
    if evaluation is Evaluation.HADAMARD:
        hadamard(gram, a, s)
    elif evaluation is Evaluation.DIRECT:
        direct(gram, a, s, workspace)
    else:
        pairwise(gram, a, s, workspace)
