"""A layer whose columns are kept: few weights, many positions."""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor

from vivit.devices import traits
from vivit.layers.affine import Factors, Workspace, form_columns
from vivit.layers.layer import AffineLayer
from vivit.layers.store import ALL, LayerStore

MANY_POSITIONS = 64
"""Positions from which several columns' sums of entrywise products are faster as matrix products.

If positions lie side by side; otherwise a product would copy the cotangents first.
"""


class ColumnStore(LayerStore):
    """Keeps the columns ``[N, C, g, o, i]``: few weights, many positions."""

    def __init__(
        self,
        layer: AffineLayer,
        samples: int,
        columns: int,
        like: Tensor,
        workspace: Workspace,
    ) -> None:
        """Allocate the columns; arguments as for `store_for`."""
        super().__init__(layer)
        self._windows = min(traits(like.device).windows, workspace.size)
        groups, inputs, outputs = layer.features
        self._layer: AffineLayer | None = None
        inputs += self._bias is not None
        self._columns = like.new_empty(samples, columns, groups, outputs, inputs)

    @classmethod
    def beside(cls, like: LayerStore, columns: Tensor) -> ColumnStore:
        """Wrap columns ``[N, C, g, o, i]`` of the same layer as another store."""
        store = cls.__new__(cls)
        store.named_as(like)
        store._columns = columns
        return store

    @property
    def layer_columns(self) -> Tensor:
        """As they are kept."""
        return self._columns

    @property
    def dtype(self) -> torch.dtype:
        """Of the columns."""
        return self._columns.dtype

    @property
    def num_columns(self) -> int:
        """``N C``."""
        return self._columns.shape[:2].numel()

    def begin(self, layer: AffineLayer) -> None:
        """Keep the inputs, for as long as they are needed."""
        super().begin(layer)
        self._layer = layer

    def receive(self, columns: slice, s: Tensor) -> None:
        """Contract the positions away."""
        layer = self._layer
        assert layer is not None
        target = self._columns[self._rows, columns]
        if self._bias is not None:
            target[..., -1] = s.sum(dim=2).transpose(0, 1)
            target = target[..., :-1]
        shifted = layer.shifted_columns(s)
        if shifted is not None:
            target.copy_(shifted)
            return
        for samples, a in layer.inputs_by_samples(s.dtype, self._windows):
            contract(target[samples], a, s[:, samples], layer.classes)

    def end(self) -> None:
        """Forget the inputs."""
        self._layer = None

    def folded(self) -> ColumnStore:
        """More outputs."""
        store = copy(self)
        folded = self._columns.transpose(1, 2).flatten(2, 3)  # [N, g, C * o, i]
        store._columns = folded.unsqueeze(1)
        return store

    def columns(self, parameters: set[str], samples: slice = ALL) -> Tensor:
        """The columns, as they are."""
        columns = self._columns[samples]
        if self._bias is not None and self._bias not in parameters:
            columns = columns[..., :-1]
        elif self._weight is not None and self._weight not in parameters:
            columns = columns[..., -1:]
        if self._transposed:
            columns = columns.transpose(3, 4)
        return columns.reshape(columns.shape[:2].numel(), -1)


def contract(columns: Tensor, a: Tensor, s: Tensor, classes: int | None) -> None:
    """Contract the positions of some columns away.

    Args:
        columns: Shape ``[N, K, g, o, i]``; written to.
        a: Inputs ``[N, T, g, i]``; ``[N, T, g]`` if they are one-hot.
        s: Cotangents ``[K, N, T, g, o]``.
        classes: Number of one-hot inputs.
    """
    if s.shape[4] == a.shape[-1] == 1 and classes is None:
        columns[..., 0, 0] = _contract_entries(a.squeeze(3), s.squeeze(4))
        return
    for g in range(s.shape[3]):
        factors = Factors(a[:, :, g], s[:, :, :, g].transpose(0, 1), classes=classes)
        columns[:, :, g] = form_columns(factors)


def _contract_entries(a: Tensor, s: Tensor) -> Tensor:
    """``sum_t s[k,n,t,g] a[n,t,g]``, shape ``[N, K, g]``: a number for each group and column."""
    if len(s) == 1 or s.shape[2] < MANY_POSITIONS or s.stride(2) > 1:
        return (s * a).sum(dim=2).transpose(0, 1)
    size = s.shape[1], s.shape[3], len(s)
    left, right = s.permute(1, 3, 0, 2).flatten(0, 1), a.transpose(1, 2).flatten(0, 1)
    return torch.bmm(left, right.unsqueeze(2)).view(size).transpose(1, 2)
