"""Softmax cross-entropy, with all options of ``torch.nn.CrossEntropyLoss``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from vivit.errors import InputError
from vivit.losses.base import smallest_divisor
from vivit.losses.softmax import SoftmaxFactor

DRAWN_AT_ONCE = 2**22
"""Probabilities from which classes are drawn at once: in double precision, on the CPU."""


@dataclass(frozen=True)
class CrossEntropyHessian:
    """``H = coefficient (diag(p) - p p^T)`` for each sample and position.

    Attributes:
        output: Logits, shape ``[N, K, *positions]`` for ``K`` classes.
        coefficients: Weight of the loss of each position, shape ``[N, *positions]``.
        normalizer: What a mean over the batch was divided by; None for a sum.
    """

    output: Tensor
    coefficients: Tensor
    normalizer: float | None

    @property
    def num_columns(self) -> int:
        """``K - 1``, the rank of the Hessian, for each position."""
        return (self.output.shape[1] - 1) * self.output[0, 0].numel()

    @property
    def _logits(self) -> Tensor:
        """Shape ``[N, K, P]`` for ``P`` positions."""
        return self.output.reshape(len(self.output), self.output.shape[1], -1)

    @property
    def _probabilities(self) -> Tensor:
        """``p``, shape ``[N, K, P]``; not kept, for of a language model it is large."""
        return self._logits.softmax(dim=1)

    @cached_property
    def _best(self) -> Tensor:
        """The most likely class, shape ``[N, 1, P]``."""
        return self._logits.argmax(dim=1, keepdim=True)

    @property
    def _coefficients(self) -> Tensor:
        """Shape ``[N, 1, P]``."""
        return self.coefficients.reshape(len(self.output), 1, -1)

    def factor(self) -> SoftmaxFactor:
        """``K - 1`` columns for each position, in closed form."""
        roots = self._logits.log_softmax(dim=1).mul_(0.5).exp_()
        return SoftmaxFactor(roots, self._best, self._coefficients.sqrt(), self.output.shape[1:])

    def sample(self, columns: int, generator: torch.Generator) -> Tensor:
        """``sqrt(coefficient / columns) (p - onehot(y))`` with ``y`` drawn from ``p``."""
        p = self._probabilities
        n, classes, positions = p.shape
        rows = p.transpose(1, 2).reshape(-1, classes)
        drawn = torch.cat(
            [
                torch.multinomial(
                    some.cpu().double(), columns, replacement=True, generator=generator
                )
                for some in rows.split(max(DRAWN_AT_ONCE // classes, 1))
            ]
        )
        drawn = drawn.reshape(n, positions, 1, columns).permute(0, 3, 2, 1).to(p.device)
        s = p.unsqueeze(1).repeat(1, columns, 1, 1)
        s.scatter_add_(2, drawn, torch.full_like(drawn, -1, dtype=s.dtype))
        s.mul_((self._coefficients / columns).sqrt().unsqueeze(1))
        return s.reshape(n, columns, *self.output.shape[1:])

    def product(self, u: Tensor) -> Tensor:
        """``coefficient p (u - <p, u>)``, such that a certain prediction does not cancel.

        As ``H 1 = 0``, the entry of the most likely class may be subtracted from all first: its
        large share of the inner product is zero then.
        """
        p = self._probabilities
        u = u.reshape(p.shape)
        shifted = u - u.gather(1, self._best)
        mean = (p * shifted).sum(dim=1, keepdim=True)
        return shifted.sub_(mean).mul_(p).mul_(self._coefficients).reshape(self.output.shape)

    def coordinates(self, gradient: Tensor) -> Tensor | None:
        """``w = Q^T diag(1/q) gradient / sqrt(coefficient)``, as each gradient sums to zero.

        Only where the gradient is not itself of the size of ``p``, as for an unlikely target
        class, a small ``q`` spoils the division.
        """
        factor = self.factor()
        q, scale = factor.roots, factor.scale
        gradient = gradient.reshape(q.shape)
        large = gradient.abs() > 2 * (scale * q).square()
        if (large & (q < smallest_divisor(q))).any():
            return None
        scaled = torch.where(q > 0, gradient / q, torch.zeros_like(q))
        scaled = torch.where(scale > 0, scaled / scale, torch.zeros_like(q))
        return factor.basis_transposed(scaled)


def cross_entropy(
    loss_func: nn.CrossEntropyLoss, output: Tensor, target: Tensor
) -> CrossEntropyHessian:
    """Cross-entropy on class indices or class probabilities.

    The Hessian of ``-sum_c t_c w_c log p_c`` by the logits is ``(sum_c t_c w_c)`` times that of
    the plain loss, for any targets ``t`` and class weights ``w``; label smoothing is a change of
    the targets.

    Args:
        loss_func: With any class weights, label smoothing and ``ignore_index``.
        output: Logits, shape ``[N, K, *positions]``.
        target: Classes, shape ``[N, *positions]``, or probabilities, of the output's shape.

    Returns:
        The Hessian.

    Raises:
        InputError: The shapes do not fit, a class or probability is out of range, or a weight is
            negative.
    """
    if output.ndim < 2 or output.shape[1] < 2:
        raise InputError(
            "CrossEntropyLoss needs a model output of shape [N, C, ...] with C >= 2 classes, got "
            f"{list(output.shape)}."
        )
    if loss_func.weight is not None and (loss_func.weight < 0).any():
        raise InputError("CrossEntropyLoss has negative class weights, so it is not convex.")
    if target.is_floating_point():
        coefficients, normalizer = _probability_targets(loss_func, output, target)
    else:
        coefficients, normalizer = _class_targets(loss_func, output, target)
    if loss_func.reduction == "sum":
        return CrossEntropyHessian(output, coefficients, None)
    return CrossEntropyHessian(output, coefficients / (normalizer or 1.0), normalizer)


def _class_targets(
    loss_func: nn.CrossEntropyLoss, output: Tensor, target: Tensor
) -> tuple[Tensor, float]:
    """Coefficients and normaliser: the weights of the target classes that are not ignored."""
    expected, classes = [len(output), *output.shape[2:]], output.shape[1]
    if list(target.shape) != expected:
        hint = ""
        if target.shape == output.shape:
            hint = " Use target.argmax(dim=1), or probabilities of floating point."
        elif target.numel() == output.numel() // classes:
            hint = f" Use target.reshape({expected})."
        raise InputError(
            f"CrossEntropyLoss needs class indices of shape {expected} or probabilities of shape "
            f"{list(output.shape)} as targets, got shape {list(target.shape)} and dtype "
            f"{target.dtype}.{hint}"
        )
    if target.dtype not in (torch.int64, torch.uint8):
        raise InputError(
            f"CrossEntropyLoss takes class indices of dtype torch.int64, got {target.dtype}. Use "
            "target.long()."
        )
    ignored = target == loss_func.ignore_index
    outside = ((target < 0) | (target >= classes)) & ~ignored
    if outside.any():
        first = outside.flatten().nonzero()[0]
        raise InputError(
            f"{int(outside.sum())} of {target.numel()} targets are outside of the classes "
            f"0..{classes - 1} (and not ignore_index={loss_func.ignore_index}); the first is "
            f"{int(target.flatten()[first])} at flat index {int(first)}."
        )
    weight = _class_weights(loss_func, output)
    of_target = weight[torch.where(ignored, torch.zeros_like(target), target)]
    smoothing = loss_func.label_smoothing
    coefficients = (1 - smoothing) * of_target + smoothing * weight.mean()
    kept = (~ignored).to(output)
    return coefficients * kept, float((of_target * kept).sum())


def _probability_targets(
    loss_func: nn.CrossEntropyLoss, output: Tensor, target: Tensor
) -> tuple[Tensor, float]:
    """Coefficients and normaliser: the number of positions of all samples."""
    if target.shape != output.shape:
        raise InputError(
            f"CrossEntropyLoss needs probability targets of the output's shape "
            f"{list(output.shape)}, got {list(target.shape)} and dtype {target.dtype}. For "
            "classes, use target.long()."
        )
    if (target < 0).any():
        raise InputError("CrossEntropyLoss needs probability targets that are not negative.")
    smoothing, weight = loss_func.label_smoothing, _class_weights(loss_func, output)
    smoothed = (1 - smoothing) * target + smoothing / output.shape[1]
    coefficients = torch.einsum("nk...,k->n...", smoothed, weight)
    return coefficients, float(output.numel() / output.shape[1])


def _class_weights(loss_func: nn.CrossEntropyLoss, output: Tensor) -> Tensor:
    if loss_func.weight is None:
        return output.new_ones(output.shape[1])
    return loss_func.weight.to(output)
