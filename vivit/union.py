"""The batches of all ranks, as if one process had them one after the other.

Samples, batches and columns are numbered in the order of ranks. So results depend on how many
ranks there are in nothing but rounding errors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from vivit.batches import Batch, ColumnPlaces
from vivit.layers.sizes import BatchSizes, LayerSizes

Known = tuple[int, int, float | None]
"""Of a batch: samples, columns of each, and what a mean over it was divided by."""

Key = tuple[str | None, ...]
"""Names of the parameters of a layer."""


@dataclass(frozen=True)
class Union:
    """What is known of the batches of all ranks.

    Attributes:
        rank: Number of this one.
        of_ranks: The batches of each.
    """

    rank: int
    of_ranks: Sequence[Sequence[Known]]

    @classmethod
    def of(cls, rank: int, facts: Iterable[Iterable[Sequence[Any]]]) -> Union:
        """From what ranks say."""
        return cls(rank, [[(n, c, z) for n, c, z in batches] for batches in facts])

    @cached_property
    def all(self) -> list[Known]:
        """The batches, one rank's after the other's."""
        return [batch for batches in self.of_ranks for batch in batches]

    @cached_property
    def num_samples(self) -> int:
        """Of all batches."""
        return sum(n for n, _, _ in self.all)

    @cached_property
    def normalizer(self) -> float:
        """What makes of a mean over all a sum."""
        return sum(z or 0.0 for _, _, z in self.all)

    @property
    def is_mean(self) -> bool:
        """Whether the loss is a mean over samples, not a sum."""
        return self.all[0][2] is not None

    @cached_property
    def first_batch(self) -> int:
        """Number of this rank's first batch."""
        return sum(len(batches) for batches in self.of_ranks[: self.rank])

    @cached_property
    def own_samples(self) -> slice:
        """Those of this rank, among those of all."""
        ends = [0, *accumulate(sum(n for n, _, _ in batches) for batches in self.of_ranks)]
        return slice(ends[self.rank], ends[self.rank + 1])

    def numbered(self, batches: Sequence[Batch]) -> list[Batch]:
        """This rank's batches with their numbers among all."""
        index, start = self.first_batch, self.own_samples.start
        return [replace(x, index=index + x.index, start=start + x.start) for x in batches]

    def counts(self, subset: Tensor | None) -> list[int]:
        """Samples of each batch that carry curvature.

        Args:
            subset: Their indices, ascending; None for all.
        """
        sizes = [n for n, _, _ in self.all]
        if subset is None:
            return sizes
        ends = torch.tensor([0, *accumulate(sizes)])
        places = torch.searchsorted(subset, ends)
        return [int(x) for x in places.diff()]

    def places(self, counts: Sequence[int]) -> ColumnPlaces:
        """Where the columns of all stand."""
        return ColumnPlaces((n, c) for n, (_, c, _) in zip(counts, self.all, strict=True))

    def columns(self, counts: Sequence[int]) -> list[int]:
        """Columns of each rank."""
        of_batches = iter([n * c for n, (_, c, _) in zip(counts, self.all, strict=True)])
        return [sum(next(of_batches) for _ in batches) for batches in self.of_ranks]

    def of_each(self, counts: Sequence[int]) -> list[slice]:
        """Samples with curvature of each rank, among those of all."""
        ends = [0, *accumulate(counts)]
        stops = [*accumulate(len(batches) for batches in self.of_ranks)]
        starts = [0, *stops[:-1]]
        return [slice(ends[i], ends[j]) for i, j in zip(starts, stops, strict=True)]


@dataclass(frozen=True)
class Service:
    """How the batches of a rank serve the parameters.

    Attributes:
        common: Layers that all of its batches have.
        generic: Parameters that need the generic rule.
    """

    common: frozenset[Key]
    generic: frozenset[str]

    @property
    def facts(self) -> list[list[Any]]:
        """What others must know."""
        return [[[*key] for key in self.common], [*self.generic]]

    @classmethod
    def of_facts(cls, facts: Any) -> Service:
        """From what a rank says."""
        common, generic = facts
        return cls(frozenset(tuple(key) for key in common), frozenset(generic))


def generic_of(services: Sequence[Service]) -> frozenset[str]:
    """Parameters that need the generic rule, since not all ranks serve them alike."""
    if not services:
        return frozenset()
    shared = frozenset.intersection(*(x.common for x in services))
    odd = {key for x in services for key in x.common - shared}
    generic = frozenset().union(*(x.generic for x in services))
    return generic | {name for key in odd for name in key if name}


def facts_of_sizes(batches: Sequence[BatchSizes]) -> dict[str, Any]:
    """Sizes as others can read them: those that agree in all but their samples are told once."""
    kinds: list[BatchSizes] = []
    found = []
    for sizes in batches:
        kind = sizes.of_samples(0)
        if kind not in kinds:
            kinds.append(kind)
        found.append([kinds.index(kind), sizes.samples])
    return {"kinds": [asdict(kind) for kind in kinds], "batches": found}


def sizes_of_facts(facts: dict[str, Any]) -> list[BatchSizes]:
    """Sizes that another rank told."""
    kinds = [
        BatchSizes(
            kind["samples"],
            tuple(LayerSizes(**layer) for layer in kind["layers"]),
            tuple(kind["dense"]),
            kind["output"],
            kind["columns"],
        )
        for kind in facts["kinds"]
    ]
    return [kinds[i].of_samples(samples) for i, samples in facts["batches"]]
