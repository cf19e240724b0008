"""Sizes of layers and of what a batch leaves, which are known before any backward pass."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from vivit.layers.cost import AffineShape


@dataclass(frozen=True)
class LayerSizes:
    """Names and sizes of an affine layer.

    Attributes:
        weight: Name of the weight, if it is selected.
        bias: Name of the bias, if it is selected.
        samples: ``N``, those that carry curvature.
        positions: ``T``, shared positions per sample.
        groups: Channel groups.
        inputs: ``i`` per group, none without the weight.
        outputs: ``o`` per group.
        one_hot: Whether inputs are one-hot vectors.
    """

    weight: str | None
    bias: str | None
    samples: int
    positions: int
    groups: int
    inputs: int
    outputs: int
    one_hot: bool

    @property
    def key(self) -> tuple[str | None, str | None]:
        """Names of weight and bias."""
        return self.weight, self.bias

    @property
    def forward_flops(self) -> float:
        """Of a forward pass; inputs that are one-hot vectors take none."""
        if self.one_hot:
            return 0.0
        per_position = 2.0 * self.groups * self.inputs * self.outputs
        return self.samples * self.positions * per_position

    @property
    def output_size(self) -> int:
        """Elements of the outputs of one sample."""
        return self.positions * self.groups * self.outputs

    def shape(self, columns: int, parameters: Collection[str]) -> AffineShape:
        """Sizes for the cost model.

        Args:
            columns: Columns per sample.
            parameters: Names of those parameters that count; others are left out.

        Returns:
            The sizes of the factors.
        """
        return AffineShape(
            samples=self.samples,
            columns=columns,
            positions=self.positions,
            inputs=(self.weight in parameters) * self.inputs + (self.bias in parameters),
            outputs=self.outputs,
            groups=self.groups,
            one_hot=self.one_hot,
        )

    def factor_bytes(self, columns: int, element_size: int) -> int:
        """Of inputs and cotangents, with so many columns per sample."""
        positions = self.samples * self.positions * self.groups
        inputs = positions * (8 if self.one_hot else self.inputs * element_size)
        return inputs + positions * columns * self.outputs * element_size

    def column_bytes(self, columns: int, element_size: int) -> int:
        """Of the columns themselves."""
        entries = self.groups * self.outputs * (self.inputs + (self.bias is not None))
        return self.samples * columns * entries * element_size

    def without(self, parameters: Collection[str]) -> LayerSizes | None:
        """What is left when some parameters are served in another way; None if nothing is."""
        weight = None if self.weight in parameters else self.weight
        bias = None if self.bias in parameters else self.bias
        if weight is None and bias is None:
            return None
        return replace(self, weight=weight, bias=bias, inputs=self.inputs if weight else 0)


@dataclass(frozen=True)
class BatchSizes:
    """Sizes of what one batch leaves for its Gram matrix.

    Attributes:
        samples: Those that carry curvature.
        layers: Of affine layers that are all uses of their parameters.
        dense: Parameters whose columns are stored as they are.
        output: Elements of the model output of a sample.
        columns: ``C``, columns of each sample; 0 if that is not known yet.
    """

    samples: int
    layers: tuple[LayerSizes, ...]
    dense: tuple[str, ...]
    output: int
    columns: int = 0

    @property
    def forward_flops(self) -> float:
        """Of a forward pass through all layers."""
        return sum(layer.forward_flops for layer in self.layers)

    def of_samples(self, samples: int) -> BatchSizes:
        """The same with another number of samples."""
        if samples == self.samples:
            return self
        layers = tuple(replace(layer, samples=samples) for layer in self.layers)
        return replace(self, samples=samples, layers=layers)

    def with_columns(self, columns: int) -> BatchSizes:
        """The same with another number of columns per sample."""
        return replace(self, columns=columns)

    def with_generic(self, names: Collection[str]) -> BatchSizes:
        """The same with some parameters served by the generic rule."""
        if not names:
            return self
        kept = (layer.without(names) for layer in self.layers)
        layers = tuple(layer for layer in kept if layer is not None)
        dense = tuple(dict.fromkeys((*self.dense, *names)))
        return replace(self, layers=layers, dense=dense)


def runs_of(batches: Sequence[BatchSizes]) -> list[BatchSizes]:
    """Runs of batches that agree in all but their samples, each as one batch."""
    if len(batches) == 1:
        return [*batches]
    runs = groupby(batches, key=lambda x: x.of_samples(0))
    return [sizes.of_samples(sum(x.samples for x in run)) for sizes, run in runs]
