"""What the files of a page hold: tables and figures, as bytes."""

from __future__ import annotations

import io
import re
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

DPI = 130
LARGEST = 16383
"""Pixels of a WebP, in each direction."""
EFFORT = 60
"""Of the compression, from 0 (fast) to 100 (small)."""

FORMULA = re.compile(r"[=+\-@\t\n]")
"""How text begins that a spreadsheet may take for a formula."""

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?%?", re.IGNORECASE)
"""What is a number all the same."""


def csv(frame: pd.DataFrame) -> bytes:
    """A frame as CSV, without its index; text that looks like a formula begins with a quote."""
    inert = frame.set_axis([_inert(name) for name in frame.columns], axis=1)
    for position, kind in enumerate(frame.dtypes):
        if kind.kind == "O":  # text among others
            cells = [_inert(cell) for cell in frame.iloc[:, position]]
            inert.isetitem(position, pd.Series(cells, frame.index, object))
    return inert.to_csv(index=False, lineterminator="\n").encode()


def _inert(cell: Any) -> Any:
    """A cell that a spreadsheet shows as it is."""
    if not isinstance(cell, str) or NUMBER.fullmatch(cell):
        return cell
    text = cell.replace("\r\n", "\n").replace("\r", "\n")  # a bare \r is not quoted: a new row
    return f"'{text}" if FORMULA.match(text) else text


def webp(figure: Figure) -> bytes:
    """A figure as WebP without loss: about a third of the bytes of a PNG.

    What would have more pixels than the format allows is drawn coarser.
    """
    buffer = io.BytesIO()
    options = {"lossless": True, "quality": EFFORT}
    dpi = min(DPI, int(LARGEST / max(figure.get_size_inches())))
    figure.savefig(buffer, format="webp", dpi=dpi, pil_kwargs=options)
    return buffer.getvalue()


def pdf(figure: Figure) -> bytes:
    """A figure as PDF, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="pdf", metadata={"CreationDate": None})
    return buffer.getvalue()
