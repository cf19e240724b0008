"""Which rows of a tensor belong to which sample, and models that mix samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge
from torch.utils._pytree import tree_map

from vivit.backprop.graph import Operation
from vivit.errors import InputError, UnsupportedError
from vivit.layers.uses import SampleOrder

PROBE_SEED = 0
"""Seed of the random cotangents with which the sample axis of a tensor is found."""

DIGIT_BASE = 128
"""Each sample is known by the digits of its index: a digit scales its cotangent by 2^digit.

Or by less, such that the powers lie around one.
"""

MIXING_TESTS = 8
"""Forward passes that look for samples that depend on others."""

CHUNK = 2**18
"""Numbers that are compared at once, to need little memory for it."""

Pull = Callable[[Tensor, list[GradientEdge]], list[Tensor]]
"""Maps a cotangent of the output to those at edges of the graph."""

Forward = Callable[[Any], Tensor]
"""Maps inputs to the model output."""


def sample_orders(
    operations: list[Operation], output: Tensor, pull: Pull, forward: Forward, x: Any
) -> Iterator[tuple[SampleOrder, ...] | None]:
    """Find how each operation lays out samples, by backpropagating marked cotangents.

    A random cotangent is sent back as it is, then with sample ``n`` scaled by two to the power of
    a digit of ``n``, for each digit. A row of an operation's cotangent that stems from sample
    ``n`` alone scales with it; any other mixes samples. So the rows of every sample are known,
    and that the part of the model behind the operation does not mix them.

    Args:
        operations: The operations of the graph.
        output: Model output, shape ``[N, *out]``.
        pull: Backpropagates to edges of the graph.
        forward: The model.
        x: Its inputs.

    Yields:
        For each operation the orders of its uses; None if there is one that is not known.

    Raises:
        UnsupportedError: The model mixes samples.
        InputError: A derivative is NaN or infinite.
    """
    edges = [edge for operation in operations for edge in operation.edges]
    if not edges:
        return
    generator = torch.Generator().manual_seed(PROBE_SEED)
    noise = torch.randn(output.shape, generator=generator, dtype=output.dtype).to(output.device)
    marks = _marks(len(output))
    probes = [pull(noise, edges)]
    probes += [pull(noise * _per_sample(mark, noise), edges) for mark in marks]
    cotangents = iter(zip(*probes, strict=True))
    for operation in operations:
        orders = []
        for use in operation.uses:
            plain, *marked = (_rows(use.cotangents(s), operation) for s in next(cotangents))
            orders.append(_sample_order(plain, marked, marks))
        if None in orders:
            _refuse_mixing(operation, output, forward, x)
            yield None
        else:
            yield tuple(order for order in orders if order is not None)


def _marks(num_samples: int) -> list[Tensor]:
    """Powers of two that tell the samples apart, one tensor ``[N]`` for each digit."""
    index, marks = torch.arange(num_samples), []
    while True:
        digits = index % DIGIT_BASE
        marks.append(2.0 ** (digits - int(digits.max()) // 2))
        index = index // DIGIT_BASE
        if not index.any():
            return marks


def _refuse_mixing(operation: Operation, output: Tensor, forward: Forward, x: Any) -> None:
    """Tell a model that mixes samples from one with an unusual layout of its tensors.

    One after the other, samples are kept while all others are replaced by the next kept one: their
    outputs may not change.
    """
    for kept in torch.arange(len(output)).chunk(min(len(output), MIXING_TESTS)):
        _check_unmixed(kept, operation, output, forward, x)


def _check_unmixed(
    kept: Tensor, operation: Operation, output: Tensor, forward: Forward, x: Any
) -> None:
    """Refuse a model whose output for the kept samples depends on the others."""
    index = kept[torch.arange(len(output)) % len(kept)]
    index[kept] = kept

    kept = kept.to(output.device)
    before, after = output[kept], forward(take_samples(x, index, len(output))).detach()[kept]
    tolerance = 1e3 * torch.finfo(before.dtype).eps * before.abs().max()
    if (before - after).abs().max() > tolerance:
        raise UnsupportedError(
            "The model mixes samples: the output for one sample depends on others in the "
            f"batch, somewhere after {operation.parameters[0]!r}. Per-sample Jacobians do not "
            "describe such a model. Samples must lie along the first axis of the output; "
            "use model.eval() or a normalization that treats samples separately if statistics of "
            "the batch are the cause."
        )


def take_samples(x: Any, index: Tensor, num_samples: int) -> Any:
    """Inputs of some samples, in that order: all tensors with samples along the first axis."""

    def take(leaf: Any) -> Any:
        batched = isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == num_samples
        return leaf[index.to(leaf.device)] if batched else leaf

    return tree_map(take, x)


def _per_sample(x: Tensor, like: Tensor) -> Tensor:
    """Numbers ``[N]``, to be multiplied with a tensor of shape ``[N, ...]``."""
    return x.to(like).reshape(-1, *[1] * (like.ndim - 1))


def _rows(s: Tensor, operation: Operation) -> Tensor:
    """A cotangent ``[rows, positions, g, o]`` as a matrix, if it is finite."""
    if not s.isfinite().all():
        raise InputError(
            "The derivative of the model output is NaN or infinite at the operation that uses "
            f"{operation.parameters[0]!r}. Look for square roots, norms or divisions at zero."
        )
    return s.flatten(start_dim=1)


def _sample_order(plain: Tensor, marked: list[Tensor], marks: list[Tensor]) -> SampleOrder | None:
    """The order of samples in which each row scales with the marks of its sample."""
    num_samples = len(marks[0])
    if len(plain) % num_samples:
        return None
    for order in SampleOrder:
        base = order.split(plain, num_samples)
        scaled = [order.split(rows, num_samples) for rows in marked]
        length = max(CHUNK // max(base[0].numel(), 1), 1)
        if all(
            _scales(base[i : i + length], rows[i : i + length], mark[i : i + length])
            for rows, mark in zip(scaled, marks, strict=True)
            for i in range(0, num_samples, length)
        ):
            return order
    return None


def _scales(base: Tensor, rows: Tensor, mark: Tensor) -> bool:
    """Whether rows ``[n, t, ...]`` are those of ``base`` times the marks ``[n]``."""
    info = torch.finfo(base.dtype)
    allowed = 100 * info.eps * base.abs().amax(dim=-1, keepdim=True) + info.tiny
    scale = _per_sample(mark, base)
    return bool(((rows - scale * base).abs() <= scale * allowed).all())
