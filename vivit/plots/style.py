"""One style for all figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
import seaborn as sns

FONT_SCALE = 0.85

TITLE = 1.0
"""Height of titles, in axes: to search for one above all that is drawn takes long."""

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
    context = sns.plotting_context("notebook", font_scale=font_scale)
    with sns.axes_style("whitegrid"), context, mpl.rc_context({"axes.titley": TITLE}):
        yield
