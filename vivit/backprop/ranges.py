"""The range of numbers in half precision, in which small derivatives would be lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vivit.dtypes import in_working

SINGLE = 2.0**6
"""Largest entry of a cotangent whose samples are kept apart: there is more room above than below,
for 6e-5 is the smallest number with all its digits."""

SUMMED = 2.0**-4
"""Largest entry of what is summed over samples and positions, which may be 1e5."""

SMALLEST = 2.0**-100
"""Largest entry that is brought up: a scale for less, such as where all are zero, is infinite."""

MORE_ROOM = 2.0**-10
"""By how much smaller it is where sums were too large all the same."""


@dataclass(frozen=True)
class Scaled:
    """Tensors that go into a linear map together, and how its results are scaled back.

    The numbers of float16 end at 6e-8 and 65504. A backward pass is linear in its cotangent, a
    forward pass with tangents in these: so they are scaled, by a power of two, which is exact.

    Attributes:
        tensors: Scaled such that the largest entry is as wanted, if there is need.
        scale: What they were multiplied with; None if they were not.
    """

    tensors: list[Tensor]
    scale: Tensor | None

    @classmethod
    def of(
        cls, tensors: Sequence[Tensor], lowest: torch.dtype | None, largest: float = SUMMED
    ) -> Scaled:
        """Scale what goes through a model.

        Args:
            tensors: In the precision of results.
            lowest: The lowest precision in which the model computes.
            largest: What the largest entry is to be, up to a factor of two.
        """
        if lowest is not torch.float16 or not tensors:
            return cls([*tensors], None)
        found = torch.stack([x.abs().max() for x in tensors if x.numel()]).max()
        exponent = found.clamp(min=SMALLEST).log2().ceil()
        scale = largest * torch.exp2(-exponent)
        return cls([x * scale for x in tensors], scale)

    def restored(self, result: Tensor) -> Tensor:
        """What the linear map gives for the tensors as they were, in the precision of results."""
        result = in_working(result)
        return result if self.scale is None else result / self.scale
