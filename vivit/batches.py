"""Batches, and the curvature of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby, pairwise
from typing import Any

import torch
from torch import Tensor

from vivit.backprop.autograd import Linearization
from vivit.backprop.pushforward import Ways
from vivit.backprop.random_state import RandomState
from vivit.kinds import BatchColumns, Kind
from vivit.losses import DenseFactor, HessianFactor, loss_gradient

WORTH_A_PASS = 2.0**23
"""Flops of a forward pass of some samples, above which passes without them are worth a forward
pass of the others: as many as a CPU computes in the time of its checks and its graph."""


@dataclass(frozen=True)
class Batch:
    """A batch, and what is known of it without its autograd graph.

    Attributes:
        index: Its number among the batches.
        x: Inputs.
        y: Targets.
        size: Number of samples.
        start: Number of samples in the batches before.
        output_shape: Of the model output of a sample.
        columns: ``C``, columns of each sample.
        random_state: Of the generators before its forward pass.
        normalizer: What the mean loss of the batch is divided by; None for a sum.
        ways: What is known of the ways to its Jacobian-vector products.
    """

    index: int
    x: Any
    y: Any
    size: int
    start: int
    output_shape: torch.Size
    columns: int
    random_state: RandomState
    normalizer: float | None
    ways: Ways


class ColumnPlaces:
    """Where the columns of each sample stand among all, ordered ``(n, c)``.

    Batches may differ in their columns per sample, as outputs of several lengths do.

    Attributes:
        shapes: ``(N, C)`` of each run of batches with as many columns per sample: samples that
            carry curvature, and columns of each.
        total: ``M``, columns of all.
    """

    def __init__(self, of_batches: Iterable[tuple[int, int]]) -> None:
        """Put them in order.

        Args:
            of_batches: Samples with curvature of each batch, and columns of each of them.
        """
        sizes = [*of_batches]
        ends = [0, *accumulate(n * c for n, c in sizes)]
        self._slices = [slice(*ends_of) for ends_of in pairwise(ends)]
        runs = groupby((x for x in sizes if x[0]), key=lambda x: x[1])
        self.shapes = [(sum(n for n, _ in run), c) for c, run in runs]
        self.total = ends[-1]

    @property
    def most(self) -> int:
        """The largest ``C``."""
        return max(c for _, c in self.shapes)

    def of_batch(self, index: int) -> slice:
        """Those of the samples of a batch."""
        return self._slices[index]

    def by_samples(self, x: Tensor) -> list[Tensor]:
        """A tensor ``[M, ...]`` as tensors ``[N, C, ...]``, one for each of `shapes`."""
        parts = x.split([n * c for n, c in self.shapes])
        return [part.unflatten(0, shape) for part, shape in zip(parts, self.shapes, strict=True)]


Carrying = tuple[Linearization, HessianFactor, Tensor | None]
"""A linearization, the factors of its loss Hessian, and the indices of their samples; None for
all."""


@dataclass(frozen=True)
class Carried:
    """The samples of a batch that carry curvature, by themselves.

    Attributes:
        linearization: The model on these samples alone.
        factor: Their factors ``S``.
        rows: Where their columns stand among those of all batches.
        samples: All of them.
    """

    linearization: Linearization
    factor: HessianFactor
    rows: slice
    samples: None = None

    def multiply(self, u: Tensor) -> Tensor:
        """The loss Hessian, as it is approximated, times ``u``, shape ``[N, *out]``."""
        return self.spread(self.contract(u))

    def contract(self, u: Tensor) -> Tensor:
        """``S^T u``: from ``[N, *out]`` to ``[N, C]``."""
        return self.factor.contract(u)

    def spread(self, coefficients: Tensor) -> Tensor:
        """``S coefficients``: from ``[N C]``, flat or not, to ``[N, *out]``."""
        return spread(self.factor, coefficients)


@dataclass(frozen=True)
class BatchCurvature:
    """A batch with its autograd graph.

    Attributes:
        batch: The batch.
        linearization: The model, differentiable at its parameters and inputs.
        kind: Of the curvature.
        weight: Share of the batch loss in that of all batches.
        scale: What the columns are multiplied with.
        samples: Indices of the samples that carry curvature; None for all.
        rows: Where their columns stand among those of all batches.
        alone: Whether it is the only batch.
        known_columns: Its vectors of the outputs, if they have been made.
    """

    batch: Batch
    linearization: Linearization
    kind: Kind
    weight: float
    scale: float
    samples: Tensor | None
    rows: slice
    alone: bool
    known_columns: BatchColumns | None = None

    def by_samples(self, u: Tensor) -> Tensor:
        """What the model's output is, or looks like, as ``[N, *]``."""
        return u

    @property
    def num_curvature_samples(self) -> int:
        """Samples that carry curvature."""
        return self.batch.size if self.samples is None else len(self.samples)

    @cached_property
    def columns(self) -> BatchColumns:
        """The vectors of the outputs that are sent back, without their scale."""
        if self.known_columns is not None:
            return self.known_columns
        return self.kind.of_batch(self.output, self.target, self.batch.index)

    @property
    def output(self) -> Tensor:
        """Of the model, as the loss takes it, shape ``[N, *out]``."""
        return self.linearization.output

    @property
    def target(self) -> Any:
        """Beside it."""
        return self.batch.y

    @cached_property
    def sample_gradients(self) -> Tensor:
        """Gradient of the loss of all batches by the output, shape ``[N, *out]``."""
        if not self.weight:  # a mean over nothing is NaN, but does not count
            return torch.zeros_like(self.output)
        return self.weight * loss_gradient(self.kind.loss_func, self.output, self.target)

    @property
    def gradient(self) -> Tensor:
        """The same, in the shape of the model's output."""
        return self.sample_gradients

    @property
    def gradient_factor(self) -> HessianFactor:
        """The same, as a column of each sample."""
        return DenseFactor(self.sample_gradients.unsqueeze(1))

    @cached_property
    def factor(self) -> HessianFactor:
        """Factors ``S`` of the samples that carry curvature."""
        factor = self.columns.factor()
        if self.samples is not None:
            factor = factor.of_samples(self.samples)
        return factor if self.scale == 1 else factor.scaled(self.scale)

    @property
    def coordinates(self) -> Tensor | None:
        """``w`` with ``gradient_n = S_n w_n``, shape ``[N, C]``, where there is one."""
        found = self.columns.coordinates(self.sample_gradients / (self.weight or 1.0))
        return None if found is None else found * (self.weight / (self.scale or 1.0))

    @property
    def carried(self) -> BatchCurvature | Carried:
        """What has columns: all of it, or a subset alone, whose passes cost less.

        A subset of a single batch is run by itself, if the model can run on it. That costs one
        more forward pass of these samples, once, which others must be worth.
        """
        if self.samples is None or not self.alone or self._has_few_others:
            return self
        self.linearization.check_fresh()
        return self if self._by_itself is None else self._by_itself

    @property
    def _has_few_others(self) -> bool:
        """Whether a pass of the samples without curvature costs next to nothing, as far as known.

        Of parameters that no layer serves as a whole, it is not.
        """
        sizes, share = self.linearization.sizes, self.num_curvature_samples / self.batch.size
        return not sizes.dense and (1 - share) * sizes.forward_flops < WORTH_A_PASS

    @cached_property
    def _by_itself(self) -> Carried | None:
        assert self.samples is not None
        some = self.linearization.of_samples(self.samples)
        return None if some is None else Carried(some, self.factor, self.rows)

    def carrying(self) -> Carrying:
        """The model, the factor, and which samples of the model it belongs to (None for all)."""
        carried = self.carried
        return carried.linearization, carried.factor, carried.samples

    def multiply(self, u: Tensor) -> Tensor:
        """The loss Hessian, as it is approximated, times ``u``, shape ``[N, *out]``."""
        found = self.columns.product(u) if self.samples is None else None
        return self.spread(self.contract(u)) if found is None else self.scale**2 * found

    def contract(self, u: Tensor) -> Tensor:
        """``S^T u``: from ``[N, *out]`` to ``[N, C]`` for the samples with curvature."""
        u = u if self.samples is None else u[self.samples]
        return self.factor.contract(u)

    def spread(self, coefficients: Tensor) -> Tensor:
        """As `Carried.spread`; zero for all other samples."""
        u = spread(self.factor, coefficients)
        if self.samples is None:
            return u
        return torch.zeros_like(self.linearization.output).index_copy_(0, self.samples, u)


def spread(factor: HessianFactor, coefficients: Tensor) -> Tensor:
    """``S coefficients``: from ``[N C]``, flat or not, to ``[N, *out]``."""
    return factor.spread(coefficients.reshape(factor.num_samples, factor.num_columns))
