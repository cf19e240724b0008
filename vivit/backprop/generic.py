"""The generic rule: columns of parameters whose uses are not known.

Where the model can be run on all samples as if each were alone, every sample is given a copy of
the parameters, and a vector-Jacobian product by the copies has one column of every sample. Else
there is one product for each sample and column.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

from vivit.backprop.forward import checked_indices
from vivit.backprop.passes import Passes
from vivit.backprop.pushforward import same_output
from vivit.backprop.sample_order import ways_to_take
from vivit.errors import is_out_of_memory

MANY_PASSES = 1000
"""Backward passes from which on a warning tells of them."""

TOLERANCE = 1e4
"""How far columns may be off, in units of the precision; also deep networks lose less."""

CHECK_SEED = 0
"""Of the random coefficients with which columns are checked."""


@dataclass(frozen=True)
class ColumnsAtOnce:
    """Columns of all samples from one vector-Jacobian product.

    Attributes:
        passes: The forward pass of the batch.
        model: The model.
        x: Its inputs.
        output: Its output, shape ``[N, *out]``.
    """

    passes: Passes
    model: nn.Module
    x: Any
    output: Tensor

    def __call__(
        self,
        parameters: Mapping[str, Tensor],
        factor: Tensor,
        samples: Tensor | None,
        size: int,
    ) -> dict[str, Tensor] | None:
        """Columns of parameters.

        Args:
            parameters: By name.
            factor: Shape ``[N, C, *out]``.
            samples: Indices of these samples in the batch; None for all.
            size: Elements of the parameters' copies to make at a time.

        Returns:
            For each parameter ``[N * C, p]``; None if the model cannot be run sample by sample,
            or is another function then.
        """
        index = torch.arange(len(self.output), device=self.output.device)
        index = index if samples is None else samples
        step = max(size // sum(p.numel() for p in parameters.values()), 1)
        for leaves in self._separate_inputs(index):
            found = {
                name: factor.new_empty(*factor.shape[:2], p.numel())
                for name, p in parameters.items()
            }
            fits = all(
                self._fill(
                    {name: columns[rows] for name, columns in found.items()},
                    parameters,
                    [x[rows] if separate else x for x, separate in leaves],
                    [0 if separate else None for _, separate in leaves],
                    factor[rows],
                    self.output[index[rows]],
                )
                for rows in _chunks(len(index), step)
            )
            columns = {name: x.flatten(0, 1) for name, x in found.items()}
            if fits and self._are_columns(columns, parameters, factor, samples):
                return columns
        return None

    def _separate_inputs(self, index: Tensor) -> Iterator[list[tuple[Any, bool]]]:
        """The ways to tell samples apart: leaves of the inputs, and which of them have samples.

        Those that do have an axis of samples before the one of a batch of size one.
        """
        before, structure = tree_flatten(self.x)
        for take in ways_to_take(self.x, len(self.output)):
            leaves, taken_structure = tree_flatten(take(index))
            if taken_structure != structure:  # a list with an element for each sample
                continue
            separate = [a is not b for a, b in zip(leaves, before, strict=True)]
            if any(separate):
                yield [
                    (x.unsqueeze(1) if own else x, own)
                    for x, own in zip(leaves, separate, strict=True)
                ]

    def _fill(
        self,
        columns: dict[str, Tensor],
        parameters: Mapping[str, Tensor],
        leaves: list[Any],
        axes: list[int | None],
        factor: Tensor,
        output: Tensor,
    ) -> bool:
        """Columns ``[n, C, p]`` of some samples; False if the model does not allow for it."""
        structure = tree_flatten(self.x)[1]
        copies = {
            name: p.detach().expand(len(factor), *p.shape).clone().requires_grad_()
            for name, p in parameters.items()
        }

        def alone(values: dict[str, Tensor], *own: Any) -> Tensor:
            result: Tensor = functional_call(self.model, values, (tree_unflatten(own, structure),))
            return result.squeeze(0)

        try:
            with torch.enable_grad(), checked_indices(output.device), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "There is a performance drop")
                forward = vmap(alone, in_dims=(0, *axes))
                outputs = self.passes.run(lambda: forward(copies, *leaves))
            if not same_output(outputs.detach(), output):
                return False
            for c in range(factor.shape[1]):
                with self.passes.differentiating():
                    pulled = torch.autograd.grad(
                        outputs,
                        list(copies.values()),
                        factor[:, c],
                        retain_graph=True,
                        allow_unused=True,
                    )
                for name, column in zip(copies, pulled, strict=True):
                    columns[name][:, c] = 0 if column is None else column.reshape(len(column), -1)
        except Exception as error:  # a model may refuse to run on one sample in any way
            if is_out_of_memory(error):
                raise
            return False
        return True

    def _are_columns(
        self,
        columns: Mapping[str, Tensor],
        parameters: Mapping[str, Tensor],
        factor: Tensor,
        samples: Tensor | None,
    ) -> bool:
        """Whether a random combination of all columns is what the batch's own graph gives."""
        generator = torch.Generator().manual_seed(CHECK_SEED)
        w = torch.randn(factor.shape[:2], generator=generator, dtype=factor.dtype)
        w = w.to(factor.device)
        combined = torch.einsum("nc,nc...->n...", w, factor)
        u = combined
        if samples is not None:
            u = torch.zeros_like(self.output).index_copy_(0, samples, combined)
        pulled = self.passes.pull(u, list(parameters.values()))
        for name, expected in zip(parameters, pulled, strict=True):
            actual, size = w.flatten() @ columns[name], w.flatten().abs() @ columns[name].abs()
            info = torch.finfo(actual.dtype)
            allowed = TOLERANCE * info.eps * size.norm() + info.tiny
            if not (actual - expected.flatten()).norm() <= allowed:  # NaN does not fit
                return False
        return True


def columns_one_by_one(
    passes: Passes, parameters: Mapping[str, Tensor], factor: Tensor, samples: Tensor | None
) -> dict[str, Tensor]:
    """Columns of parameters from one vector-Jacobian product per sample and column.

    Args:
        passes: The forward pass of the batch.
        parameters: By name.
        factor: Shape ``[N, C, *out]``.
        samples: Indices of these samples in the batch; None for all.

    Returns:
        For each parameter ``[N * C, p]``.
    """
    count = factor.shape[:2].numel()
    if count >= MANY_PASSES:
        warnings.warn(
            f"The columns of {', '.join(map(repr, parameters))} take {count} backward passes, one "
            "per sample and column: no rule knows what the model does with these parameters, and "
            "it cannot be run on all samples as if each were alone. Select other parameters, "
            "or use fewer samples or MonteCarlo().",
            stacklevel=2,
        )
    found = {name: factor.new_empty(count, p.numel()) for name, p in parameters.items()}
    cotangent = torch.zeros_like(passes.output.detach())
    rows = range(len(cotangent)) if samples is None else samples.tolist()
    for n, row in enumerate(rows):
        for c in range(factor.shape[1]):
            cotangent[row] = factor[n, c]
            pulled = passes.pull(cotangent, list(parameters.values()))
            for columns, column in zip(found.values(), pulled, strict=True):
                columns[n * factor.shape[1] + c] = column.flatten()
        cotangent[row] = 0
    return found


def _chunks(size: int, length: int) -> list[slice]:
    return [slice(i, min(i + length, size)) for i in range(0, size, length)]
