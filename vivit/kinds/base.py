"""What the library needs to know of a kind of curvature."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from vivit.losses import HessianFactor


class BatchColumns(Protocol):
    """The vectors ``s_nc`` of one batch, at its model output."""

    @property
    def num_columns(self) -> int:
        """``C``, columns of each sample."""
        ...

    @property
    def normalizer(self) -> float | None:
        """What a mean over the batch was divided by, 0 for a mean over nothing; None for a sum."""
        ...

    @property
    def needs_check(self) -> bool:
        """Whether it is not known how the loss is made of those of samples."""
        ...

    def factor(self) -> HessianFactor:
        """The vectors, as of a loss of this batch alone."""
        ...

    def product(self, u: Tensor) -> Tensor | None:
        """``S_n S_n^T u_n`` in closed form, shape ``[N, *out]``; None where there is none."""
        ...

    def coordinates(self, gradient: Tensor) -> Tensor | None:
        """``w`` with ``gradient_n = sum_c w_nc s_nc``, shape ``[N, C]``; None if there is none.

        Args:
            gradient: Of the loss of this batch by the output, shape ``[N, *out]``.
        """
        ...


class Kind(Protocol):
    """Which vectors of the outputs are sent back.

    Attributes:
        loss_func: Whose gradients count; None if there is no loss.
        is_centered: Whether the mean of all columns is subtracted from each.
        may_be_sampled: Whether `MonteCarlo` could do with fewer columns.
    """

    loss_func: Any
    is_centered: bool
    may_be_sampled: bool

    def of_batch(self, output: Tensor, target: Any, index: int) -> BatchColumns:
        """The vectors of a batch.

        Args:
            output: Of the model, shape ``[N, *out]``.
            target: As the loss takes it.
            index: Number of the batch.
        """
        ...

    def scale(self, weight: float, samples: int, boost: float) -> float:
        """What the vectors of a batch are multiplied with.

        Args:
            weight: Share of the loss of the batch in that of all, 1 for a sum.
            samples: ``N`` of all batches, 1 for a sum.
            boost: By which the curvature of a subset stands for all samples.
        """
        ...

    def check_samples(self, output: Tensor, target: Any, alone: bool) -> None:
        """Make sure that the loss of a batch is made of those of its samples, where in doubt.

        Args:
            output: Of some batches, or of one.
            target: Their targets.
            alone: Whether this is the only batch.
        """
        ...
