"""Named things that are looked up by users: problems, methods, suites, profiles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from benchmarks.records.names import unknown


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str:
        """Unique among its kind."""
        ...


T = TypeVar("T", bound=Named)


class Registry(Mapping[str, T], Generic[T]):
    """A read-only mapping by name that rejects duplicates and helps with unknown names."""

    def __init__(self, kind: str, entries: Iterable[T]) -> None:
        """Collect the entries.

        Args:
            kind: What they are, for error messages.
            entries: Objects with distinct names.

        Raises:
            ValueError: Two entries have the same name.
        """
        self._kind = kind
        self._entries: dict[str, T] = {}
        for entry in entries:
            if entry.name in self._entries:
                raise ValueError(f"There are two {kind}s called {entry.name!r}.")
            self._entries[entry.name] = entry

    def __getitem__(self, name: str) -> T:
        """The entry of that name; a KeyError says what may be meant."""
        if name not in self._entries:
            raise KeyError(unknown(self._kind, name, self._entries))
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is an entry of that name."""
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        """Names, in the order of registration."""
        return iter(self._entries)

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._entries)
