"""The bar that shows how far a run is, on a terminal that may go away meanwhile."""

from __future__ import annotations

import os
import sys
from typing import Any

from tqdm import tqdm


class _Terminal:
    """Standard error, until nobody reads it any more.

    After that nothing is shown, and the run goes on: tqdm itself would end it, or wait forever for
    its own lock.
    """

    def write(self, text: str) -> None:
        """Show some text at once."""
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stderr.fileno())
            os.close(nowhere)

    def flush(self) -> None:
        """Everything is shown already."""

    def __getattr__(self, name: str) -> Any:
        """What tqdm asks a stream for: its encoding, its width."""
        return getattr(sys.stderr, name)


def progress_bar(total: int, unit: str) -> tqdm:
    """A bar on standard error.

    Args:
        total: Number of steps.
        unit: What a step is.

    Returns:
        The bar, a context manager.
    """
    return tqdm(total=total, unit=unit, dynamic_ncols=True, file=_Terminal())
