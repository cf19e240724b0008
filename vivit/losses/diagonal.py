"""Losses that treat every output on its own: their Hessian is diagonal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vivit.errors import InputError
from vivit.losses.base import random_normal, smallest_divisor


@dataclass(frozen=True)
class DiagonalFactor:
    """``S_n = diag(r_n)``, a column for each output.

    Attributes:
        roots: ``r``, shape ``[N, *out]``.
    """

    roots: Tensor

    @property
    def num_samples(self) -> int:
        """``N``."""
        return len(self.roots)

    @property
    def num_columns(self) -> int:
        """``|out|``."""
        return self.roots[0].numel()

    def columns(self, some: slice) -> Tensor:
        """Each is zero but for one output."""
        roots = self.roots.reshape(len(self.roots), -1)
        places = torch.arange(some.start, some.stop, device=roots.device)
        found = roots.new_zeros(len(roots), len(places), roots.shape[1])
        found[:, places - some.start, places] = roots[:, some]
        return found.reshape(len(roots), -1, *self.roots.shape[1:])

    def spread(self, x: Tensor) -> Tensor:
        """``r * x``."""
        return self.roots * x.reshape(self.roots.shape)

    def contract(self, u: Tensor) -> Tensor:
        """``r * u``."""
        return (self.roots * u).reshape(len(u), -1)

    def of_samples(self, samples: Tensor) -> DiagonalFactor:
        """The factors of some samples."""
        return DiagonalFactor(self.roots[samples])

    def scaled(self, scale: float) -> DiagonalFactor:
        """A scaled copy of the diagonal."""
        return DiagonalFactor(self.roots * scale)


@dataclass(frozen=True)
class DiagonalHessian:
    """``H_n = diag(h_n)`` with ``h >= 0``.

    Attributes:
        diagonal: ``h``, shape ``[N, *out]``.
        normalizer: What a mean over the batch was divided by; None for a sum.
    """

    diagonal: Tensor
    normalizer: float | None

    @property
    def num_columns(self) -> int:
        """``|out|``, the number of outputs per sample."""
        return self.diagonal[0].numel()

    def factor(self) -> DiagonalFactor:
        """``S_n = diag(sqrt(h_n))``."""
        return DiagonalFactor(self.diagonal.sqrt())

    def sample(self, columns: int, generator: torch.Generator) -> Tensor:
        """``sqrt(h_n)`` times standard normal numbers, over ``sqrt(columns)``."""
        h = self.diagonal
        noise = random_normal((len(h), columns, *h.shape[1:]), generator, h)
        return noise * (h / columns).sqrt().unsqueeze(1)

    def product(self, u: Tensor) -> Tensor:
        """``h * u``."""
        return self.diagonal * u

    def coordinates(self, gradient: Tensor) -> Tensor | None:
        """``gradient / sqrt(h)``, zero where both vanish."""
        root = self.diagonal.sqrt()
        small = root <= smallest_divisor(root) * root.max()
        if (small & (gradient != 0)).any():
            return None
        safe = torch.where(small, torch.ones_like(root), root)
        return (gradient / safe).reshape(len(gradient), -1)


def square_loss(loss_func: nn.MSELoss, output: Tensor, target: Tensor) -> DiagonalHessian:
    """Square loss ``sum_i (f_i - y_i)^2``, or its mean over all entries: ``h = 2`` over it."""
    if output.shape != target.shape:
        raise InputError(
            f"MSELoss needs targets of the output's shape {list(output.shape)}, got "
            f"{list(target.shape)} (which would be broadcast).{_reshaped(output, target)}"
        )
    normalizer = float(output.numel()) if loss_func.reduction == "mean" else None
    return DiagonalHessian(torch.full_like(output, 2 / (normalizer or 1.0)), normalizer)


def binary_cross_entropy(
    loss_func: nn.BCEWithLogitsLoss, output: Tensor, target: Tensor
) -> DiagonalHessian:
    """Binary cross-entropy on logits: ``h = weight (pos_weight y + 1 - y) p (1 - p)``."""
    if output.shape != target.shape:
        raise InputError(
            f"BCEWithLogitsLoss needs targets of the output's shape {list(output.shape)}, got "
            f"{list(target.shape)}.{_reshaped(output, target)}"
        )
    if not target.is_floating_point() or not ((target >= 0) & (target <= 1)).all():
        raise InputError(
            "BCEWithLogitsLoss needs floating-point targets between 0 and 1, got dtype "
            f"{target.dtype} and values from {float(target.min()):g} to {float(target.max()):g}."
        )
    h = output.sigmoid() * (-output).sigmoid()  # p (1 - p), which would cancel
    if loss_func.pos_weight is not None:
        h = h * (loss_func.pos_weight * target + 1 - target)
    if loss_func.weight is not None:
        h = h * loss_func.weight
    if (h < 0).any():
        raise InputError("BCEWithLogitsLoss has negative weights, so that it is not convex.")
    normalizer = float(output.numel()) if loss_func.reduction == "mean" else None
    return DiagonalHessian(h / (normalizer or 1.0), normalizer)


def _reshaped(output: Tensor, target: Tensor) -> str:
    """What to write where targets have another shape, if they have as many entries."""
    if output.numel() != target.numel():
        return ""
    return f" Use target.reshape({list(output.shape)})."
