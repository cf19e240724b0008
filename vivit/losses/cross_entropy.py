"""Softmax cross-entropy, with all options of ``torch.nn.CrossEntropyLoss``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from vivit.errors import InputError
from vivit.losses.base import smallest_divisor


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

    @cached_property
    def _order(self) -> Tensor:
        """Permutation of the classes that swaps the most likely one with the last."""
        logits = _positions(self.output)
        order = torch.arange(logits.shape[2], device=logits.device).expand(logits.shape).clone()
        best = logits.argmax(dim=2, keepdim=True)
        order.scatter_(2, best, logits.shape[2] - 1)
        order[..., -1:] = best
        return order

    @cached_property
    def _roots(self) -> Tensor:
        """``q = sqrt(p)``, shape ``[N, positions, K]``, the most likely class last."""
        q = (0.5 * torch.log_softmax(_positions(self.output), dim=2)).exp()
        return q.gather(2, self._order)

    @cached_property
    def _scale(self) -> Tensor:
        """Square roots of the coefficients, shape ``[N, positions, 1]``."""
        return self.coefficients.reshape(len(self.output), -1, 1).sqrt()

    def factor(self) -> Tensor:
        r"""``S = sqrt(coefficient) diag(q) Q`` at each position, zero at the others.

        With ``q = sqrt(p)``, a unit vector, ``H = coefficient diag(q) (I - q q^T) diag(q)``, and
        ``I - q q^T = Q Q^T`` for any orthonormal basis ``Q`` of the complement of ``q``. The
        Householder reflection that maps ``q`` to the unit vector of the most likely class, put
        last, gives one in closed form: ``Q[i, c] = delta_ic - q_i q_c / (1 + q_last)`` for all
        rows but the last, which is ``-q_c``. As ``q_c^2 <= 1/2`` for the other classes, nothing
        cancels, however certain the prediction is.

        Returns:
            Shape ``[N, positions * (K - 1), K, *positions]``.
        """
        q = self._roots
        eye = torch.eye(q.shape[2] - 1, dtype=q.dtype, device=q.device)
        columns = self._basis(eye.expand(*q.shape[:2], -1, -1))
        columns = columns * (q * self._scale).unsqueeze(-2)  # [N, positions, c, K]
        order = self._order.unsqueeze(-2).expand(columns.shape)
        return self._at_positions(columns.gather(3, order))

    def _basis(self, w: Tensor) -> Tensor:
        """``Q w`` for ``w`` of shape ``[N, positions, ..., K - 1]``."""
        q = self._roots.reshape(*w.shape[:2], *[1] * (w.ndim - 3), -1)
        head, last = q[..., :-1], q[..., -1:]
        inner = (head * w).sum(dim=-1, keepdim=True)
        return torch.cat([w - head * inner / (1 + last), -inner], dim=-1)

    def _basis_transposed(self, r: Tensor) -> Tensor:
        """``Q^T r`` for ``r`` of shape ``[N, positions, K]``."""
        head, last = self._roots[..., :-1], self._roots[..., -1:]
        inner = (head * r[..., :-1]).sum(dim=-1, keepdim=True) / (1 + last)
        return r[..., :-1] - head * (inner + r[..., -1:])

    def of_samples(self, samples: Tensor | None) -> CrossEntropyHessian:
        """The Hessians of some of the samples; None for all."""
        if samples is None:
            return self
        return replace(self, output=self.output[samples], coefficients=self.coefficients[samples])

    def unreduced(self, w: Tensor) -> Tensor:
        """From coordinates in the factor's columns to those in ``K`` columns per position.

        These are ``sqrt(coefficient) diag(q) (I - q q^T) = S Q^T``, so the map is ``Q``.

        Args:
            w: Shape ``[N, positions * (K - 1), k]``.

        Returns:
            Shape ``[N, K * positions, k]``.
        """
        q = self._roots
        by_position = w.unflatten(1, (q.shape[1], q.shape[2] - 1)).transpose(2, 3)
        full = self._basis(by_position)  # [N, positions, k, K]
        full = full.gather(3, self._order.unsqueeze(2).expand(full.shape))
        return full.permute(0, 3, 1, 2).flatten(1, 2)

    def sample(self, columns: int, generator: torch.Generator) -> Tensor:
        """``sqrt(coefficient / columns) (p - onehot(y))`` with ``y`` drawn from ``p``."""
        p = self._roots.square()
        n, positions, classes = p.shape
        flat = p.reshape(-1, classes).cpu().double()
        drawn = torch.multinomial(flat, columns, replacement=True, generator=generator)
        drawn = drawn.reshape(n, positions, columns).permute(0, 2, 1).to(p.device)
        onehot = nn.functional.one_hot(drawn, classes).to(p)  # [N, columns, positions, K]
        s = (p.unsqueeze(1) - onehot) * self._scale.unsqueeze(1) / columns**0.5
        s = s.gather(3, self._order.unsqueeze(1).expand(s.shape))
        return s.transpose(2, 3).reshape(n, columns, *self.output.shape[1:])

    def product(self, u: Tensor) -> Tensor:
        """``S (S^T u)``, which unlike ``p * u - p <p, u>`` does not cancel."""
        scaled = self._roots * self._scale
        w = self._basis_transposed(scaled * _positions(u).gather(2, self._order))
        result = (scaled * self._basis(w)).gather(2, self._order)
        return result.transpose(1, 2).reshape(u.shape)

    def coordinates(self, gradient: Tensor) -> Tensor | None:
        """``w = Q^T diag(1/q) gradient / sqrt(coefficient)``, as each gradient sums to zero.

        Only where the gradient is not itself of the size of ``p``, as for an unlikely target
        class, a small ``q`` spoils the division.
        """
        q, scale = self._roots, self._scale
        gradient = _positions(gradient).gather(2, self._order)
        large = gradient.abs() > 2 * (scale * q).square()
        if (large & (q < smallest_divisor(q))).any():
            return None
        scaled = torch.where(q > 0, gradient / q, torch.zeros_like(q))
        scaled = torch.where(scale > 0, scaled / scale, torch.zeros_like(q))
        w = self._basis_transposed(scaled)
        return w.reshape(len(w), -1)

    def _at_positions(self, basis: Tensor) -> Tensor:
        """Place the blocks ``[N, positions, c, K]`` on the diagonal of the positions."""
        n, positions, columns, _ = basis.shape
        if positions == 1:
            return basis.reshape(n, columns, *self.output.shape[1:])
        eye = torch.eye(positions, dtype=basis.dtype, device=basis.device)
        spread = torch.einsum("npck,pr->npckr", basis, eye)
        return spread.reshape(n, positions * columns, *self.output.shape[1:])


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
        raise InputError(
            f"CrossEntropyLoss needs class indices of shape {expected} or probabilities of shape "
            f"{list(output.shape)} as targets, got shape {list(target.shape)} and dtype "
            f"{target.dtype}."
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
            f"{list(output.shape)}, got {list(target.shape)}."
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


def _positions(x: Tensor) -> Tensor:
    """``[N, K, *positions]`` as ``[N, positions, K]``."""
    return x.reshape(len(x), x.shape[1], -1).transpose(1, 2)
