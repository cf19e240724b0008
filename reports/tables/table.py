"""What a table is, and the columns that say what a row is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from reports.words import labels, units

SETTING_TITLES = {
    "environment": "Environment",
    "device": "Device",
    "dtype": "Precision",
    "threads": "Threads",
    "seed": "Seed",
    "other": "Further parameters",
}


@dataclass(frozen=True)
class Table:
    """A table on the page and in a CSV file.

    Attributes:
        name: Stem of the CSV file.
        title: Heading.
        caption: How to read it.
        shown: What the page shows; text only.
        raw: Numbers in base units behind it, one row for each of `shown`; only in the CSV file.
        measured: Columns of `shown` that hold measurements.
        kinds: How to mark a cell, by row number and column: best, better, worse, failed or
            plain.
        notes: Footnotes, referred to as [1], [2], ....
        wrapped: Columns of `shown` with some words, which may take several lines.
        prose: Columns of `shown` with sentences.
        empty: What the page says if there are no rows.
    """

    name: str
    title: str
    caption: str
    shown: pd.DataFrame
    raw: pd.DataFrame
    measured: tuple[str, ...] = ()
    kinds: dict[tuple[int, str], str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    wrapped: tuple[str, ...] = ("Computed",)
    prose: tuple[str, ...] = ()
    empty: str = "None."

    @property
    def csv(self) -> pd.DataFrame:
        """The columns of the page, then the raw numbers."""
        return pd.concat([self.shown, self.raw], axis=1)


class Notes:
    """Collects footnotes; equal ones share a number."""

    def __init__(self) -> None:
        """Start without notes."""
        self.texts: list[str] = []

    def mark(self, text: str) -> str:
        """Remember a note.

        Args:
            text: The note.

        Returns:
            The reference to it, such as " [1]".
        """
        if text not in self.texts:
            self.texts.append(text)
        return f" [{self.texts.index(text) + 1}]"


def identity(frame: pd.DataFrame, context: Sequence[str] = ()) -> pd.DataFrame:
    """The columns that say what a row is about.

    Args:
        frame: Measurements.
        context: Columns of the setting to show as well.

    Returns:
        Text only.
    """
    columns = {
        "Problem": labels.problem_labels(frame),
        "Computed": list(frame["task"]),
        "Batch": [units.integer(size) for size in frame["batch_size"]],
    }
    columns |= {SETTING_TITLES[name]: [_plain(v) for v in frame[name]] for name in context}
    return pd.DataFrame(columns, index=frame.index, dtype=object).reset_index(drop=True)


def _plain(value: object) -> str:
    return "not recorded" if pd.isna(value) or value == "" else str(value)
