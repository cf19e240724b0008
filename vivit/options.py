"""Options that change what is computed: approximations of the loss Hessian, subsets of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vivit.errors import InputError
from vivit.losses import DenseFactor, HessianFactor, LossHessian

Subset = Sequence[int] | range | Tensor
"""Indices of samples, or a boolean mask over them."""


class Approximation(Protocol):
    """How the loss Hessian is factored."""

    @property
    def spans_gradients(self) -> bool:
        """Whether each sample's loss gradient may lie in the span of its columns."""
        ...

    def num_columns(self, hessian: LossHessian) -> int:
        """Columns per sample."""
        ...

    def factor(self, hessian: LossHessian, batch: int) -> HessianFactor:
        """Factors of the loss Hessian of the ``batch``-th batch."""
        ...


@dataclass(frozen=True)
class Exact:
    """The loss Hessian itself, with as few columns as its rank."""

    @property
    def spans_gradients(self) -> bool:
        """Yes."""
        return True

    def num_columns(self, hessian: LossHessian) -> int:
        """As many as the loss needs."""
        return hessian.num_columns

    def factor(self, hessian: LossHessian, batch: int) -> HessianFactor:
        """The exact factors."""
        return hessian.factor()


@dataclass(frozen=True)
class MonteCarlo:
    """A random factor whose outer product has the loss Hessian as its expectation.

    Attributes:
        samples: Columns per sample, ``M``; the error falls as ``1 / sqrt(M)``.
        seed: Of a generator of its own: the same seed gives the same result on every device.
    """

    samples: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        if not isinstance(self.samples, int) or self.samples < 1:
            raise InputError(f"MonteCarlo needs at least one sample, got {self.samples}.")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise InputError(f"The seed must be a whole number >= 0, got {self.seed}.")

    @property
    def spans_gradients(self) -> bool:
        """No."""
        return False

    def num_columns(self, hessian: LossHessian) -> int:
        """The number of samples."""
        return self.samples

    def factor(self, hessian: LossHessian, batch: int) -> HessianFactor:
        """Random factors, drawn anew but equally in each call."""
        state = np.random.SeedSequence([self.seed, batch]).generate_state(1)
        generator = torch.Generator().manual_seed(int(state[0]))
        return DenseFactor(hessian.sample(self.samples, generator))


def resolve_subset(subset: Subset | None, num_samples: int) -> Tensor | None:
    """Indices of the samples that carry curvature, ascending: see `subset_index`."""
    return None if subset is None else subset_index(subset, num_samples).sort().values


def subset_index(subset: Subset, num_samples: int) -> Tensor:
    """Indices of some samples.

    Args:
        subset: Indices, or a boolean mask.
        num_samples: Samples of all batches.

    Returns:
        Indices that are not negative, in the order given, on the CPU.

    Raises:
        InputError: The subset is empty, has duplicates, or an index or the mask does not fit.
    """
    index = torch.as_tensor(subset if isinstance(subset, Tensor) else list(subset)).cpu()
    if index.dtype is torch.bool:
        if index.shape != (num_samples,):
            raise InputError(
                f"A subset given as a mask needs one entry per sample, shape [{num_samples}], got "
                f"{list(index.shape)}."
            )
        index = index.nonzero().flatten()
    if index.numel() == 0:
        raise InputError("The subset of samples is empty: the curvature needs at least one.")
    if index.is_floating_point() or index.is_complex() or index.ndim != 1:
        raise InputError(
            "A subset is a sequence of sample indices or a boolean mask, got dtype "
            f"{index.dtype} and shape {list(index.shape)}."
        )
    outside = index[(index < -num_samples) | (index >= num_samples)]
    if len(outside):
        raise InputError(
            f"The subset has index {int(outside[0])}, but there are {num_samples} samples."
        )
    index = index % num_samples  # negative ones count from the end
    values, counts = index.unique(return_counts=True)
    if (counts > 1).any():
        raise InputError(f"The subset has sample {int(values[counts > 1][0])} more than once.")
    return index
