"""The generic rule: columns of parameters whose uses are not known.

Where the model can be run on all samples as if each were alone, every sample is given a copy of
the parameters, and one vector-Jacobian product by the copies has one column of every sample. Where
it can be run on single samples, their graphs are small. Else there is one product with the graph
of the batch for each sample and column. What comes of the first two is checked.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

from vivit.backprop.called import output_with
from vivit.backprop.checks import same_output
from vivit.backprop.forward import checked_indices
from vivit.backprop.passes import Passes
from vivit.backprop.ranges import SINGLE, Scaled
from vivit.backprop.sample_order import ways_to_take
from vivit.dtypes import loosened
from vivit.errors import is_out_of_memory
from vivit.losses import HessianFactor, columns_in_turn

MANY_PASSES = 1000
"""Backward passes through the graph of the batch from which on a warning tells of them."""

TOLERANCE = 1e4
"""How far columns may be off, in units of the precision; deep networks lose less, too."""

CHECK_SEED = 0
"""Of the random coefficients with which columns are checked."""

Columns = dict[str, Tensor]
"""Of each parameter, by name: shape ``[N, C, p]``."""


class GenericWay(Enum):
    """How the generic rule finds columns, the fastest first."""

    AT_ONCE = "all samples at once"
    BY_SAMPLE = "sample by sample"
    ONE_BY_ONE = "one by one"


@dataclass(frozen=True)
class GenericRule:
    """Columns ``J_n^T s_nc`` of some parameters.

    Attributes:
        passes: The forward pass of the batch.
        model: The model.
        x: Its inputs.
        parameters: The parameters, by name.
        factor: Of the samples that have columns.
        samples: Indices of these samples in the batch.
        of_sample: The forward pass of a single sample of the batch; None if it cannot be run.
        at_a_time: Samples that are run together as if each were alone.
    """

    passes: Passes
    model: nn.Module
    x: Any
    parameters: Mapping[str, Tensor]
    factor: HessianFactor
    samples: Tensor
    of_sample: Callable[[int], Passes | None]
    at_a_time: int

    def __call__(self, first: GenericWay) -> tuple[GenericWay, Columns]:
        """Find the columns.

        Args:
            first: The first way to try.

        Returns:
            The way that worked, and the columns.
        """
        ways = [*GenericWay]
        for way in ways[ways.index(first) :]:
            for columns in self._found_by(way):
                if way is GenericWay.ONE_BY_ONE or self._fits(columns):
                    return way, columns
        raise AssertionError("products with the graph of the batch are always possible")

    def _found_by(self, way: GenericWay) -> Iterator[Columns]:
        """What a way gives; nothing if the model does not allow for it."""
        if way is GenericWay.ONE_BY_ONE:
            yield self._one_by_one()
        elif self.passes.is_random:  # which would be another function
            return
        elif way is GenericWay.BY_SAMPLE:
            columns = self._empty()
            if all(self._put_sample(columns, n) for n in range(len(self.samples))):
                yield columns
        else:
            starts = range(0, len(self.samples), self.at_a_time)
            rows = [slice(i, i + self.at_a_time) for i in starts]
            for leaves in self._separate_inputs():
                columns = self._empty()
                if all(self._put_samples(columns, leaves, some) for some in rows):
                    yield columns

    def _empty(self) -> Columns:
        shape, like = (self.factor.num_samples, self.factor.num_columns), self.passes.output
        return {name: like.new_empty(*shape, p.numel()) for name, p in self.parameters.items()}

    @staticmethod
    def _columns_of(factor: HessianFactor) -> Iterator[Tensor]:
        """One column of every sample after the other, each of shape ``[N, *out]``."""
        return (made[:, 0] for _, made in columns_in_turn(factor, at_a_time=1))

    def _separate_inputs(self) -> Iterator[list[tuple[Any, int | None]]]:
        """The ways to tell samples apart: leaves of the inputs, and which axis is of samples.

        Those that have one have it before the axis of a batch of size one.
        """
        before, structure = tree_flatten(self.x)
        for take in ways_to_take(self.x, len(self.passes.output)):
            leaves, new_structure = tree_flatten(take(self.samples))
            taken = [a is not b for a, b in zip(leaves, before, strict=False)]
            if new_structure == structure and any(taken):  # else a list of samples
                yield [
                    (x.unsqueeze(1), 0) if own else (x, None)
                    for x, own in zip(leaves, taken, strict=True)
                ]

    def _put_samples(
        self, columns: Columns, leaves: list[tuple[Any, int | None]], rows: slice
    ) -> bool:
        """Columns of some samples by a copy of the parameters for each."""
        samples = self.samples[rows]
        places = torch.arange(self.factor.num_samples, device=samples.device)[rows]
        factor, expected = self.factor.of_samples(places), self.passes.output.detach()[samples]
        axes = [axis for _, axis in leaves]
        inputs = [x if axis is None else x[rows] for x, axis in leaves]
        structure = tree_flatten(self.x)[1]
        copies = {
            name: p.detach().expand(len(samples), *p.shape).clone().requires_grad_()
            for name, p in self.parameters.items()
        }

        def alone(values: dict[str, Tensor], *own: Any) -> Tensor:
            result: Tensor = output_with(self.model, values, tree_unflatten(own, structure))
            return result.squeeze(0)

        forward = vmap(alone, in_dims=(0, *axes))
        try:
            with (
                torch.enable_grad(),
                checked_indices(expected.device),
                warnings.catch_warnings(),
            ):
                warnings.filterwarnings("ignore", "There is a performance drop")
                output = self.passes.run(lambda: forward(copies, *inputs))
                if not same_output(output.detach(), expected, self.passes.lowest):
                    return False
                for c, u in enumerate(self._columns_of(factor)):
                    scaled = Scaled.of([u], self.passes.lowest, SINGLE)
                    pulled = self._pull(output, copies, *scaled.tensors)
                    for name, column in zip(copies, pulled, strict=True):
                        columns[name][rows, c] = scaled.restored(column).reshape(len(samples), -1)
        except Exception as error:  # a model may refuse in any way
            if is_out_of_memory(error):
                raise
            return False
        return True

    def _pull(self, output: Tensor, copies: Mapping[str, Tensor], u: Tensor) -> tuple[Tensor, ...]:
        with self.passes.differentiating():
            return torch.autograd.grad(
                output,
                list(copies.values()),
                u,
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )

    def _put_sample(self, columns: Columns, n: int) -> bool:
        """Columns of one sample by the graph of that sample."""
        passes = self.of_sample(int(self.samples[n]))
        if passes is None:
            return False
        factor = self.factor.of_samples(torch.tensor([n], device=self.samples.device))
        for c, u in enumerate(self._columns_of(factor)):
            self._put(columns, n, c, passes.pull(u, self._inputs))
        return True

    def _one_by_one(self) -> Columns:
        """Columns by the graph of the batch, a sample and column at a time."""
        count = self.factor.num_samples * self.factor.num_columns
        if count >= MANY_PASSES:
            warnings.warn(
                f"The columns of {', '.join(map(repr, self.parameters))} take {count} backward "
                "passes, one per sample and column: no rule knows what the model does with these "
                "parameters, and it cannot be run on single samples. Select other parameters, or "
                "use fewer samples or MonteCarlo().",
                stacklevel=2,
            )
        columns, u = self._empty(), torch.zeros_like(self.passes.output.detach())
        for c, column in enumerate(self._columns_of(self.factor)):
            for n, sample in enumerate(self.samples.tolist()):
                u[sample] = column[n]
                self._put(columns, n, c, self.passes.pull(u, self._inputs))
                u[sample] = 0
        return columns

    def _put(self, columns: Columns, n: int, c: int, pulled: list[Tensor]) -> None:
        for of_parameter, column in zip(columns.values(), pulled, strict=True):
            of_parameter[n, c] = column.flatten()

    @property
    def _inputs(self) -> list[Tensor]:
        return list(self.parameters.values())

    def _fits(self, columns: Columns) -> bool:
        """Whether a random combination of all columns is what the graph of the batch gives."""
        generator = torch.Generator().manual_seed(CHECK_SEED)
        shape, output = (self.factor.num_samples, self.factor.num_columns), self.passes.output
        w = torch.randn(shape, generator=generator, dtype=output.dtype).to(output.device)
        combined = self.factor.spread(w)
        u = torch.zeros_like(self.passes.output.detach()).index_copy_(0, self.samples, combined)
        for found, expected in zip(
            columns.values(), self.passes.pull(u, self._inputs), strict=True
        ):
            actual = torch.einsum("nc,ncp->p", w, found)
            size = torch.einsum("nc,ncp->p", w.abs(), found.abs())
            info = torch.finfo(found.dtype)
            relative = loosened(TOLERANCE * info.eps, self.passes.lowest)
            allowed = relative * size.norm() + info.tiny
            if not (actual - expected.flatten()).norm() <= allowed:  # NaN does not fit
                return False
        return True
