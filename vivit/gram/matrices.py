"""Gram matrices of the columns of ``V``, accumulated layer by layer.

``V`` is not stored as a whole, unless it has fewer rows than columns and is what is needed.

The columns of all batches form one matrix. Its blocks on the diagonal belong to one run of like
batches each and are symmetric; a block below is rectangular, between two runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from vivit.batches import Carrying
from vivit.dtypes import is_finite, like_of
from vivit.errors import InputError
from vivit.gram.centering import center_columns, center_gram
from vivit.gram.kept import KeptColumns
from vivit.gram.plan import Plan
from vivit.gram.spectrum import NOT_FINITE, GroupMatrix
from vivit.gram.sweep import Advance, stores_of_run, unnoticed
from vivit.layers.affine import Workspace, mirror
from vivit.layers.store import Store
from vivit.parameters import flat_places


@torch.no_grad()
def group_matrices(
    carrying: Callable[[], Iterator[Carrying]],
    runs: Sequence[tuple[int, int]],
    parameters: Mapping[str, Tensor],
    groups: Mapping[str, list[str]],
    workspace: int,
    plan: Plan,
    dtype: torch.dtype | None = None,
    keep: bool = False,
    whole: bool = False,
    centered: bool = False,
    advance: Advance = unnoticed,
) -> dict[str, GroupMatrix]:
    """Gram matrices of groups, or their columns where these are smaller.

    Args:
        carrying: Gives what carries curvature, batch by batch; one has to exist at a time.
        runs: Samples of each run of batches that agree in the sizes of their layers, and columns
            of each of them.
        parameters: All parameters, by name.
        groups: Names of the parameters of each group.
        workspace: Bytes for the temporaries of one layer's evaluation.
        plan: Which parameters each sweep of backward passes serves (what is kept for them is free
            before the next), and how many columns a pass takes.
        dtype: To work in, from the backward passes on; by default that of results.
        keep: Whether what the layers keep stays.
        whole: Whether Gram matrices are asked for in any case.
        centered: Whether the mean of all columns is subtracted from each.
        advance: Is told of backward passes that are done.

    Returns:
        The matrix of each group; rows and columns of Gram matrices are ordered (n, c).
    """
    own = like_of(parameters)
    like = own if dtype is None else own.to(dtype)
    sizes = [total * columns for total, columns in runs]
    kept = KeptColumns(_slices(sizes)) if keep else None
    matrices: list[GroupAccumulator] = []
    for names in plan.sweeps:
        memory = Workspace(workspace, like)  # free during the backward passes of the next
        batches = carrying()
        stores = [
            stores_of_run(
                batches, total, memory, names, plan.columns_per_pass, plan.columns_at_once, advance
            )
            for total, _ in runs
        ]
        if not matrices:
            shapes = {name: p.shape for name, p in parameters.items()}
            matrices = [
                GroupAccumulator(members, shapes, sizes, like, own.dtype, whole)
                for members in groups.values()
            ]
        for key in [*stores[0]]:
            layer = [s.pop(key) for s in stores]  # its memory is free after this layer
            for matrix in matrices:
                matrix.add(layer, names)
            if kept is not None:
                kept.add(layer)
            del layer
        memory.release()  # what is kept refers to it
    return {group: x.finished(kept, centered) for group, x in zip(groups, matrices, strict=True)}


class GroupAccumulator:
    """The matrix of a group: its columns, or their Gram matrix if that is smaller."""

    def __init__(
        self,
        names: list[str],
        shapes: Mapping[str, torch.Size],
        sizes: list[int],
        like: Tensor,
        precision: torch.dtype,
        whole: bool = False,
    ) -> None:
        """Begin with zeros.

        Args:
            names: Parameters of the group.
            shapes: Of all parameters.
            sizes: Number of columns of each run.
            like: A tensor of the dtype and device to use.
            precision: That of the columns, which may be lower.
            whole: Whether the Gram matrix is asked for in any case.
        """
        self._precision = precision
        self._places = flat_places({name: shapes[name] for name in names})
        self._blocks, total = _slices(sizes), sum(sizes)
        dimension = sum(shapes[name].numel() for name in names)
        self._is_small = dimension <= total and not whole
        self._matrix = like.new_zeros(total, dimension if self._is_small else total)

    def add(self, layer: list[Store], names: Collection[str]) -> None:
        """Add what a layer keeps.

        Args:
            layer: The stores of all runs.
            names: Parameters that count, if they are of this group.
        """
        own = {name for name in names if name in layer[0].parameters and name in self._places}
        if self._is_small:
            for name in own:
                for rows, store in zip(self._blocks, layer, strict=True):
                    self._matrix[rows, self._places[name]] = store.columns({name})
        elif own:
            self._add_products(layer, own)

    def _add_products(self, layer: list[Store], names: set[str]) -> None:
        """Add the products of all pairs of runs to the lower blocks."""
        for i, rows in enumerate(self._blocks):
            for j, cols in enumerate(self._blocks[: i + 1]):
                other = None if i == j else layer[j]
                add_gram(self._matrix[rows, cols], layer[i], names, other)

    def finished(self, kept: KeptColumns | None = None, centered: bool = False) -> GroupMatrix:
        """The whole matrix.

        Args:
            kept: What its columns are made of, if that is kept.
            centered: Whether the mean of all columns is subtracted from each.

        Raises:
            InputError: It is not finite.
        """
        if self._is_small:
            shown = self._matrix
        else:
            mirror(self._matrix)
            shown = self._matrix.diagonal()  # by the Cauchy-Schwarz inequality, all shows there
        if not is_finite(shown):
            raise InputError(NOT_FINITE)
        center = center_columns if self._is_small else center_gram
        removed = center(self._matrix) if centered else 0.0
        columns, gram = (self._matrix, None) if self._is_small else (None, self._matrix)
        return GroupMatrix(columns, gram, self._precision, kept, removed)


def add_gram(gram: Tensor, store: Store, names: set[str], other: Store | None = None) -> None:
    """As the store's method, to a matrix that may have another precision than the columns."""
    if gram.dtype == store.dtype:
        store.add_gram(gram, names, other)
        return
    part = torch.zeros_like(gram, dtype=store.dtype)
    store.add_gram(part, names, other)
    gram += part


def _slices(sizes: list[int]) -> list[slice]:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [slice(start, start + size) for start, size in zip(starts, sizes, strict=True)]
