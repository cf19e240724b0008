"""Loss Hessians with respect to the model output: one class per loss.

The generalized Gauss-Newton matrix is ``G = sum_n J_n^T H_n J_n`` with ``H_n`` the Hessian of
the mini-batch loss with respect to the output of sample ``n`` (``1/N`` of a mean included).
Each class below offers ``H_n`` in two forms: as a symmetric factor ``H_n = S_n S_n^T`` with as
few columns as its rank, and as a product ``H_n u_n`` that never forms a matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from vivit.errors import InputError, UnsupportedError


class LossHessian(Protocol):
    """The Hessian of a loss with respect to the model output, sample by sample."""

    @property
    def num_columns(self) -> int:
        """Number ``C`` of columns of the factor of one sample."""
        ...

    def factor(self) -> Tensor:
        """Symmetric factor ``S``, shape ``[N, C, *out]``: ``H_n = sum_c s_nc s_nc^T``."""
        ...

    def product(self, u: Tensor) -> Tensor:
        """``H_n u_n`` for every sample; ``u`` and the result have shape ``[N, *out]``."""
        ...


@dataclass(frozen=True)
class CrossEntropyHessian:
    """Softmax cross-entropy: ``H_n = scale (diag(p_n) - p_n p_n^T)``, of rank ``C_out - 1``.

    Attributes:
        output: Logits, shape ``[N, C_out]``.
        scale: ``1/N`` for the mean over the batch, ``1`` for the sum.
    """

    output: Tensor
    scale: float

    @property
    def num_columns(self) -> int:
        """``C_out - 1``, the rank of the Hessian."""
        return self.output.shape[1] - 1

    def factor(self) -> Tensor:
        r"""``S_n = sqrt(scale) diag(q) Q``, shape ``[N, C_out - 1, C_out]``.

        With ``q = sqrt(p)``, a unit vector, ``H_n = scale diag(q) (I - q q^T) diag(q)``, and
        ``I - q q^T = Q Q^T`` for any orthonormal basis ``Q`` of the complement of ``q``. The
        Householder reflection that maps ``q`` to the last unit vector gives one in closed form:
        ``Q[i, c] = delta_ic - q_i q_c / (1 + q_last)`` for all rows but the last, which is
        ``-q_c``. All terms of ``1 + q_last`` are positive, so nothing cancels.
        """
        q = (0.5 * torch.log_softmax(self.output, dim=1)).exp()
        head, last = q[:, :-1], q[:, -1:]
        basis = -head.unsqueeze(2) * (head / (1 + last)).unsqueeze(1)
        basis.diagonal(dim1=1, dim2=2).add_(1)
        basis = torch.cat([basis, -head.unsqueeze(2)], dim=2)  # [N, c, out]
        return basis.mul_(q.unsqueeze(1)).mul_(self.scale**0.5)

    def product(self, u: Tensor) -> Tensor:
        """``scale (p * u - p <p, u>)``."""
        p = self.output.softmax(dim=1)
        pu = p * u
        return self.scale * (pu - p * pu.sum(dim=1, keepdim=True))


@dataclass(frozen=True)
class SquareLossHessian:
    """Square loss ``weight * sum_i (f_i - y_i)^2``: ``H_n = 2 weight I``.

    Attributes:
        output: Model output, shape ``[N, *out]``.
        weight: ``1/(N |out|)`` for the mean over all entries, ``1`` for the sum.
    """

    output: Tensor
    weight: float

    @property
    def num_columns(self) -> int:
        """``|out|``, the number of outputs per sample."""
        return self.output[0].numel()

    def factor(self) -> Tensor:
        """``S_n = sqrt(2 weight) I``, shape ``[N, |out|, *out]``."""
        f, c = self.output, self.num_columns
        eye = torch.eye(c, dtype=f.dtype, device=f.device).mul_((2 * self.weight) ** 0.5)
        return eye.reshape(c, *f.shape[1:]).expand(len(f), c, *f.shape[1:])

    def product(self, u: Tensor) -> Tensor:
        """``2 weight u``."""
        return 2 * self.weight * u


def loss_hessian(loss_func: nn.Module, output: Tensor, target: Tensor) -> LossHessian:
    """Look up and validate the Hessian of a loss.

    Args:
        loss_func: ``nn.CrossEntropyLoss`` or ``nn.MSELoss``, with reduction mean or sum.
        output: Model output, shape ``[N, *out]``.
        target: Targets, as the loss takes them.

    Returns:
        The loss Hessian at this output.

    Raises:
        UnsupportedError: The loss, or an option of it, is not supported.
        InputError: The targets do not fit the output.
    """
    check_loss(loss_func)
    output = output.detach()
    if target.device != output.device:
        raise InputError(
            f"The targets are on {target.device}, the output on {output.device}. Move them to the "
            "same device."
        )
    if isinstance(loss_func, nn.CrossEntropyLoss):
        return _cross_entropy(loss_func, output, target)
    assert isinstance(loss_func, nn.MSELoss)
    return _square_loss(loss_func, output, target)


def check_loss(loss_func: object) -> None:
    """Refuse a loss whose Hessian is not known.

    Args:
        loss_func: What the user gave as the loss.

    Raises:
        UnsupportedError: The loss is not one of ours, or has an option that is not supported.
    """
    if type(loss_func) not in (nn.CrossEntropyLoss, nn.MSELoss):
        name = getattr(loss_func, "__name__", type(loss_func).__name__)
        raise UnsupportedError(
            f"The Hessian of the loss {name!r} is not known. Expected an instance of "
            "torch.nn.CrossEntropyLoss or torch.nn.MSELoss (not a subclass, which may compute "
            "something else)."
        )
    assert isinstance(loss_func, (nn.CrossEntropyLoss, nn.MSELoss))
    if loss_func.reduction not in ("mean", "sum"):
        raise UnsupportedError(
            f"The loss has reduction={loss_func.reduction!r}, but the GGN needs a scalar loss. "
            "Use reduction='mean' or reduction='sum'."
        )
    if isinstance(loss_func, nn.CrossEntropyLoss) and (
        loss_func.weight is not None or loss_func.label_smoothing != 0
    ):
        raise UnsupportedError(
            "CrossEntropyLoss with class weights or label smoothing is not supported yet. Use "
            "the plain loss: nn.CrossEntropyLoss(reduction='mean' or 'sum')."
        )


def _cross_entropy(
    loss_func: nn.CrossEntropyLoss, output: Tensor, target: Tensor
) -> CrossEntropyHessian:
    if output.ndim != 2 or output.shape[1] < 2:
        raise InputError(
            "CrossEntropyLoss needs a model output of shape [N, C] with C >= 2 classes, got "
            f"{list(output.shape)}."
        )
    n, c = output.shape
    if target.is_floating_point() or target.shape != (n,):
        raise InputError(
            f"CrossEntropyLoss needs class indices of shape [{n}] as targets, got shape "
            f"{list(target.shape)} and dtype {target.dtype}. Probability targets and "
            "per-position targets are not supported yet."
        )
    outside = (
        ((target < 0) | (target >= c) | (target == loss_func.ignore_index)).nonzero().flatten()
    )
    if outside.numel():
        first = int(outside[0])
        raise InputError(
            f"{outside.numel()} of {n} targets are outside of the classes 0..{c - 1} or equal to "
            f"ignore_index, which is not supported yet; the first is {int(target[first])} at "
            f"index {first}. Remove these samples from the batch."
        )
    return CrossEntropyHessian(output, 1 / n if loss_func.reduction == "mean" else 1.0)


def _square_loss(loss_func: nn.MSELoss, output: Tensor, target: Tensor) -> SquareLossHessian:
    if output.shape != target.shape:
        raise InputError(
            f"MSELoss needs targets of the output's shape {list(output.shape)}, got "
            f"{list(target.shape)} (which would be broadcast)."
        )
    return SquareLossHessian(output, 1 / output.numel() if loss_func.reduction == "mean" else 1.0)
