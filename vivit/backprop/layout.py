"""The affine layers of a model: the uses of its parameters, once their samples are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch.autograd.graph import GradientEdge

from vivit.backprop.graph import Operation, ParameterUses
from vivit.layers.layer import AffineLayer
from vivit.layers.uses import SampleOrder


@dataclass(frozen=True)
class LayerPart:
    """A layer on a parameter, or on a tensor made of it, that is not all of the parameter's uses.

    Attributes:
        layer: Its index among all layers.
        made: Where the tensor leaves the function that makes it; None for the parameter itself.
    """

    layer: int
    made: GradientEdge | None


@dataclass(frozen=True)
class Layout:
    """How parameters are served.

    Attributes:
        layers: Affine layers; those behind the first `num_whole` belong to parts.
        edges: For each layer, where the cotangents of its uses arrive.
        num_whole: Number of layers that are all uses of their parameters.
        parts: Parameters whose columns are sums over layers.
        generic: Names of the parameters that need the generic rule.
    """

    layers: list[AffineLayer]
    edges: list[list[GradientEdge]]
    num_whole: int
    parts: dict[str, list[LayerPart]]
    generic: list[str]

    @property
    def served(self) -> set[tuple[str | None, ...]]:
        """Names of the parameters that each layer, or sum over layers, serves."""
        whole = {layer.key for layer in self.layers[: self.num_whole]}
        return {*whole, *((name,) for name in self.parts)}


def arrange(
    uses: ParameterUses,
    orders: Mapping[Operation, tuple[SampleOrder, ...] | None],
    batch_size: int,
) -> Layout:
    """Make layers of operations.

    Args:
        uses: How parameters are used.
        orders: How each operation lays out samples; None if that is not known, so that its
            parameters need the generic rule.
        batch_size: Samples of the batch.

    Returns:
        The layers, in an order that depends on the names of parameters only.
    """
    whole = [x for x in uses.operations if orders[x] is not None]
    whole.sort(key=lambda x: (str(x.weight), str(x.bias)))
    parts = {
        name: parts
        for name, parts in sorted(uses.parts.items())
        if all(orders[part.operation] is not None for part in parts)
    }
    generic = [name for x in uses.operations if orders[x] is None for name in x.parameters]
    generic += [*uses.others, *(name for name in uses.parts if name not in parts)]
    shared = dict.fromkeys(part.operation for each in parts.values() for part in each)
    operations = [*whole, *shared]
    index = {operation: i for i, operation in enumerate(operations)}
    return Layout(
        layers=[
            AffineLayer(x.weight, x.bias, x.uses, orders[x] or (), batch_size) for x in operations
        ],
        edges=[x.edges for x in operations],
        num_whole=len(whole),
        parts={
            name: [LayerPart(index[part.operation], part.made) for part in each]
            for name, each in parts.items()
        },
        generic=sorted(generic),
    )
