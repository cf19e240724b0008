"""Matrix-free Hessian and GGN for scipy, under the names of vivit-for-pytorch 1.0.0.

Thin names over curvlinops' operators, which took their place: use those in new code.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import curvlinops
import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor, nn


class _Operator(LinearOperator):
    """A linear operator on flat numpy vectors, in the order of ``model.parameters()``."""

    kind: Any

    def __init__(
        self,
        model: nn.Module,
        loss_func: nn.Module,
        data: Iterable[tuple[Tensor, Tensor]],
        device: torch.device,
        dtype: type[np.floating] = np.float32,
        progressbar: bool = False,
        check_deterministic: bool = True,
    ) -> None:
        """Set up the products.

        Args:
            model: The network.
            loss_func: The loss.
            data: Batches ``(X, y)``.
            device: Where products are computed.
            dtype: Of numpy vectors.
            progressbar: Show the progress over the batches.
            check_deterministic: Make sure that products do not change from one to the next.
        """
        parameters = [p for p in model.parameters() if p.requires_grad]
        batches = [(x.to(device), y.to(device)) for x, y in data]
        operator = self.kind(
            model,
            loss_func,
            parameters,
            batches,
            progressbar=progressbar,
            check_deterministic=check_deterministic,
        )
        self._inner = operator.to_scipy(dtype)
        super().__init__(dtype=np.dtype(dtype), shape=self._inner.shape)

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._inner @ x

    def _matmat(self, x: np.ndarray) -> np.ndarray:
        return self._inner @ x

    def _adjoint(self) -> _Operator:
        return self


class GGNLinearOperator(_Operator):
    """The generalized Gauss-Newton matrix."""

    kind = curvlinops.GGNLinearOperator


class HessianLinearOperator(_Operator):
    """The Hessian."""

    kind = curvlinops.HessianLinearOperator
