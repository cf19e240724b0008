"""The loss curvature of some batches: what the blocks of a GGN share, computed once for all."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from vivit.backprop.autograd import Linearization
from vivit.backprop.checks import (
    Findings,
    Versions,
    refuse_contexts,
    refuse_shards,
)
from vivit.backprop.pushforward import Ways
from vivit.backprop.random_state import RandomState
from vivit.batches import Batch, BatchCurvature, Carrying, as_batches
from vivit.devices import traits
from vivit.errors import InputError, UnsupportedError
from vivit.gram.matrices import KeptColumns, gradient_grams, group_matrices
from vivit.gram.memory import available_bytes, check_fits
from vivit.gram.plan import Plan
from vivit.gram.precision import (
    is_affordable,
    is_orthonormal,
    is_small,
    may_gain,
    orthonormalize,
)
from vivit.gram.prediction import make_plan
from vivit.gram.spectrum import EIGENVECTOR_COPIES, GramPairs, GroupMatrix, split_vectors
from vivit.layers.sizes import BatchSizes
from vivit.losses import LossHessian, check_loss, known_loss, loss_gradient, loss_hessian
from vivit.losses.convex import ConvexHessian, check_reduction
from vivit.losses.known import name_of
from vivit.options import Approximation, Subset, resolve_subset
from vivit.parameters import group_parameters

FEW_COLUMNS = 256
"""Columns of the few samples whose leading eigenspace starts a Lanczos iteration."""

TYPICAL_VECTORS = 100
"""Vectors that a Lanczos iteration keeps, or twice as many for a moment."""


class Curvature:
    """The loss curvature of some batches, for groups of parameters.

    The graph of a single batch is kept; those of several are made when needed, one at a time.

    Attributes:
        batches: The batches.
        parameters: All parameters that count, by name.
        groups: Names of the parameters of each block.
        approximation: How the loss Hessian is factored.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_func: Any,
        data: Any,
        parameters: dict[str, Tensor],
        groups: dict[str, list[str]],
        approximation: Approximation,
        subset: Subset | None,
        workspace: int | None = None,
        memory: int | None = None,
    ) -> None:
        """Run a forward pass of each batch and check that everything fits.

        Args:
            model: As for `GGN`, as are the next two.
            loss_func: The loss.
            data: A batch ``(X, y)``, or an iterable of batches.
            parameters: All parameters that count, by name.
            groups: Names of the parameters of each block.
            approximation: How the loss Hessian is factored.
            subset: Samples that carry curvature.
            workspace: Bytes for temporaries; None for what suits the device.
            memory: Bytes to get by with beyond the forward pass; None for what is available.
        """
        refuse_contexts()
        refuse_shards(model, parameters)
        for name, size in (("workspace", workspace), ("memory", memory)):
            if size is not None and (not isinstance(size, int) or size < 1):
                raise InputError(f"{name} must be a number of bytes, at least 1, got {size}.")
        self._matrices: dict[str, GroupMatrix] | None = None
        self._columns: KeptColumns | None = None
        self.has_double = False
        check_loss(loss_func)
        self._model, self._loss_func = model, known_loss(loss_func)
        self.parameters, self.groups, self.approximation = parameters, groups, approximation
        self._memory = memory
        default = traits(self.like.device).workspace_within(self.available)
        self._workspace = workspace or default
        self._versions = Versions.of(parameters, None)
        self._generic: frozenset[str] = frozenset()
        self.batches: list[Batch] = []
        self._sizes: list[BatchSizes] = []
        self.columns = 0
        last, hessian = self._first_pass(as_batches(data))
        self._normalizer = sum(batch.normalizer or 0.0 for batch in self.batches)
        if self.is_mean and not self._normalizer:
            raise InputError(
                "The loss averages over nothing: all targets are ignored or have weight 0."
            )
        self._subset = resolve_subset(subset, self.num_samples)
        self._kept = self._curvature(0, last, hessian) if len(self.batches) == 1 else None

    def _first_pass(self, data: Iterator[tuple[Any, Any]]) -> tuple[Linearization, LossHessian]:
        """Check every batch; parameters that are not used alike in all need the generic rule.

        Returns:
            Linearization and loss Hessian of the last one.
        """
        state = RandomState.current(self._model)
        layers: list[set[tuple[str | None, ...]]] = []
        generic: set[str] = set()
        unchecked: list[tuple[Tensor, Any]] = []
        findings = Findings(list(self.parameters))
        pending: list[Linearization] = []  # a single batch finds its layers when it needs them
        for x, y in data:
            ways = Ways()
            linearization = self._linearize(x, state, ways)
            output = linearization.output
            hessian = self._hessian(output, y)
            self.columns = self._columns_of(hessian)
            index, start = len(self.batches), self.num_samples
            batch = Batch(index, x, y, len(output), start, state, hessian.normalizer, ways)
            self.batches.append(batch)
            self._sizes.append(linearization.sizes)
            pending.append(linearization)
            if len(pending) > 1 or layers:
                layers += [x.layout.served for x in pending]
                generic |= {name for x in pending for name in x.layout.generic}
                pending.clear()
            self._versions.watch(x for x in tree_leaves((x, y)) if isinstance(x, Tensor))
            if isinstance(hessian, ConvexHessian):
                unchecked.append((output, y))
            if index:
                self._check_reduction(unchecked, alone=False)
            findings.add(linearization.parameter_uses)
            state = linearization.random_state_after
        self._check_reduction(unchecked, alone=True)
        findings.tell()
        if not layers:
            return linearization, hessian
        common = {key for key in layers[0] if all(key in keys for keys in layers)}
        odd = {key for keys in layers for key in keys - common}
        self._generic = frozenset(generic | {name for key in odd for name in key if name})
        self._sizes = [sizes.with_generic(sorted(self._generic)) for sizes in self._sizes]
        return linearization, hessian

    def _hessian(self, output: Tensor, y: Any) -> LossHessian:
        """The loss Hessian of a new batch, of a loss that is the same function each time."""
        before = RandomState.current(self._model)
        hessian = loss_hessian(self._loss_func, output, y)
        if not RandomState.current(self._model).same_as(before):
            raise UnsupportedError(
                f"The loss {name_of(self._loss_func)!r} draws random numbers, so that it is "
                "another function each time. Draw them before, and let them be part of the "
                "targets."
            )
        return hessian

    def _check_reduction(self, unchecked: list[tuple[Tensor, Any]], alone: bool) -> None:
        """Check outputs and targets of batches, once each; of single samples, two together."""
        singles = [(output, y) for output, y in unchecked if len(output) == 1]
        shapes = {(output.shape, y.shape) for output, y in singles}
        if len(singles) > 1 and len(shapes) == 1:
            outputs, targets = zip(*singles, strict=True)
            check_reduction(self._loss_func, torch.cat(outputs), torch.cat(targets), alone=alone)
            singles = []
        for output, y in unchecked:
            check_reduction(self._loss_func, output, y, alone=alone)
        unchecked[:] = singles

    def _columns_of(self, hessian: LossHessian) -> int:
        columns = self.approximation.num_columns(hessian)
        if self.batches and columns != self.columns:
            raise InputError(
                f"The outputs of batch {len(self.batches)} need {columns} columns per sample, "
                f"those of the batches before {self.columns}: all outputs must have one shape."
            )
        return columns

    @property
    def num_samples(self) -> int:
        """Samples of all batches."""
        return sum(batch.size for batch in self.batches)

    @property
    def num_curvature_samples(self) -> int:
        """Samples that carry curvature, ``N`` of the Gram matrix."""
        return self.num_samples if self._subset is None else len(self._subset)

    @property
    def is_mean(self) -> bool:
        """Whether the loss is a mean over samples, not a sum."""
        return self.batches[0].normalizer is not None

    def each(self) -> Iterator[BatchCurvature]:
        """The batches with their graphs, one at a time."""
        if self._kept is not None:
            yield self._kept
            return
        self._versions.check()
        for batch in self.batches:
            linearization = self._linearize(batch.x, batch.random_state, batch.ways)
            hessian = loss_hessian(self._loss_func, linearization.output, batch.y)
            yield self._curvature(batch.index, linearization, hessian)
            del linearization

    def matrices(self, solver_copies: int = 0, double: bool = False) -> dict[str, GroupMatrix]:
        """Matrices of all blocks; not those of parameters that have changed since.

        Args:
            solver_copies: Matrices that the eigensolver will hold beside its input.
            double: Whether they must be in double precision; they may be in any case.

        Raises:
            InsufficientMemoryError: They would not fit.
        """
        if self._kept is None:
            self._versions.check()
        else:
            self._kept.linearization.check_fresh()
        if self._matrices is None or double > self.has_double:
            self._matrices = None  # those in single precision, which are not needed any more
            plan = self.plan(solver_copies, double)
            check_fits(plan, self.available, lambda: self._smaller_plans(solver_copies))
            kept = None
            if double and is_small(plan, self._workspace, self.available):
                kept = KeptColumns([samples * self.columns for samples in self._runs])
            self._matrices = group_matrices(
                self._carrying,
                self._runs,
                self.parameters,
                self.groups,
                self.columns,
                self._workspace,
                plan,
                torch.float64 if double else None,
                kept,
            )
            self._columns, self.has_double = kept, double
        return self._matrices

    def _carrying(self) -> Iterator[Carrying]:
        """What carries curvature, batch by batch."""
        return (batch.carrying() for batch in self.each() if len(batch.factor))

    @property
    def _runs(self) -> list[int]:
        """Samples with curvature of each run of batches whose layers agree in their sizes."""
        runs = itertools.groupby(self._curvature_sizes, key=lambda sizes: sizes.of_samples(0))
        return [sum(sizes.samples for sizes in run) for _, run in runs]

    @property
    def has_matrices(self) -> bool:
        """Whether the matrices have been made already."""
        return self._matrices is not None

    @property
    def available(self) -> int | None:
        """Bytes to get by with beyond the forward pass; None if unknown."""
        limits = (self._memory, available_bytes(self.like.device))
        return min((limit for limit in limits if limit is not None), default=None)

    def plan(self, solver_copies: int = 0, double: bool = False) -> Plan:
        """What the matrices of all blocks will cost."""
        sizes, element_size = self._curvature_sizes, 8 if double else None
        return self._plan(sizes, self.columns, self.groups, solver_copies, element_size)

    @property
    def is_single(self) -> bool:
        """Whether there is a precision higher than the parameters'."""
        return may_gain(self.like)

    def may_be_double(self, solver_copies: int, small: bool) -> bool:
        """Whether the matrices may be made in double precision.

        Args:
            solver_copies: Matrices that the eigensolver will hold beside its input.
            small: Whether only if that is cheap; else if weak directions are worth it.

        Returns:
            Whether they are to be, or are already.
        """
        if self.has_double:
            return True
        plan = self.plan(solver_copies, double=True)
        if not is_affordable(plan, self.available):
            return False
        return not small or is_small(plan, self._workspace, self.available)

    @property
    def _curvature_sizes(self) -> list[BatchSizes]:
        """Sizes of the batches that have samples with curvature, and those samples only."""
        if self._subset is None:
            return self._sizes
        counts = [len(self._of_batch(self._subset, batch)) for batch in self.batches]
        return [x.of_samples(n) for x, n in zip(self._sizes, counts, strict=True) if n]

    def _smaller_plans(self, solver_copies: int) -> Iterator[tuple[str, Plan]]:
        """What may be done with less memory."""
        sizes, n = self._curvature_sizes, self.num_curvature_samples
        while n > 1:
            n //= 2
            some = self._plan([sizes[0].of_samples(n)], self.columns, self.groups, solver_copies)
            yield f"{n} samples, or subset=range({n})", some
        yield "MonteCarlo(samples=1)", self._plan(sizes, 1, self.groups, solver_copies)
        if solver_copies == EIGENVECTOR_COPIES:
            yield "method=Lanczos(), for the k largest", self._without_matrices()
        layers = group_parameters(self._model, self.parameters, "layer")
        if len(self.groups) == 1:
            blocks = self._plan(sizes, self.columns, layers, solver_copies)
            yield 'block_diagonal(groups="layer")', blocks

    def _without_matrices(self) -> Plan:
        """What products with the Gram matrix cost: nothing is kept but vectors."""
        plan = self.plan()
        layers = tuple(replace(x, kept_bytes=0, working_bytes=0) for x in plan.layers)
        vectors = TYPICAL_VECTORS * plan.num_columns * self.like.element_size()
        return replace(plan, layers=layers, matrix_bytes=vectors)

    def _plan(
        self,
        sizes: Sequence[BatchSizes],
        columns: int,
        groups: Mapping[str, Iterable[str]],
        solver_copies: int,
        element_size: int | None = None,
    ) -> Plan:
        entries = {
            group: {name: self.parameters[name].numel() for name in names}
            for group, names in groups.items()
        }
        return make_plan(
            sizes,
            columns,
            entries,
            element_size or self.like.element_size(),
            self._workspace,
            solver_copies,
            self.available,
            several_columns=traits(self.like.device).several_columns,
        )

    def gradient_gram(self, names: list[str], dtype: torch.dtype) -> Tensor:
        """Inner products of columns and per-sample gradients, shape ``[N C, all samples]``."""
        like = self.like.new_empty(0, dtype=dtype)
        return gradient_grams(self.each, names, like, self._workspace)

    def gradient_coordinates(self) -> Tensor | None:
        """``w`` with ``g_n = V_n w_n``, shape ``[N, C]``, where gradients lie in the span."""
        if not self.approximation.spans_gradients or self._subset is not None:
            return None
        parts = []
        for batch in self.each():
            coordinates = batch.hessian.coordinates(batch.gradient / (batch.weight or 1.0))
            if coordinates is None:
                return None
            parts.append(coordinates * batch.weight**0.5)
        return torch.cat(parts)

    def pullback(
        self, cotangent: Callable[[BatchCurvature], Tensor], names: Iterable[str]
    ) -> dict[str, Tensor]:
        """Vector-Jacobian product over all batches.

        Args:
            cotangent: Gives the cotangent of the output of a batch, shape ``[N, *out]``.
            names: Parameters to differentiate by.

        Returns:
            A tensor of the parameter's shape for each name.
        """
        totals = {name: torch.zeros_like(self.parameters[name]) for name in names}
        for batch in self.each():
            for name, part in batch.linearization.pullback(cotangent(batch), totals).items():
                totals[name] += part
        return totals

    @torch.no_grad()
    def spread(self, coefficients: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """``V coefficients``: one vector-Jacobian product for each column of coefficients.

        Args:
            coefficients: Shape ``[M, K]``.
            names: Parameters of the block.

        Returns:
            For each name a tensor of shape ``[K, *shape]``.
        """
        blocks = coefficients.T.unflatten(1, (self.num_curvature_samples, self.columns))
        result = {
            name: blocks.new_zeros(len(blocks), *self.parameters[name].shape) for name in names
        }
        for batch in self.each():
            rows = self._rows(batch)
            for k, block in enumerate(blocks):
                part = batch.linearization.pullback(batch.spread(block[rows]), result)
                for name, x in part.items():
                    result[name][k] += x
        return result

    def contract(self, v: dict[str, Tensor], pulled: bool = False) -> Tensor:
        """``V^T v``: one Jacobian-vector product.

        Args:
            v: Tensors of the block's parameters.
            pulled: Whether ``v`` is in the range of ``V``, which may be faster.

        Returns:
            Shape ``[M]``.
        """
        parts = []
        for batch in self.each():
            linearization = batch.linearization
            push = linearization.pushforward_of_pulled if pulled else linearization.pushforward
            parts.append(batch.contract(push(v)).flatten())
        return torch.cat(parts)

    @torch.no_grad()
    def leading_of_some(self, k: int, group: str) -> Tensor | None:
        """What makes a vector near the leading eigenspace, from the Gram matrix of few samples.

        It takes backward passes of these samples alone, which cost next to nothing.

        Args:
            k: Number of eigenvectors to add up.
            group: The block.

        Returns:
            ``x`` of shape ``[M]``, not zero for a few samples only: ``V x`` is the sum of the
            leading eigenvectors of their curvature. None if few are most of them, or the model
            cannot run on them alone.
        """
        batch = next(batch for batch in self.each() if len(batch.factor))
        samples = range(batch.batch.size) if batch.samples is None else batch.samples.tolist()
        count = max(FEW_COLUMNS // self.columns, 1)
        names = {group: self.groups[group]}
        sizes = self._sizes[batch.batch.index].of_samples(count)
        plan = self._plan([sizes], self.columns, names, EIGENVECTOR_COPIES)
        too_large = self.available is not None and plan.peak_bytes > self.available
        if self.columns > FEW_COLUMNS or 2 * count > len(samples) or too_large:
            return None
        few = torch.tensor(samples[:count], device=self.like.device)
        some = batch.linearization.of_samples(few)
        if some is None:
            return None
        factor = batch.factor[:count]
        matrices = group_matrices(
            lambda: iter([(some, factor, None)]),
            [count],
            self.parameters,
            names,
            self.columns,
            self._workspace,
            plan,
        )
        pairs = matrices[group].pairs(None)
        leading = pairs.keep(slice(max(len(pairs.values) - k, 0), None))
        x = self.like.new_zeros(self.num_curvature_samples * self.columns)
        start = self._rows(batch).start * self.columns
        weighted = leading.coefficients @ leading.values.rsqrt()
        x[start : start + len(weighted)] = weighted
        return x

    def vectors(self, pairs: GramPairs, names: Iterable[str]) -> dict[str, Tensor]:
        """Unit eigenvectors of ``G`` from those of the Gram matrix, ``e = V e~ / sqrt(lambda)``.

        Unless columns are kept in double precision, the true norm takes the place of
        ``sqrt(lambda)``: it is more accurate for small ones.

        Args:
            pairs: Eigenpairs of the Gram matrix.
            names: Parameters of the block.

        Returns:
            For each name a tensor of shape ``[K, *shape]``, orthonormal in the precision of the
            parameters.
        """
        dtype = self.like.dtype
        if pairs.vectors is not None:
            flat = pairs.vectors.to(dtype)
            if self.is_single and pairs.vectors.dtype == dtype:
                orthonormalize({"": flat.T}, pairs.values, self._workspace)
            return split_vectors(flat, self._shapes(names))
        exact = self._columns is not None and pairs.values.dtype != dtype
        if exact and is_orthonormal(pairs.values, len(pairs.coefficients)):
            return self._spread(pairs.coefficients / pairs.values.sqrt(), names)
        result = self._spread(pairs.coefficients, names)
        squares = [x.reshape(len(x), -1).square().sum(dim=1) for x in result.values() if x.numel()]
        norms = torch.stack(squares).sum(dim=0).sqrt() if squares else pairs.values.to(dtype)
        for x in result.values():
            x /= norms.reshape(-1, *[1] * (x.ndim - 1))
        if self.is_single:
            orthonormalize(result, pairs.values, self._workspace)
        return result

    def combine(
        self, pairs: GramPairs, weights: Tensor, names: Iterable[str]
    ) -> dict[str, Tensor]:
        """``sum_k weights_k e_k``: one vector-Jacobian product, however many eigenvectors.

        Args:
            pairs: Eigenpairs of the Gram matrix.
            weights: Shape ``[K]``.
            names: Parameters of the block.

        Returns:
            A tensor of the parameter's shape for each name.
        """
        if pairs.vectors is not None:
            flat = (pairs.vectors @ weights)[:, None].to(self.like.dtype)
            result = split_vectors(flat, self._shapes(names))
        else:
            coefficients = pairs.coefficients @ (weights / pairs.values.sqrt())
            result = self._spread(coefficients[:, None], names)
        return {name: x[0] for name, x in result.items()}

    def _spread(self, coefficients: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """``V coefficients`` from the columns, if they are kept, in double precision.

        It is rounded at the end, one parameter after the other.
        """
        if self._columns is None or coefficients.dtype == self.like.dtype:
            return self.spread(coefficients.to(self.like.dtype), names)
        count, dtype, result = coefficients.shape[1], self.like.dtype, {}
        for name in names:
            flat = self._columns.combine(coefficients, name)
            shape = count, *self.parameters[name].shape
            result[name] = (
                self.like.new_zeros(shape) if flat is None else flat.view(shape).to(dtype)
            )
        return result

    def _shapes(self, names: Iterable[str]) -> dict[str, torch.Size]:
        return {name: self.parameters[name].shape for name in names}

    def _rows(self, batch: BatchCurvature) -> slice:
        """Where the samples of a batch stand among all that carry curvature."""
        if self._subset is None:
            return slice(batch.batch.start, batch.batch.start + batch.batch.size)
        start = int((self._subset < batch.batch.start).sum())
        assert batch.samples is not None
        return slice(start, start + len(batch.samples))

    @property
    def like(self) -> Tensor:
        """A tensor of the parameters' device and dtype."""
        return next(iter(self.parameters.values())).detach()

    def _linearize(self, x: Any, state: RandomState, ways: Ways) -> Linearization:
        return Linearization(self._model, x, self.parameters, state, self._generic, ways)

    def _curvature(
        self, index: int, linearization: Linearization, hessian: LossHessian
    ) -> BatchCurvature:
        batch = self.batches[index]
        weight = 1.0 if batch.normalizer is None else batch.normalizer / self._normalizer
        gradient = torch.zeros_like(linearization.output)
        if weight:  # a mean over nothing is NaN, but does not count
            gradient = weight * loss_gradient(self._loss_func, linearization.output, batch.y)
        samples = self._local_samples(batch)
        return BatchCurvature(
            batch=batch,
            linearization=linearization,
            hessian=hessian,
            gradient=gradient,
            weight=weight,
            boost=self.num_samples / self.num_curvature_samples,
            samples=samples,
            approximation=self.approximation,
            alone=len(self.batches) == 1,
        )

    def _local_samples(self, batch: Batch) -> Tensor | None:
        if self._subset is None:
            return None
        return self._of_batch(self._subset, batch).to(self.like.device)

    @staticmethod
    def _of_batch(subset: Tensor, batch: Batch) -> Tensor:
        """Those samples of a subset that are in a batch, counted from its first."""
        local = subset - batch.start
        return local[(local >= 0) & (local < batch.size)]
