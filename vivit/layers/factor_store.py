"""A layer whose inputs and cotangents are kept: many weights, few positions."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import replace

import torch
from torch import Tensor

from vivit.layers.affine import Factors, Workspace, direct, form_columns, hadamard, pairwise
from vivit.layers.cost import Evaluation, cheapest_evaluation
from vivit.layers.layer import AffineLayer
from vivit.layers.norms import pays_by_pairs, square_norm
from vivit.layers.outer import VectorFactors
from vivit.layers.sizes import LayerSizes
from vivit.layers.store import ALL, LayerStore, Store


class FactorStore(LayerStore):
    """Keeps the cotangents ``[N, C, g, o, T]``: many weights, few positions."""

    def __init__(
        self,
        layer: AffineLayer,
        samples: int,
        columns: int,
        like: Tensor,
        workspace: Workspace,
    ) -> None:
        """Allocate the cotangents; arguments as for `store_for`."""
        super().__init__(layer)
        self._layers: list[AffineLayer] = []
        self._inputs: Tensor | None = None
        self._workspace, self._classes = workspace, layer.classes
        self._sizes = replace(layer.sizes, samples=samples)
        groups, _, outputs = layer.features
        self._cotangents = like.new_empty(samples, columns, groups, outputs, layer.positions)

    @classmethod
    def beside(
        cls,
        like: LayerStore,
        cotangents: Tensor,
        inputs: Tensor,
        classes: int | None,
        workspace: Workspace,
    ) -> FactorStore:
        """Wrap factors of the same layer as another store.

        Args:
            like: That store.
            cotangents: Shape ``[N, C, g, o, T]``.
            inputs: Shape ``[N, T, g, i]``; ``[N, T, g]`` if they are one-hot.
            classes: Number of one-hot inputs.
            workspace: Memory for the temporaries of the evaluation.
        """
        store = cls.__new__(cls)
        store.named_as(like)
        store._layers, store._inputs = [], inputs
        store._cotangents, store._classes, store._workspace = cotangents, classes, workspace
        samples, _, groups, outputs, positions = cotangents.shape
        count = inputs.shape[3] if classes is None else classes
        key, one_hot = (store._weight, store._bias), classes is not None
        store._sizes = LayerSizes(*key, samples, positions, groups, count, outputs, one_hot)
        return store

    @property
    def is_smaller_than_columns(self) -> bool:
        """Whether inputs and cotangents have fewer bytes than columns."""
        columns, size = self._cotangents.shape[1], self._cotangents.element_size()
        as_factors = self._sizes.factor_bytes(columns, size)
        return as_factors < self._sizes.column_bytes(columns, size)

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """Cotangents ``[N, C, g, o, T]`` and inputs ``[N, T, g, i]`` of all batches."""
        return self._cotangents, self._all_inputs(None)

    @property
    def classes(self) -> int | None:
        """Number of inputs, if they are one-hot."""
        return self._classes

    @property
    def layer_columns(self) -> Tensor:
        """Formed from the factors."""
        samples, columns, groups, outputs, _ = self._cotangents.shape
        flat = self.columns({name for name in self.parameters if name is not None})
        if self._transposed:
            return flat.view(samples, columns, groups, -1, outputs).transpose(3, 4)
        return flat.view(samples, columns, groups, outputs, -1)

    @property
    def dtype(self) -> torch.dtype:
        """Of the cotangents."""
        return self._cotangents.dtype

    def begin(self, layer: AffineLayer) -> None:
        """Keep the inputs."""
        super().begin(layer)
        self._layers.append(layer)

    def receive(self, columns: slice, s: Tensor) -> None:
        """Copy the cotangents."""
        self._cotangents[self._rows, columns] = s.permute(1, 0, 3, 4, 2)

    def add_gram(self, gram: Tensor, parameters: set[str], other: Store | None = None) -> None:
        """Evaluate in the order of contraction that the cost model prefers."""
        if other is not None and not isinstance(other, FactorStore):
            super().add_gram(gram, parameters, other)
            return
        shape = self._sizes.shape(self._cotangents.shape[1], parameters)
        evaluation = cheapest_evaluation(shape, gram.element_size())
        if other is not None and other._sizes.positions > 1 and evaluation is Evaluation.HADAMARD:
            evaluation = Evaluation.PAIRWISE
        number = None
        if evaluation is Evaluation.DIRECT and (other is None or other._inputs is None):
            number = self._inputs_at_a_time(0 if other is None else other.num_columns)
        if other is None:
            for factors in self.factors(parameters, number):
                evaluate(evaluation, gram, factors, workspace=self._workspace)
                del factors  # with its windows, before the next are made
            return
        pairs = zip(
            self.factors(parameters, number), other.factors(parameters, number), strict=True
        )
        for left, right in pairs:
            evaluate(evaluation, gram, left, right, workspace=self._workspace)

    def settle(self) -> None:
        """Keep the inputs themselves in place of what they are made of."""
        self._inputs = self._all_inputs(None)
        self._layers.clear()

    def folded(self) -> FactorStore:
        """More outputs: the inputs are the same for all columns of a sample."""
        store = copy(self)
        folded = self._cotangents.transpose(1, 2).flatten(2, 3)  # [N, g, C * o, T]
        store._cotangents = folded.unsqueeze(1)
        store._sizes = replace(self._sizes, outputs=folded.shape[2])
        return store

    def combine(self, coefficients: Tensor, parameter: str) -> Tensor:
        """Mix the cotangents of a sample first, and then contract all samples with their inputs.

        So the columns, larger than the factors, are not formed.
        """
        samples, columns, _, outputs, positions = self._cotangents.shape
        mixtures = coefficients.T.to(self._cotangents.dtype).unflatten(1, (samples, columns))
        number = max(self._workspace.block // (samples * outputs * positions), 1)
        combined = []
        for factors in self.factors({parameter}):
            a, pieces = factors.a.flatten(0, 1)[None], []
            for some in mixtures.split(number):
                s = torch.einsum("ncto,knc->kont", factors.s, some).flatten(2)
                mixed = Factors(a, s.transpose(1, 2)[None], factors.bias, factors.classes)
                piece = s.sum(dim=2, keepdim=True) if mixed.bias else form_columns(mixed)[0]
                pieces.append((piece.mT if self._transposed else piece).flatten(1))
                del piece  # of a large layer, it is as large as what comes out
            combined.append(_joined(pieces, dim=0))
        return _joined(combined, dim=1)

    def square_norm(self, parameter: str) -> Tensor:
        """By pairs of positions, or from the columns of some samples at a time."""
        by_pairs = pays_by_pairs(self._sizes.shape(self._cotangents.shape[1], {parameter}))
        number = None if by_pairs else self._inputs_at_a_time(0)
        norms = []
        for factors in self.factors({parameter}, number):
            norms.append(square_norm(factors, by_pairs, self._workspace))
            del factors  # before the windows of the next are made
        return torch.stack(norms).sum()

    @property
    def num_columns(self) -> int:
        """``N C``."""
        return self._cotangents.shape[:2].numel()

    def _inputs_at_a_time(self, others: int) -> int:
        """Inputs for which windows and columns, and those of another store, are formed at once."""
        samples, columns, groups, outputs, positions = self._cotangents.shape
        share = (self.num_columns + others) / self.num_columns
        per_input = samples * share * (groups * positions + columns * outputs)
        return int(self._workspace.size / max(per_input, 1))

    def factors(self, parameters: set[str], number: int | None = None) -> Iterator[Factors]:
        """Inputs and cotangents of each channel group.

        Args:
            parameters: Names of the parameters that count.
            number: Of inputs to make at a time, where windows make them large; by default all.

        Yields:
            Factors whose Gram matrices add up.
        """
        bias, has_weight = self._bias in parameters, self._weight in parameters
        pieces: list[slice | None] = [None]
        if has_weight and number is not None and self._inputs is None:
            pieces = self._layers[0].channels_at_a_time(number)
        for channels in pieces:
            a = self._all_inputs(channels)
            for g in range(self._cotangents.shape[2]):
                s = self._cotangents[:, :, g].transpose(2, 3)
                yield Factors(a[:, :, g] if has_weight else a[:, :, g, :0], s, bias, self._classes)
            bias = False  # with the first piece only
            del a  # before the windows of the next are made

    def _all_inputs(self, channels: slice | None) -> Tensor:
        """Inputs of all batches; of a convolution, of some channels."""
        if self._inputs is not None:
            return self._inputs
        dtype = self._cotangents.dtype
        of_batches = [layer.inputs(dtype, channels) for layer in self._layers]
        return of_batches[0] if len(of_batches) == 1 else torch.cat(of_batches)

    def vector_factors(self, parameter: str) -> VectorFactors | None:
        """Of a layer without groups on plain vectors."""
        _, _, groups, _, positions = self._cotangents.shape
        if positions > 1 or groups > 1 or self._classes is not None:
            return None
        s = self._cotangents[:, :, 0, :, 0]
        if parameter == self._bias:
            return VectorFactors(s.new_ones(len(s), 1), s, False)
        return VectorFactors(self._all_inputs(None)[:, 0, 0], s, self._transposed)

    def columns(self, parameters: set[str], samples: slice = ALL) -> Tensor:
        """The columns, formed from the factors."""
        formed = []
        for whole in self.factors(parameters):
            factors = replace(whole, a=whole.a[samples], s=whole.s[samples])
            columns = form_columns(factors)
            if factors.bias:
                columns = torch.cat([columns, factors.s.sum(dim=2).unsqueeze(-1)], dim=3)
            formed.append(columns.transpose(2, 3) if self._transposed else columns)
        flat = [columns.flatten(2) for columns in formed]
        joined = flat[0] if len(flat) == 1 else torch.cat(flat, dim=2)
        return joined.flatten(end_dim=1)


def evaluate(
    evaluation: Evaluation,
    gram: Tensor,
    left: Factors,
    right: Factors | None = None,
    *,
    workspace: Workspace,
) -> None:
    """Add the Gram matrix of an affine layer by the given evaluation.

    Args:
        evaluation: The order of contraction.
        gram: Shape ``[N * C, M * D]``; added to, in place.
        left: Factors of the rows.
        right: Factors of the columns; by default ``left``, and only lower blocks are added to.
        workspace: Memory for temporaries.
    """
    if evaluation is Evaluation.HADAMARD:
        hadamard(gram, left, right, workspace=workspace)
    elif evaluation is Evaluation.DIRECT:
        direct(gram, left, right, workspace=workspace)
    else:
        pairwise(gram, left, right, workspace=workspace)


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    """Parts one after the other; a single one is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=dim)
