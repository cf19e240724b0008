"""Which of its forms is kept of a layer."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from vivit.layers.affine import Workspace
from vivit.layers.column_store import ColumnStore
from vivit.layers.cost import keeps_columns
from vivit.layers.factor_store import FactorStore
from vivit.layers.layer import AffineLayer
from vivit.layers.store import LayerStore


def store_for(
    layer: AffineLayer, samples: int, columns: int, like: Tensor, workspace: Workspace
) -> LayerStore:
    """Keep the smaller of a layer's columns and its factors, if the columns are of use.

    Args:
        layer: The layer, on any batch of those to come.
        samples: Of all batches to come.
        columns: Columns per sample.
        like: A tensor of the device and dtype to use.
        workspace: Memory for the temporaries of the evaluation.

    Returns:
        An empty store.
    """
    sizes = replace(layer.sizes, samples=samples)
    shape = sizes.shape(columns, {name for name in layer.key if name is not None})
    if keeps_columns(shape, like.element_size()):
        return ColumnStore(layer, samples, columns, like, workspace)
    return FactorStore(layer, samples, columns, like, workspace)
