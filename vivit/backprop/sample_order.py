"""Which rows of a tensor belong to which sample, and models that mix samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from vivit.backprop.graph import Operation
from vivit.dtypes import loosened
from vivit.errors import InputError, UnsupportedError
from vivit.layers.uses import AffineUse, SampleOrder

PROBE_SEED = 0
"""Seed of the random cotangents with which the sample axis of a tensor is found."""

DIGIT_BASE = 128
"""Each sample is known by the digits of its index: a digit scales its cotangent by 2^digit.

Or by less, such that the powers lie around one.
"""

NARROW_BASE = 4
"""As far as float16 reaches with all its digits."""

TOLERANCES = {torch.bfloat16: 1e-3, torch.float16: 1e-2}
"""How well cotangents in half precision scale: a power of two does not change how numbers are
rounded, but for those close to zero in float16, which have fewer digits."""

MIXING_TESTS = 8
"""Forward passes that look for samples that depend on others."""

PROJECTIONS = 4
"""Random projections by which the rows of two tensors are compared."""

Receive = Callable[[int, Tensor], None]
"""Takes the number of an edge and the cotangent that arrives there."""

Visit = Callable[[Tensor, list[GradientEdge], Receive], None]
"""Backpropagates a cotangent of the output, and hands over what arrives at each edge."""

Forward = Callable[[Any], Tensor]
"""Maps inputs to the model output."""

Take = Callable[[Tensor], Any]
"""Maps indices of samples to inputs of these samples."""


def sample_orders(
    operations: list[Operation],
    output: Tensor,
    visit: Visit,
    forward: Forward,
    x: Any,
    lowest: torch.dtype | None = None,
    where: Callable[[], str | None] = lambda: None,
) -> Iterator[tuple[SampleOrder, ...] | None]:
    """Find how each operation lays out samples, by backpropagating marked cotangents.

    A random cotangent is sent back as it is, then with sample ``n`` scaled by two to the power of
    a digit of ``n``, for each digit. A row of an operation's cotangent that stems from sample
    ``n`` alone scales with it; any other mixes samples. So the rows of every sample are known,
    and that the part of the model behind the operation does not mix them. Rows are compared by
    random projections, which scale as they do.

    Args:
        operations: The operations of the graph.
        output: Model output, shape ``[N, *out]``.
        visit: Backpropagates to edges of the graph.
        forward: The model.
        x: Its inputs.
        lowest: The lowest precision in which the model computes, where it is lower than that of
            results.
        where: Says where a model mixes samples, if that can be told.

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
    tolerance = 100 * torch.finfo(output.dtype).eps
    if lowest is not None:
        tolerance = TOLERANCES.get(lowest, tolerance)
    places = [_Place(x, use, len(output), tolerance) for x in operations for use in x.uses]
    visit(noise, edges, lambda i, s: places[i].remember(s))
    base = NARROW_BASE if lowest is torch.float16 else DIGIT_BASE
    for mark in _marks(len(output), base):
        marked = noise * _per_sample(mark, noise)
        visit(marked, edges, lambda i, s, mark=mark: places[i].compare(s, mark))  # type: ignore[misc]
    found, tested = iter(places), False
    for operation in operations:
        orders = [next(found).orders for _ in operation.uses]
        if not all(orders):
            if not tested:  # a test of the model, whatever the operation
                _refuse_mixing(operation, output, forward, x, lowest, where)
            tested = True
            yield None
        else:
            yield tuple(possible[0] for possible in orders)


class _Place:
    """Where cotangents arrive, and the orders of samples that they allow."""

    def __init__(
        self, operation: Operation, use: AffineUse, num_samples: int, tolerance: float
    ) -> None:
        self._operation, self._use, self._num_samples = operation, use, num_samples
        self._tolerance = tolerance
        self.orders = [] if use.rows % num_samples else list(SampleOrder)

    def remember(self, s: Tensor) -> None:
        """Take the cotangent without marks."""
        rows = self._use.by_rows(s)
        generator = torch.Generator().manual_seed(PROBE_SEED)
        weights = torch.randn(rows.shape[1], PROJECTIONS, generator=generator, dtype=s.dtype)
        self._weights = weights.to(s.device)
        self._plain, self._norms = self._project(s), rows.norm(dim=1, keepdim=True)

    def compare(self, s: Tensor, mark: Tensor) -> None:
        """Keep those orders in which each row scales with the mark of its sample."""
        marked = self._project(s)
        self.orders = [order for order in self.orders if self._fits(order, marked, mark)]

    def _fits(self, order: SampleOrder, marked: Tensor, mark: Tensor) -> bool:
        plain, norms, rows = (
            order.split(x, self._num_samples) for x in (self._plain, self._norms, marked)
        )
        scale = _per_sample(mark, plain)
        allowed = scale * (self._tolerance * norms + torch.finfo(plain.dtype).tiny)
        return bool(((rows - scale * plain).abs() <= allowed).all())

    def _project(self, s: Tensor) -> Tensor:
        """Random projections of the rows, if they are finite."""
        projected = self._use.by_rows(s) @ self._weights
        if not projected.isfinite().all():
            raise InputError(
                "The derivative of the model output is NaN or infinite at the operation that uses "
                f"{self._operation.parameters[0]!r}. Look for square roots, norms or divisions at "
                "zero."
            )
        return projected


