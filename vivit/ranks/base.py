"""What the library asks of the processes that share a batch, and the answers of a single one.

Ranks are numbered from 0. All of them call the same methods in the same order. `what` names what
is done, in words, for the error of those who wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from torch import Tensor

Facts = Any
"""What JSON can say: numbers, words, lists and mappings of them."""


@dataclass(frozen=True)
class Parcel:
    """Tensors that travel, and what they are.

    Attributes:
        label: What the receiver needs to know beside shapes and dtypes.
        tensors: Contiguous or not.
    """

    label: Facts
    tensors: Sequence[Tensor] = ()


@dataclass
class Traffic:
    """Bytes of tensors, as they are given to `torch.distributed` and come back.

    A sum counts once in either direction, though a ring of many ranks moves it twice. Messages of
    a few hundred bytes, which tell what comes next, are left out.

    Attributes:
        sent: By this rank.
        received: By this rank.
    """

    sent: int = 0
    received: int = 0


class Ranks(Protocol):
    """The processes that have a share of the batch each.

    Attributes:
        rank: Number of this one.
        size: How many there are.
        traffic: Bytes so far.
    """

    rank: int
    size: int
    traffic: Traffic

    def telling(self, what: str) -> AbstractContextManager[None]:
        """Have an error that is raised within on one rank raised on all."""
        ...

    def facts(self, own: Facts, what: str) -> list[Facts]:
        """What each rank says, in their order."""
        ...

    def add(self, tensors: Sequence[Tensor], what: str) -> None:
        """Sums over all ranks, in place; the same bits on each."""
        ...

    def rows(self, x: Tensor, what: str) -> Tensor:
        """The rows of all ranks, one behind the other; they may differ in how many they have."""
        ...

    def agreed(self, tensors: Sequence[Tensor], what: str) -> list[Tensor]:
        """Those of the first rank, if there are others that differ in a bit."""
        ...

    def to_each(self, blocks: Mapping[int, Tensor], what: str) -> dict[int, Tensor]:
        """Send tensors to some other ranks, and receive what they have for this one.

        Args:
            blocks: By the rank that each is for.
            what: In words.

        Returns:
            What came, by the rank that has sent it; on the device that the ranks send from.
        """
        ...

    def around(
        self,
        own: Parcel,
        what: str,
        turn: int | None,
        meanwhile: Callable[[], None],
        use: Callable[[int, Parcel], None],
    ) -> None:
        """Send a parcel half around the ring, and use those that arrive.

        Each pair of ranks that have one meets once, on one of the two.

        Args:
            own: What this rank sends; nothing, without tensors.
            what: In words.
            turn: Which of two opposite ranks receives: see `steps_of`. None for all around the
                ring, so that each rank gets the parcels of all others, whether it has one or not.
            meanwhile: Done while the first is on its way; later ones are while one is used.
            use: Takes the number of another rank and its parcel.
        """
        ...


class Alone:
    """A single process: there is nobody to talk to."""

    rank, size = 0, 1

    def __init__(self) -> None:
        """Begin with no bytes, which it will stay at."""
        self.traffic = Traffic()

    def telling(self, what: str) -> AbstractContextManager[None]:
        """Nobody is told."""
        return nullcontext()

    def facts(self, own: Facts, what: str) -> list[Facts]:
        """Its own."""
        return [own]

    def add(self, tensors: Sequence[Tensor], what: str) -> None:
        """Its own are all."""
        return

    def rows(self, x: Tensor, what: str) -> Tensor:
        """As they are."""
        return x

    def agreed(self, tensors: Sequence[Tensor], what: str) -> list[Tensor]:
        """As they are."""
        return [*tensors]

    def to_each(self, blocks: Mapping[int, Tensor], what: str) -> dict[int, Tensor]:
        """Nobody has anything."""
        return {}

    def around(
        self,
        own: Parcel,
        what: str,
        turn: int | None,
        meanwhile: Callable[[], None],
        use: Callable[[int, Parcel], None],
    ) -> None:
        """Nothing arrives."""
        meanwhile()


ALONE = Alone()
"""A single process."""

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="Shared")


class Shared(Protocol):
    """What is computed by several ranks."""

    @property
    def ranks(self) -> Ranks:
        """Which."""


def together(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Have an error of a method that all ranks call raised on all of them."""

    @wraps(method)
    def call(self: S, /, *args: P.args, **keywords: P.kwargs) -> T:
        with self.ranks.telling(method.__name__):
            return method(self, *args, **keywords)

    return call
