"""What is kept of parameters between the backward passes and their Gram matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from vivit.layers.affine import gram_of_columns
from vivit.layers.layer import AffineLayer
from vivit.layers.outer import VectorFactors

ALL = slice(None)
"""All samples."""


class Store(ABC):
    """The columns of some parameters and one batch, in whatever form."""

    @property
    @abstractmethod
    def parameters(self) -> frozenset[str | None]:
        """Names of the parameters."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Of what is kept."""

    @property
    @abstractmethod
    def num_columns(self) -> int:
        """``N C``."""

    @abstractmethod
    def columns(self, parameters: set[str], samples: slice = ALL) -> Tensor:
        """The columns of ``parameters`` themselves, shape ``[N * C, p]``.

        Args:
            parameters: Their names.
            samples: Of those that are kept; by default all.
        """

    def vector_factors(self, parameter: str) -> VectorFactors | None:
        """What the columns of a parameter are made of; None for several positions, or columns."""
        return None

    def combine(self, coefficients: Tensor, parameter: str) -> Tensor:
        """Linear combinations of the columns of a parameter.

        Args:
            coefficients: Shape ``[N * C, K]``.
            parameter: Its name.

        Returns:
            Shape ``[K, p]``.
        """
        columns = self.columns({parameter})
        return coefficients.T.to(columns.dtype) @ columns

    def square_norm(self, parameter: str) -> Tensor:
        """The sum of the squares of all columns of a parameter, a scalar in double precision."""
        return torch.linalg.vector_norm(self.columns({parameter}), dtype=torch.float64).square()

    @abstractmethod
    def folded(self) -> Store:
        """The same with the columns of each sample one behind the other, as a single column.

        Their inner products are those of the columns, summed over ``c``. Shares memory.
        """

    def settle(self) -> None:
        """Do without the graph from now on."""
        return

    def add_gram(self, gram: Tensor, parameters: set[str], other: Store | None = None) -> None:
        """Add inner products of the columns of ``parameters``.

        Args:
            gram: Rows are the own columns, ordered (n, c).
            parameters: Names of the parameters that count.
            other: The store of the same layer whose columns are the columns of ``gram``; by
                default this one, and only blocks on and below the diagonal are added to.
        """
        right = None if other is None else other.columns(parameters)
        gram_of_columns(gram, self.columns(parameters), right)


class LayerStore(Store):
    """The columns of an affine layer, received some after the other, batch by batch."""

    def __init__(self, layer: AffineLayer) -> None:
        """Note the names and the layout."""
        self._weight, self._bias = layer.key
        self._transposed = layer.transposed
        self._rows = slice(0)

    @property
    def parameters(self) -> frozenset[str | None]:
        """Weight and bias."""
        return frozenset({self._weight, self._bias})

    def named_as(self, like: LayerStore) -> None:
        """Belong to the same layer as another store."""
        self._weight, self._bias = like._weight, like._bias
        self._transposed = like._transposed

    @property
    @abstractmethod
    def layer_columns(self) -> Tensor:
        """The columns of weight and bias, shape ``[N, C, g, o, i]``."""

    def begin(self, layer: AffineLayer) -> None:
        """Go on with the samples of a layer, behind those of the batches before."""
        self._rows = slice(self._rows.stop, self._rows.stop + layer.num_samples)

    @abstractmethod
    def receive(self, columns: slice, s: Tensor) -> None:
        """Take the cotangents of ``K`` columns, shape ``[K, N, T, g, o]``, which may be views."""

    def end(self) -> None:
        """All columns of these samples have been received."""
        return


class DenseStore(Store):
    """Keeps the columns of one parameter that no single affine layer serves."""

    def __init__(self, parameter: str, columns: Tensor, samples: int) -> None:
        """Wrap columns of shape ``[N * C, *shape]``."""
        self._parameter, self._columns = parameter, columns.reshape(len(columns), -1)
        self._per_sample = len(columns) // max(samples, 1)

    @property
    def parameters(self) -> frozenset[str | None]:
        """The one parameter."""
        return frozenset({self._parameter})

    @property
    def dtype(self) -> torch.dtype:
        """Of the columns."""
        return self._columns.dtype

    @property
    def num_columns(self) -> int:
        """The rows of what is kept."""
        return len(self._columns)

    def folded(self) -> DenseStore:
        """One behind the other."""
        samples = len(self._columns) // max(self._per_sample, 1)
        return DenseStore(self._parameter, self._columns.view(samples, -1), samples)

    def columns(self, parameters: set[str], samples: slice = ALL) -> Tensor:
        """The columns, as they are."""
        if samples == ALL:
            return self._columns
        start, stop = samples.start * self._per_sample, samples.stop * self._per_sample
        return self._columns[start:stop]
