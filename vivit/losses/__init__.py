"""Loss Hessians with respect to the model output: one file per loss.

The generalized Gauss-Newton matrix is ``G = sum_n J_n^T H_n J_n`` with ``H_n`` the Hessian of
the mini-batch loss with respect to the output of sample ``n``. Each loss offers ``H_n`` as a
symmetric factor ``H_n = S_n S_n^T`` with as few columns as its rank, which are made when they are
asked for; as a random factor with ``E[S_n S_n^T] = H_n``; and as a product ``H_n u_n`` that forms
no matrix.
"""

from vivit.losses.base import LossHessian, loss_gradient, scalar_loss
from vivit.losses.factor import DenseFactor, HessianFactor, all_columns, columns_in_turn
from vivit.losses.known import known_loss
from vivit.losses.registry import SUPPORTED, check_loss, hessian_if_known, loss_hessian

__all__ = [
    "SUPPORTED",
    "DenseFactor",
    "HessianFactor",
    "LossHessian",
    "all_columns",
    "check_loss",
    "columns_in_turn",
    "hessian_if_known",
    "known_loss",
    "loss_gradient",
    "loss_hessian",
    "scalar_loss",
]
