"""Eigenvalues and eigenvectors, as a user gets them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vivit.shown import Shown, counted, summary


@dataclass(frozen=True, repr=False)
class EigenPairs(Shown):
    """Eigenvalues and eigenvectors of a curvature matrix, in ascending order.

    Attributes:
        values: Shape ``[K]``, in units of the loss per squared parameter.
        vectors: For each parameter a tensor of shape ``[K, *shape]``. Together, the ``k``-th
            slices of all parameters are a vector of unit norm.
    """

    values: Tensor
    vectors: dict[str, Tensor]

    @property
    def _parts(self) -> dict[str, str]:
        return {"values": summary(self.values), "vectors": counted([*self.vectors])}
