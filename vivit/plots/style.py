"""One style for all figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import seaborn as sns

FONT_SCALE = 0.85

COLORBLIND = tuple(sns.color_palette("colorblind").as_hex())
"""Colours that colour-blind readers tell apart."""


@contextmanager
def styled(font_scale: float = FONT_SCALE) -> Iterator[None]:
    """What is drawn within has the style of these figures.

    Args:
        font_scale: Size of the text, relative to seaborn's.

    Yields:
        Nothing.
    """
    with sns.axes_style("whitegrid"), sns.plotting_context("notebook", font_scale=font_scale):
        yield
