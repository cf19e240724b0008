"""Kernels between samples: inner products of the columns of each pair of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from vivit.curvature import Curvature
from vivit.dtypes import is_finite
from vivit.errors import InputError, InsufficientMemoryError
from vivit.gram.costs import Costs
from vivit.gram.cross import Columns
from vivit.gram.memory import Room
from vivit.gram.spectrum import NOT_FINITE
from vivit.layers.affine import Workspace, mirror
from vivit.memory import human_bytes

PAIR = " pairs of blocks"
"""What a bar counts."""


@dataclass(frozen=True)
class Side:
    """One of the two sets of samples between which a kernel is.

    Attributes:
        blocks: Places of its blocks among the batches of this process.
        samples: How many each rank has of it.
        per_sample: Columns of each.
    """

    blocks: range
    samples: Sequence[int]
    per_sample: int

    @property
    def counts(self) -> list[int]:
        """Columns of each rank."""
        return [count * self.per_sample for count in self.samples]


class Kernel:
    """The kernel between blocks of samples, of which two are looked at at a time."""

    def __init__(self, curvature: Curvature, room: Room, folded: bool) -> None:
        """Compute nothing yet.

        Args:
            curvature: Of the blocks, as batches.
            room: Bytes to work with.
            folded: Whether inner products are summed over the columns of a sample.
        """
        self._curvature, self._room, self._traced = curvature, room, folded
        self._folded = folded and not curvature.sampling.whole
        self._names = {*curvature.parameters}
        self._plan = Costs(curvature, {"": [*self._names]}, room).plan(whole="")

    def side(self, blocks: range, samples: Sequence[int], columns: int) -> Side:
        """A set of samples.

        Args:
            blocks: Its blocks here.
            samples: How many each rank has of it.
            columns: Of each sample.
        """
        return Side(blocks, samples, 1 if self._folded else columns)

    @torch.no_grad()
    def within(self, side: Side) -> Tensor:
        """Of one set: the lower half is computed."""
        places = self._places(side)
        self._check_fits(side, side)
        matrix = self._curvature.like.new_zeros(places[-1].stop, places[-1].stop)
        with self._curvature.progress.stage("kernel", PAIR, len(places) * (len(places) + 1) // 2):
            for i, rows in enumerate(places):
                columns = self._columns(side.blocks[i : i + 1])
                columns.add_own(matrix[rows, rows])
                self._curvature.progress.advance(PAIR)
                self._add(matrix[rows], columns, side.blocks[:i], places)
                del columns  # before those of the next
        mirror(matrix)
        return self._shaped(matrix, side, side)

    @torch.no_grad()
    def between(self, rows: Side, cols: Side) -> Tensor:
        """Of two sets."""
        heights, widths = self._places(rows), self._places(cols)
        self._check_fits(rows, cols)
        matrix = self._curvature.like.new_zeros(heights[-1].stop, widths[-1].stop)
        with self._curvature.progress.stage("kernel", PAIR, len(heights) * len(widths)):
            for i, place in enumerate(heights):
                columns = self._columns(rows.blocks[i : i + 1])
                self._add(matrix[place], columns, cols.blocks, widths)
                del columns
        return self._shaped(matrix, rows, cols)

    def _add(self, rows: Tensor, columns: Columns, blocks: range, places: list[slice]) -> None:
        for j, cols in zip(blocks, places, strict=False):
            columns.add_products(rows[:, cols], self._curvature.carrying([j]))
            self._curvature.progress.advance(PAIR)

    def _columns(self, blocks: range) -> Columns:
        """What is kept of some blocks."""
        numbers = [self._curvature.batches[i].index for i in blocks]
        return Columns(
            self._curvature.carrying(numbers) if numbers else iter(()),
            self._names,
            self._workspace,
            self._plan.columns_per_pass,
            self._plan.columns_at_once,
            self._folded,
        )

    @property
    def _workspace(self) -> Workspace:
        return Workspace(self._room.workspace, self._curvature.like)

    def _places(self, side: Side) -> list[slice]:
        """Where the columns of the blocks stand."""
        sizes = [self._curvature.batches[i].size * side.per_sample for i in side.blocks]
        ends = [*accumulate(sizes)]
        return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]

    def _check_fits(self, rows: Side, cols: Side) -> None:
        """Refuse to make a kernel that cannot fit by itself."""
        ranks, available = self._curvature.ranks, self._room.available
        height, width = rows.counts[ranks.rank], sum(cols.counts)
        size = height * width * self._curvature.like.element_size()
        if available is None or size <= available:
            return
        trace = "" if self._traced else "outputs='trace', "
        fewer = "fewer samples at a time" if ranks.size == 1 else "fewer samples, or more ranks"
        raise InsufficientMemoryError(
            f"The kernel of {height} by {width} outputs has {human_bytes(size)}, but "
            f"{human_bytes(available)} are available. Use {trace}or {fewer}."
        )

    def _shaped(self, matrix: Tensor, rows: Side, cols: Side) -> Tensor:
        """The kernel of samples from that of columns.

        Raises:
            InputError: It is not finite.
        """
        if not is_finite(matrix):
            raise InputError(NOT_FINITE)
        if self._folded:
            return matrix
        n, m = len(matrix) // rows.per_sample, matrix.shape[1] // cols.per_sample
        full = matrix.view(n, rows.per_sample, m, cols.per_sample).transpose(1, 2)
        return full.diagonal(dim1=2, dim2=3).sum(dim=2) if self._traced else full
