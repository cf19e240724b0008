"""Where the columns of this rank stand among those of all, and those of others that come by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vivit.curvature import Curvature
from vivit.errors import UnsupportedError
from vivit.gram.sweep import Key
from vivit.layers.affine import Workspace
from vivit.layers.parcels import packed, unpacked
from vivit.layers.store import Store
from vivit.ranks import ALONE, Parcel, Ranks


@dataclass(frozen=True)
class Share:
    """The columns of one rank.

    Attributes:
        ranks: All of them.
        counts: Columns of each; empty for a single process, whose columns are all.
    """

    ranks: Ranks = ALONE
    counts: Sequence[int] = field(default_factory=list)

    @classmethod
    def of(cls, curvature: Curvature) -> Share:
        """That of a curvature."""
        return cls(curvature.ranks, curvature.columns_of_ranks)

    @property
    def start(self) -> int:
        """Number of columns of the ranks before."""
        return sum(self.counts[: self.ranks.rank])

    def columns_of(self, rank: int) -> slice:
        """Where the columns of a rank stand among those of all."""
        start = sum(self.counts[:rank])
        return slice(start, start + self.counts[rank])

    def slices(self, sizes: Sequence[int], rank: int | None = None) -> list[slice]:
        """Where some runs of columns stand among those of all ranks.

        Args:
            sizes: Number of columns of each.
            rank: Whose they are; by default this one's.
        """
        start, found = self.start if rank is None else sum(self.counts[:rank]), []
        for size in sizes:
            found.append(slice(start, start + size))
            start += size
        return found

    def keys(self, stores: Sequence[dict[Key, Store]]) -> list[Key]:
        """Those of all layers, in the order in which all ranks work on them.

        Args:
            stores: Of the runs of this rank, if it has any.
        """
        own = [[*key] for key in stores[0]] if stores else None
        known = [x for x in self.ranks.facts(own, "the layers of a sweep") if x is not None]
        if any(x != known[0] for x in known):
            raise UnsupportedError(
                "Ranks serve the parameters by different rules: give them batches of one kind."
            )
        return [tuple(key) for key in known[0]]


def names_of(key: Key) -> str:
    """A layer in words."""
    return " and ".join(name for name in key if name is not None)


def parcel_of(layer: Sequence[Store], share: Share) -> Parcel:
    """What a layer keeps of all runs, to be sent to other ranks."""
    if share.ranks.size == 1:
        return Parcel(None)
    of_runs = [packed(store) for store in layer]
    return Parcel([x.label for x in of_runs], [t for x in of_runs for t in x.tensors])


def stores_of(parcel: Parcel, like: Store, workspace: Workspace) -> Iterator[Store]:
    """What another rank keeps of a layer.

    Args:
        parcel: As `parcel_of` made it.
        like: What this rank keeps of it.
        workspace: Memory for temporaries.
    """
    tensors = [*parcel.tensors]
    for label in parcel.label:
        count = label["tensors"]
        yield unpacked(Parcel(label, tensors[:count]), like, workspace)
        del tensors[:count]
