"""Eigenvalues and eigenvectors, as a user gets them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vivit.shown import line, names, summary, table


@dataclass(frozen=True, repr=False)
class EigenPairs:
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
        return {"values": summary(self.values), "vectors": names([*self.vectors])}

    def __repr__(self) -> str:
        """Shape and range, for interactive use."""
        return line(type(self).__name__, self._parts)

    def _repr_html_(self) -> str:
        return table(type(self).__name__, self._parts)
