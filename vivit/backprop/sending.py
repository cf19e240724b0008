"""Cotangents on their way back to layers, of one column or of several at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from vivit.backprop.passes import Passes, several
from vivit.layers.layer import AffineLayer

Receive = Callable[[int, slice, Tensor], None]
"""Takes the index of a layer, some columns, and their cotangents ``[K, N, T, g, o]``."""


class Sending:
    """Columns that are sent back to some layers.

    Attributes:
        edges: Where cotangents of the layers' uses arrive.
    """

    def __init__(
        self,
        passes: Passes,
        layers: Sequence[AffineLayer],
        edges: Sequence[list[GradientEdge]],
        wanted: Collection[int],
        receive: Receive,
    ) -> None:
        """Note where they arrive.

        Args:
            passes: The graph.
            layers: All layers.
            edges: For each layer, where the cotangents of its uses arrive.
            wanted: Indices of layers that receive some.
            receive: Hands them over.
        """
        self._passes, self._layers, self._receive = passes, layers, receive
        self.edges = [edge for i in wanted for edge in edges[i]]
        self._owners = [(i, place) for i in wanted for place in range(len(edges[i]))]
        self._counts = {i: len(edges[i]) for i in wanted}

    def send(self, first: int, columns: Sequence[Tensor]) -> None:
        """Send some columns, in one pass if operations can have several cotangents.

        Args:
            first: Number of the first.
            columns: Cotangents of the output.
        """
        whole = slice(first, first + len(columns))
        if len(columns) > 1 and self._passes.visit_together(
            torch.stack([*columns]), self.edges, self._receiver(whole)
        ):
            return
        for c, column in enumerate(columns, start=first):
            self._passes.visit(column, self.edges, self._receiver(slice(c, c + 1)))

    def _receiver(self, some: slice) -> Callable[[int, Tensor], None]:
        """What takes the cotangents of some columns, edge by edge."""
        partial: dict[int, dict[int, Tensor]] = {}

        def take(edge: int, s: Tensor) -> None:
            i, place = self._owners[edge]
            arrived = partial.setdefault(i, {})
            arrived[place] = s
            if len(arrived) == self._counts[i]:
                del partial[i]
                uses = [arrived[place] for place in range(self._counts[i])]
                together = self._layers[i].cotangents(uses)
                self._receive(i, some, several(together, some.stop - some.start))

        return take
