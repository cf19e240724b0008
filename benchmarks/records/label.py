"""How things are called in reports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Label:
    """Names for people; the identifiers of records stay as they are.

    Attributes:
        name: What it is called.
        short: The same where space is scarce; by default the name.
    """

    name: str
    short: str = ""

    def __post_init__(self) -> None:
        """One name will do for both."""
        object.__setattr__(self, "short", self.short or self.name)
