"""Files written in one step, so that a killed run leaves none half written."""

from __future__ import annotations

import io
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

DPI = 130


def write(path: Path, content: bytes) -> None:
    """Write a file; it has the old content or the new, never a part.

    Args:
        path: The file; its folder is created.
        content: The new content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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


def png(figure: Figure) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def pdf(figure: Figure) -> bytes:
    """A figure as PDF, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="pdf", metadata={"CreationDate": None})
    return buffer.getvalue()
