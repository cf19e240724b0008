"""The neural tangent kernel: a column for each output, its gradient.

``Theta = V^T V`` is the Gram matrix of the columns ``J_n^T e_c``. Jacot, Gabriel, Hongler, "Neural
tangent kernel", NeurIPS 2018; of finite networks: Novak, Sohl-Dickstein, Schoenholz, "Fast finite
width neural tangent kernel", ICML 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vivit.losses.diagonal import DiagonalFactor


@dataclass(frozen=True)
class OutputColumns:
    """Unit vectors of the outputs of a batch.

    Attributes:
        output: Of the model, shape ``[N, *out]``.
    """

    output: Tensor

    normalizer = None
    needs_check = False

    @property
    def num_columns(self) -> int:
        """``|out|``, the number of outputs per sample."""
        return self.output[0].numel()

    def factor(self) -> DiagonalFactor:
        """The identity."""
        return DiagonalFactor(torch.ones_like(self.output))

    def product(self, u: Tensor) -> Tensor | None:
        """Nothing changes."""
        return u

    def coordinates(self, gradient: Tensor) -> Tensor | None:
        """Its entries."""
        return gradient.reshape(len(gradient), -1)


class Outputs:
    """The model's outputs, as `Kind`; there is no loss."""

    loss_func = None
    is_centered = False
    may_be_sampled = False

    def of_batch(self, output: Tensor, target: Any, index: int) -> OutputColumns:
        """Unit vectors."""
        return OutputColumns(output)

    def scale(self, weight: float, samples: int, boost: float) -> float:
        """As they are."""
        return 1.0

    def check_samples(self, output: Tensor, target: Any, alone: bool) -> None:
        """There is nothing to check."""
        return
