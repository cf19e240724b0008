"""A layer: all uses of one pair of parameters, in the axis order of the affine kernel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vivit.layers.convolutions import ConvolutionUse
from vivit.layers.sizes import LayerSizes
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
        batch_size: Samples of the batch.
        samples: Indices of those that carry curvature, the ``N`` of all shapes; None for all.
    """

    weight: str | None
    bias: str | None
    uses: tuple[AffineUse, ...]
    orders: tuple[SampleOrder, ...]
    batch_size: int
    samples: Tensor | None = None

    @property
    def num_samples(self) -> int:
        """``N``, the samples that carry curvature."""
        return self.batch_size if self.samples is None else len(self.samples)

    @property
    def key(self) -> tuple[str | None, str | None]:
        """Names of the parameters: identifies the layer among those of a batch."""
        return self.weight, self.bias

    @property
    def features(self) -> tuple[int, int, int]:
        """Channel groups, inputs (none without the weight) and outputs per group."""
        groups, inputs, outputs = self.uses[0].features
        return groups, 0 if self.weight is None else inputs, outputs

    @property
    def transposed(self) -> bool:
        """Whether the weight is laid out as ``[g, i, o]``; with a bias beside it, never."""
        return self.uses[0].transposed

    @property
    def positions(self) -> int:
        """Shared positions per sample, ``T``, of all uses together."""
        return sum(use.rows * use.positions for use in self.uses) // self.batch_size

    @property
    def classes(self) -> int | None:
        """Number of inputs, if they are one-hot vectors."""
        return self.features[1] if self.uses[0].one_hot else None

    def inputs(self, dtype: torch.dtype, channels: slice | None = None) -> Tensor:
        """``a`` of all uses.

        Args:
            dtype: Of the result.
            channels: Those of a convolution that are wanted; by default all.

        Returns:
            Shape ``[N, T, g, i]``, without inputs if there is no weight; of one-hot inputs the
            indices, whole numbers of shape ``[N, T, g]``.
        """
        uses = self.uses
        if channels is not None:
            uses = tuple(u.of_channels(channels) for u in uses if isinstance(u, ConvolutionUse))
        a = self._join([use.inputs() for use in uses])
        if self.classes is not None:
            return a.squeeze(3)
        return (a[..., :0] if self.weight is None else a).to(dtype)

    def shifted_columns(self, s: Tensor) -> Tensor | None:
        """Contract the positions of some columns away without making windows.

        Args:
            s: Cotangents, shape ``[K, N, T, g, o]``.

        Returns:
            Shape ``[N, K, g, o, i]``; None if this is not a single use by a fitting convolution.
        """
        use = self.uses[0]
        if len(self.uses) > 1 or self.samples is not None or self.weight is None:
            return None
        if not isinstance(use, ConvolutionUse) or use.rows != s.shape[1] or not use.can_shift:
            return None
        return use.shifted_columns(s)

    def inputs_by_samples(self, dtype: torch.dtype, size: int) -> Iterator[tuple[slice, Tensor]]:
        """`inputs` of some samples after the other, where windows make them large.

        Args:
            dtype: Of the result.
            size: Elements to make at a time.

        Yields:
            The samples and their inputs.
        """
        uses = [use for use in self.uses if isinstance(use, ConvolutionUse)]
        by_rows = all(use.rows == self.batch_size for use in uses) and self.samples is None
        if len(uses) < len(self.uses) or not by_rows or self.weight is None:
            yield slice(0, self.num_samples), self.inputs(dtype)
            return
        groups, inputs, _ = self.features
        step = max(size // max(self.positions * groups * inputs, 1), 1)
        for start in range(0, self.batch_size, step):
            rows = slice(start, min(start + step, self.batch_size))
            a = [use.of_rows(rows).inputs() for use in uses]
            yield rows, (a[0] if len(a) == 1 else torch.cat(a, dim=1)).to(dtype)

    def channels_at_a_time(self, number: int) -> list[slice | None]:
        """Channels to ask `inputs` for one after the other, where windows make them large.

        Args:
            number: Of inputs to make at a time; at least those of one channel are made.

        Returns:
            Slices of the channels; None stands for all, where there are no windows.
        """
        if self.weight is None or not all(isinstance(u, ConvolutionUse) for u in self.uses):
            return [None]
        channels, *kernel = self.uses[0].weight_shape[1:]  # type: ignore[attr-defined]
        step = max(number // math.prod(kernel), 1)
        return [slice(i, min(i + step, channels)) for i in range(0, channels, step)]

    def cotangents(self, s: Sequence[Tensor]) -> Tensor:
        """``s`` of all uses for one column, shape ``[N, T, g, o]``."""
        return self._join([use.cotangents(x) for use, x in zip(self.uses, s, strict=True)])

    @property
    def sizes(self) -> LayerSizes:
        """Names and sizes, without the tensors."""
        return LayerSizes(
            self.weight,
            self.bias,
            self.num_samples,
            self.positions,
            *self.features,
            one_hot=self.classes is not None,
        )

    def _join(self, rows: list[Tensor]) -> Tensor:
        split = [
            order.split(x, self.batch_size) for order, x in zip(self.orders, rows, strict=True)
        ]
        if self.samples is not None:
            split = [x[self.samples] for x in split]
        joined = [x.flatten(1, 2) for x in split]
        return joined[0] if len(joined) == 1 else torch.cat(joined, dim=1)
