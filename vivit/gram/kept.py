"""The columns of ``V`` in the form in which the layers keep them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vivit.layers.store import Store


class KeptColumns:
    """The columns of all runs, of all parameters."""

    def __init__(self, rows: Sequence[slice]) -> None:
        """Begin with none.

        Args:
            rows: Where the columns of each run stand among all.
        """
        self._rows = rows
        self._layers: list[list[Store]] = []

    def add(self, layer: list[Store]) -> None:
        """Keep those of a layer, in all runs, without the graphs that they come from."""
        for store in layer:
            store.settle()
        self._layers.append(layer)

    def combine(self, coefficients: Tensor, parameter: str) -> Tensor | None:
        """Linear combinations of the columns of a parameter.

        Args:
            coefficients: Shape ``[M, K]``.
            parameter: Its name.

        Returns:
            Shape ``[K, p]``; None if all columns are zero.
        """
        for layer in self._layers:
            if parameter in layer[0].parameters:
                first, *others = zip(self._rows, layer, strict=True)
                total = first[1].combine(coefficients[first[0]], parameter)
                for rows, store in others:
                    total += store.combine(coefficients[rows], parameter)
                return total
        return None
