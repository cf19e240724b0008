"""The formats in which a table is written beside its page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import pandas as pd

from reports.errors import ReportError
from reports.pages import files
from reports.tables.table import Table

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
"""What LaTeX would take for a command; a bracket after the end of a row, for its option."""

PARAGRAPH = {"wrapped": "0.18", "prose": "0.3"}
"""Width of columns with words and with sentences, relative to the page's."""

BOLD = ("best", "better")


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: As readers call it.
        suffix: Of its files, and the name of their folder.
        content: A table as such a file.
        package: What it needs, which may not be installed; may be empty.
    """

    name: str
    suffix: str
    content: Callable[[Table], bytes]
    package: str = ""

    def check(self) -> None:
        """Refuse what would fail after minutes.

        Raises:
            ReportError: Its package is not installed.
        """
        if self.package and find_spec(self.package) is None:
            raise ReportError(
                f"{self.name} files need the package {self.package}, which is not installed: "
                f"pip install 'vivit[{self.suffix}]', or leave out --{self.suffix}"
            )

    def path(self, table: Table) -> str:
        """Where the file of a table is, relative to the page."""
        return f"{self.suffix}/{table.name}.{self.suffix}"


def latex(table: Table) -> bytes:
    """A table for a paper, what the page shows: its own environment, with its notes.

    Args:
        table: The table.

    Returns:
        A `longtable` that needs the packages longtable and booktabs.
    """
    columns = list(table.shown.columns)
    head = " & ".join(f"\\textbf{{{_escaped(name)}}}" for name in columns)
    rows = [
        " & ".join(_cell(table, i, name, text) for name, text in zip(columns, row, strict=True))
        for i, row in enumerate(table.shown.to_numpy().tolist())
    ]
    lines = [
        "% \\usepackage{booktabs, longtable}",
        f"\\begin{{longtable}}{{{''.join(_alignment(table, name) for name in columns)}}}",
        f"\\caption{{{_escaped(table.title)}}}\\label{{tab:{table.name}}}\\\\",
        f"\\toprule\n{head} \\\\\n\\midrule\n\\endhead\n\\bottomrule\n\\endfoot",
        *(f"{row} \\\\" for row in rows),
        "\\end{longtable}",
    ]
    if table.notes:
        notes = (
            f"{_escaped(f'[{n}] {note}')}\\par" for n, note in enumerate(table.notes, start=1)
        )
        lines += ["{\\footnotesize", *notes, "}"]
    return ("\n".join(lines) + "\n").encode()


def parquet(table: Table) -> bytes:
    """A table with the unrounded numbers and their types.

    Args:
        table: The table.

    Returns:
        A Parquet file, by pyarrow.
    """
    frame = table.csv
    frame = frame.set_axis(_distinct([str(name) for name in frame.columns]), axis=1)
    for name in frame.columns:
        if frame[name].dtype == object:  # text among others
            frame[name] = [None if _is_missing(cell) else str(cell) for cell in frame[name]]
    buffer = io.BytesIO()
    frame.to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()


CSV = Format("CSV", "csv", lambda table: files.csv(table.csv))
LATEX = Format("LaTeX", "tex", latex)
PARQUET = Format("Parquet", "parquet", parquet, package="pyarrow")


def _escaped(text: str) -> str:
    plain = "".join(SPECIAL.get(character, character) for character in text)
    return re.sub(r"\s+", " ", plain)


def _cell(table: Table, row: int, column: str, text: str) -> str:
    plain = _escaped(text)
    return f"\\textbf{{{plain}}}" if table.kinds.get((row, column)) in BOLD else plain


def _alignment(table: Table, column: str) -> str:
    for kind, width in PARAGRAPH.items():
        if column in getattr(table, kind):
            return f"p{{{width}\\linewidth}}"
    return "r" if column in table.measured else "l"


def _distinct(names: list[str]) -> list[str]:
    """Names with a number, where several are the same."""
    return [
        name if names[:place].count(name) == 0 else f"{name} ({names[:place].count(name) + 1})"
        for place, name in enumerate(names)
    ]


def _is_missing(cell: object) -> bool:
    return cell is None or cell is pd.NA or (isinstance(cell, float) and cell != cell)
