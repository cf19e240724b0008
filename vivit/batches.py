"""Batches: what a user gives as data, and the loss curvature of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from operator import length_hint
from typing import Any

import torch
from torch import Tensor

from vivit.backprop.autograd import Linearization
from vivit.backprop.pushforward import Ways
from vivit.backprop.random_state import RandomState
from vivit.errors import InputError
from vivit.losses import HessianFactor, LossHessian, loss_gradient, loss_hessian
from vivit.options import Approximation


@dataclass(frozen=True)
class Batch:
    """A batch, and what is known of it without its autograd graph.

    Attributes:
        index: Its number among the batches.
        x: Inputs.
        y: Targets.
        size: Number of samples.
        start: Number of samples in the batches before.
        random_state: Of the generators before its forward pass.
        normalizer: What the mean loss of the batch is divided by; None for a sum.
        ways: What is known of the ways to its Jacobian-vector products.
    """

    index: int
    x: Any
    y: Any
    size: int
    start: int
    random_state: RandomState
    normalizer: float | None
    ways: Ways


Carrying = tuple[Linearization, HessianFactor, Tensor | None]
"""A linearization, the factors of its loss Hessian, and the indices of their samples; None for
all."""


@dataclass(frozen=True)
class Carried:
    """The samples of a batch that carry curvature, by themselves.

    Attributes:
        linearization: The model on these samples alone.
        factor: Their factors ``S``.
        rows: Where these stand among those of all batches.
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
        """``S coefficients``: from ``[N, C]`` to ``[N, *out]``."""
        return self.factor.spread(coefficients)


@dataclass(frozen=True)
class BatchCurvature:
    """A batch with its autograd graph.

    Attributes:
        batch: The batch.
        linearization: The model, differentiable at its parameters and inputs.
        loss_func: The loss.
        weight: Share of the batch loss in that of all batches.
        boost: ``N / |S|``, by which the curvature of a subset stands for all samples.
        samples: Indices of the samples that carry curvature; None for all.
        rows: Where these stand among those of all batches.
        approximation: How the loss Hessian is factored.
        alone: Whether it is the only batch.
        known_hessian: Its Hessian by the model output, if that has been made.
    """

    batch: Batch
    linearization: Linearization
    loss_func: Any
    weight: float
    boost: float
    samples: Tensor | None
    rows: slice
    approximation: Approximation
    alone: bool
    known_hessian: LossHessian | None = None

    @property
    def num_curvature_samples(self) -> int:
        """Samples that carry curvature."""
        return self.batch.size if self.samples is None else len(self.samples)

    @cached_property
    def hessian(self) -> LossHessian:
        """Hessian of the batch loss with respect to the model output."""
        if self.known_hessian is not None:
            return self.known_hessian
        return loss_hessian(self.loss_func, self.linearization.output, self.batch.y)

    @cached_property
    def gradient(self) -> Tensor:
        """Gradient of the loss of all batches by the output, shape ``[N, *out]``."""
        output = self.linearization.output
        if not self.weight:  # a mean over nothing is NaN, but does not count
            return torch.zeros_like(output)
        return self.weight * loss_gradient(self.loss_func, output, self.batch.y)

    @cached_property
    def factor(self) -> HessianFactor:
        """Factors ``S`` of the samples that carry curvature."""
        factor = self.approximation.factor(self.hessian, self.batch.index)
        if self.samples is not None:
            factor = factor.of_samples(self.samples)
        scale = (self.weight * self.boost) ** 0.5
        return factor if scale == 1 else factor.scaled(scale)

    @property
    def carried(self) -> BatchCurvature | Carried:
        """What has columns: all of it, or a subset alone, whose passes cost less.

        A subset of a single batch is run by itself, if the model can run on it. That costs one
        more forward pass of these samples, once.
        """
        if self.samples is None or not self.alone:
            return self
        self.linearization.check_fresh()
        return self if self._by_itself is None else self._by_itself

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
        if self.approximation.spans_gradients and self.samples is None:
            return self.weight * self.hessian.product(u)
        return self.spread(self.contract(u))

    def contract(self, u: Tensor) -> Tensor:
        """``S^T u``: from ``[N, *out]`` to ``[N, C]`` for the samples with curvature."""
        u = u if self.samples is None else u[self.samples]
        return self.factor.contract(u)

    def spread(self, coefficients: Tensor) -> Tensor:
        """``S coefficients``: from ``[N, C]`` to ``[N, *out]``, zero for all other samples."""
        u = self.factor.spread(coefficients)
        if self.samples is None:
            return u
        return torch.zeros_like(self.linearization.output).index_copy_(0, self.samples, u)


def as_batches(data: Any) -> Iterator[tuple[Any, Any]]:
    """The batches of what a user gave as data.

    Args:
        data: A batch ``(X, y)``, or an iterable of batches.

    Yields:
        Inputs and targets.

    Raises:
        InputError: It is neither, or a batch or the whole is empty.
    """
    if _is_batch(data):
        yield _checked(data)
        return
    if isinstance(data, Tensor) or not isinstance(data, Iterable):
        raise InputError(
            "data must be a batch (X, y) of inputs and target tensor or an iterable of batches, "
            f"got {type(data).__name__}."
        )
    count = 0
    for count, batch in enumerate(data, start=1):
        if not _is_batch(batch):
            raise InputError(
                f"Batch {count - 1} of data must be (X, y), inputs and target tensor, got "
                f"{type(batch).__name__}"
                + (f" of length {len(batch)}." if isinstance(batch, (tuple, list)) else ".")
            )
        yield _checked(batch)
    if not count:
        raise InputError("data has no batches: is the iterable used up?")


def num_batches(data: Any) -> int | None:
    """How many there are, if the data can tell."""
    if _is_batch(data):
        return 1
    return length_hint(data) or None


def _is_batch(data: Any) -> bool:
    return isinstance(data, (tuple, list)) and len(data) == 2 and isinstance(data[1], Tensor)


def _checked(batch: Any) -> tuple[Any, Any]:
    for name, tensor in zip(("X", "y"), batch, strict=True):
        if isinstance(tensor, Tensor) and (tensor.ndim == 0 or len(tensor) == 0):
            raise InputError(
                f"The batch is empty: {name} has shape {list(tensor.shape)}, expected samples "
                "along the first axis."
            )
    return batch[0], batch[1]
