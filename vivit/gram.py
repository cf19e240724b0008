"""Gram matrices of the columns of ``V``, accumulated layer by layer without storing ``V``."""

from __future__ import annotations

import torch
from torch import Tensor

from vivit.backprop.autograd import Linearization
from vivit.layers.affine import gram_of_columns, mirror
from vivit.layers.layer import store_for

WORKSPACE = 64 * 2**20
"""Bytes for the temporaries of one layer's evaluation."""


@torch.no_grad()
def gram_matrices(
    linearization: Linearization, factor: Tensor, groups: dict[str, list[str]]
) -> dict[str, Tensor]:
    """Gram matrices ``K = V^T V`` for groups of parameters, in one sweep of backward passes.

    Args:
        linearization: The model at its parameters and batch.
        factor: Symmetric factor of the loss Hessian, shape ``[N, C, *out]``.
        groups: Names of the parameters of each group.

    Returns:
        For each group, a matrix of shape ``[N * C, N * C]``, rows and columns ordered (n, c).
    """
    num_samples, num_columns = factor.shape[:2]
    size = num_samples * num_columns
    members = {group: set(names) for group, names in groups.items()}
    grams = {group: factor.new_zeros(size, size) for group in groups}

    stores = [store_for(layer, num_columns, factor, WORKSPACE) for layer in linearization.layers]
    for c, cotangents in enumerate(linearization.cotangents(factor)):
        for store, s in zip(stores, cotangents, strict=True):
            store.receive(c, s)
    for layer in reversed(linearization.layers):
        store = stores.pop()  # its memory is free after this layer
        for group, names in members.items():
            if not names.isdisjoint({layer.weight, layer.bias}):
                store.add_gram(grams[group], names)

    for name, columns in _generic_columns(linearization, factor).items():
        for group, names in members.items():
            if name in names:
                gram_of_columns(grams[group], columns.reshape(size, -1))
    for gram in grams.values():
        mirror(gram)
    return grams


def _generic_columns(linearization: Linearization, factor: Tensor) -> dict[str, Tensor]:
    """Columns ``[N * C, *shape]`` of the parameters that no affine layer serves."""
    num_samples, num_columns = factor.shape[:2]
    columns = {
        name: factor.new_empty(num_samples * num_columns, *linearization.parameters[name].shape)
        for name in linearization.generic
    }
    for n, c, column in linearization.sample_columns(factor):
        for name, value in column.items():
            columns[name][n * num_columns + c] = value
    return columns
