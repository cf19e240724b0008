"""Test inputs, some at a time, with the unit vectors of their outputs as columns."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vivit.backprop.autograd import Linearization
from vivit.batches import Carrying
from vivit.losses.diagonal import DiagonalFactor
from vivit.losses.rows import Rows
from vivit.losses.units import UnitFactor


def outputs_in_turn(
    linearization: Linearization, rows: Rows, at_a_time: int
) -> Iterator[Carrying]:
    """Samples with the unit vectors of their outputs, some at a time.

    Args:
        linearization: The model at all of them.
        rows: How samples lie in its outputs.
        at_a_time: How many.

    Yields:
        The model on some alone, where it can be run so; on all, where samples are rows of one
        output, with those of some as columns of this.
    """
    whole, output = linearization.output, rows.split(linearization.output)
    if whole.shape == output.shape and len(output) <= at_a_time:
        yield linearization, DiagonalFactor(torch.ones_like(output)), None
        return
    for samples in torch.arange(len(output), device=output.device).split(at_a_time):
        factor = DiagonalFactor(torch.ones_like(output[samples]))
        if whole.shape != output.shape:
            yield linearization, UnitFactor(factor, rows, whole.shape, samples), None
            continue
        some = linearization.of_samples(samples)
        yield (linearization, factor, samples) if some is None else (some, factor, None)


def blocks_of(covariance: Tensor, outputs: int) -> Tensor:
    """Covariances of samples, of those of units.

    Args:
        covariance: Shape ``[U, c, c]``.
        outputs: ``|out|``, of which ``c`` is a multiple.

    Returns:
        Those of the samples, the blocks on the diagonals, shape ``[N, |out|, |out|]``.
    """
    units, size, _ = covariance.shape
    apart = covariance.reshape(units, size // outputs, outputs, size // outputs, outputs)
    return apart.diagonal(dim1=1, dim2=3).movedim(-1, 1).flatten(0, 1)
