"""What a figure is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Plot:
    """A figure on the page and in files.

    Attributes:
        name: Stem of its files.
        title: Heading.
        caption: How to read it.
        alt: What it shows, in words.
        draw: Makes the figure.
    """

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[], Figure]