def _marks(num_samples: int, base: int) -> list[Tensor]:
    """Powers of two that tell the samples apart, one tensor ``[N]`` for each digit."""
    index, marks = torch.arange(num_samples), []
    while True:
        digits = index % base
        marks.append(2.0 ** (digits - int(digits.max()) // 2))
        index = index // base
        if not index.any():
            return marks


def _refuse_mixing(
    operation: Operation,
    output: Tensor,
    forward: Forward,
    x: Any,
    lowest: torch.dtype | None,
    where: Callable[[], str | None],
) -> None:
    """Tell a model that mixes samples from one with an unusual layout of its tensors.

    One after the other, samples are kept while all others are replaced by the next kept one: their
    outputs may not change. Where the samples are among the inputs is not known, so the model is
    refused only if they do so however the inputs are read, and if all of these can be exchanged:
    a table that all samples share, or a graph of which they are the nodes, is none of a sample.
    """
    samples = len(output)
    tensors = [leaf for leaf in tree_leaves(x) if isinstance(leaf, Tensor) and leaf.ndim]
    readings = ways_to_take(x, samples)
    if not readings or not (_is_container(x, samples) or all(len(t) == samples for t in tensors)):
        return
    if not any(
        _keeps_apart(take, output, forward, i > 0, lowest) for i, take in enumerate(readings)
    ):
        place = where() or f"somewhere after {operation.parameters[0]!r}"
        raise UnsupportedError(
            "The model mixes samples: the output for one sample depends on others in the "
            f"batch, {place}. Per-sample Jacobians do not "
            "describe such a model. Samples must lie along the first axis of the output; "
            "use model.eval() or a normalization that treats samples separately if statistics of "
            "the batch are the cause. If samples depend on each other on purpose, such as nodes "
            "of a graph, say mixing='allow'."
        )


def _keeps_apart(
    take: Take,
    output: Tensor,
    forward: Forward,
    must_matter: bool,
    lowest: torch.dtype | None,
) -> bool:
    """Whether samples that are taken in a certain way do not change the outputs of others.

    Args:
        take: Makes inputs of which only some samples are kept.
        output: The model output.
        forward: The model.
        must_matter: Whether they have to change their own.
        lowest: As for `loosened`.

    Returns:
        True if they do not.
    """
    matters = not must_matter
    for kept, index in replacements(len(output)):
        after = forward(take(index)).detach()
        same = kept.to(output.device)
        relative = loosened(1e3 * torch.finfo(output.dtype).eps, lowest)
        tolerance = relative * output[same].abs().max()
        if not (output[same] - after[same]).abs().max() <= tolerance:  # NaN is a change
            return False
        matters = matters or bool((output - after).abs().max() > tolerance)
    return matters


def replacements(num_samples: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Samples that are kept, and indices with others replaced by these: each is kept once."""
    everyone = torch.arange(num_samples)
    for kept in everyone.chunk(min(num_samples, MIXING_TESTS)):
        index = kept[everyone % len(kept)]
        index[kept] = kept
        yield kept, index


def ways_to_take(x: Any, num_samples: int) -> list[Take]:
    """How the inputs of some samples may be picked, as lengths allow; the likeliest first.

    All tensors with one row per sample, or only one of them (others may have as many rows by
    chance), or the elements of a list or tuple with one for each.

    Args:
        x: Inputs.
        num_samples: As the output has.

    Returns:
        Functions that map indices of samples to their inputs, in that order.
    """
    leaves, structure = tree_flatten(x)
    batched = [i for i, leaf in enumerate(leaves) if _has_rows(leaf, num_samples)]

    def rows_of(chosen: list[int]) -> Take:
        def take(index: Tensor) -> Any:
            picked = list(leaves)
            for i in chosen:
                picked[i] = leaves[i][index.to(leaves[i].device)]
            return tree_unflatten(picked, structure)

        return take

    ways = [rows_of(batched)] if batched else []
    if len(batched) > 1:
        ways += [rows_of([i]) for i in batched]
    if _is_container(x, num_samples):
        ways.append(lambda index: type(x)([x[i] for i in index.tolist()]))
    return ways


def _has_rows(leaf: Any, count: int) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == count


def _is_container(x: Any, count: int) -> bool:
    """Whether inputs are one per sample: as many as there are samples, and all of a kind."""
    if type(x) not in (list, tuple) or len(x) != count:
        return False
    kinds = {(e.dtype, e.ndim) if isinstance(e, Tensor) else type(e) for e in x}
    return len(kinds) == 1


def _per_sample(x: Tensor, like: Tensor) -> Tensor:
    """Numbers ``[N]``, to be multiplied with a tensor of shape ``[N, ...]``."""
    return x.to(like).reshape(-1, *[1] * (like.ndim - 1))
