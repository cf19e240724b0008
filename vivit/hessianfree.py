"""Matrix-free Hessian and GGN for scipy, under the names of vivit-for-pytorch 1.0.0.

Thin names over curvlinops' operators, which took their place: use those in new code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor, nn

try:
    import curvlinops
except ModuleNotFoundError as error:
    raise ImportError(
        "vivit.hessianfree needs curvlinops: install vivit with the extra backpack, or use "
        "vivit.GGN(...).to_scipy(), which needs none of it."
    ) from error


class _OnDevice:
    """Batches that are moved when they are needed."""

    def __init__(self, data: Iterable[tuple[Tensor, Tensor]], device: torch.device) -> None:
        self._data, self._device = data, device

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return ((x.to(self._device), y.to(self._device)) for x, y in self._data)

    def __len__(self) -> int:
        return len(self._data)  # type: ignore[arg-type]


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
            model: The network, which is moved to the device.
            loss_func: The loss; as the model.
            data: Batches ``(X, y)``.
            device: Where products are computed.
            dtype: Of numpy vectors.
            progressbar: Show the progress over the batches.
            check_deterministic: Make sure that products do not change from one to the next.
        """
        parameters = [p for p in model.parameters() if p.requires_grad]
        operator = self.kind(
            model.to(device),
            loss_func.to(device),
            parameters,
            _OnDevice(data, device),
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
