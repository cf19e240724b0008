"""How far long runs over data are, on request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

BATCH, PASS = " batches", " passes"
"""What is counted: batches that are run, or backward passes."""


class Progress:
    """Bars on standard error, one at a time, which are gone when what they tell of is done."""

    def __init__(self, shown: bool = False) -> None:
        """Show nothing yet.

        Args:
            shown: Whether anything is to be shown at all.
        """
        self._shown = shown
        self._bar: tqdm | None = None

    @contextmanager
    def stage(self, what: str, unit: str = BATCH, total: int | None = None) -> Iterator[None]:
        """Show a bar, unless this is part of a stage that has one.

        Args:
            what: What is done.
            unit: What of it is counted.
            total: How many there will be; None if that is unknown.
        """
        if not self._shown or self._bar is not None:
            yield
            return
        with tqdm(desc=what, unit=unit, total=total, leave=False, dynamic_ncols=True) as bar:
            self._bar = bar
            try:
                yield
            finally:
                self._bar = None

    def advance(self, unit: str, count: int = 1) -> None:
        """Count what has been done, if the bar counts that."""
        if self._bar is not None and self._bar.unit == unit:
            self._bar.update(count)

    def describe(self, what: str) -> None:
        """Say what is done now."""
        if self._bar is not None:
            self._bar.set_description(what)
