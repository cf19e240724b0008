"""Test inputs, some at a time, with the unit vectors of their outputs as columns."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from vivit.backprop.autograd import Linearization
from vivit.batches import Carrying
from vivit.losses.diagonal import DiagonalFactor


def outputs_in_turn(linearization: Linearization, at_a_time: int) -> Iterator[Carrying]:
    """Samples with the unit vectors of their outputs, some at a time.

    Args:
        linearization: The model at all of them.
        at_a_time: How many.

    Yields:
        The model on some alone, where it can be run so.
    """
    output = linearization.output
    if len(output) <= at_a_time:
        yield linearization, DiagonalFactor(torch.ones_like(output)), None
        return
    for samples in torch.arange(len(output), device=output.device).split(at_a_time):
        factor = DiagonalFactor(torch.ones_like(output[samples]))
        some = linearization.of_samples(samples)
        yield (linearization, factor, samples) if some is None else (some, factor, None)
