"""Published measurements of the same problems and tasks, beside what the records say."""

from __future__ import annotations

import pandas as pd

from benchmarks.grid.targets import ORIGINAL
from benchmarks.records.record import Quantity, Status
from reports.sections.base import Section
from reports.sources.frame import varying
from reports.sources.published import DEVICES, LARGEST_SEARCHED, published
from reports.sources.sources import Sources
from reports.tables.table import Table, identity
from reports.words import labels, units
from reports.words.labels import OURS

CAPTION = (
    "What the paper reports (ViViT: Curvature access through the generalized Gauss-Newton's "
    "low-rank structure, TMLR 2022) of the same problem, batch size and task, on other machines: "
    "CPU is a Core i7-8700K with 31.3 GiB of memory, GPU an RTX 2080 Ti with 11264 MB. Its times "
    "are the minima of its repeats, ours are medians. Its critical batch sizes are for all of "
    "these memories, ours for the budget in the row: to be read beside each other, not divided."
)


class Paper(Section):
    """What the paper reports, row by row."""

    name = "paper"
    title = "Beside the published figures"
    question = "What did the paper measure of the same, on its machines?"

    def needs(self, sources: Sources) -> pd.DataFrame:
        """Those of our measurements that have a published counterpart."""
        return counterparts(sources.frame)

    def tables(self, sources: Sources) -> list[Table]:
        """Published figures beside ours."""
        return [paper_table(sources.frame)]


def counterparts(frame: pd.DataFrame) -> pd.DataFrame:
    """Our measurements of what the paper reports.

    Args:
        frame: All measurements.

    Returns:
        Rows of the frame, numbered from 0; maybe none.
    """
    wanted = frame["quantity"].isin([Quantity.TIME.value, Quantity.CRITICAL.value])
    fine = wanted & (frame["status"] == Status.OK.value)
    ours = frame[fine & (frame["method"] == OURS)]
    kept = [label for label, row in ours.iterrows() if published(row)]
    return ours.loc[kept].reset_index(drop=True)


def paper_table(frame: pd.DataFrame) -> Table:
    """Published figures beside ours.

    Args:
        frame: All measurements.

    Returns:
        One row for each of our measurements that has a published counterpart; maybe none.
    """
    ours = counterparts(frame)
    rows = [row for _, row in ours.iterrows()]
    found = [published(row) for row in rows]
    shown = identity(ours, varying(frame))
    shown["Quantity"] = [labels.QUANTITIES[q].label for q in ours["quantity"]]
    shown["Budget"] = [
        units.NOTHING if pd.isna(b) else units.size(float(b)) for b in ours["budget"]
    ]
    shown["vivit here"] = [_text(row["quantity"], row["value"]) for row in rows]
    shown["original here"] = [_original(frame, row) for row in rows]
    for device, title in DEVICES.items():
        shown[title] = [
            _text(row["quantity"], figures[device]) if device in figures else units.NOTHING
            for row, figures in zip(rows, found, strict=True)
        ]
    raw = pd.DataFrame({name: [figures.get(name) for figures in found] for name in DEVICES})
    measured = ("vivit here", *shown.columns[-3:])
    return Table("published", Paper.title, CAPTION, shown, raw, measured)


def _original(frame: pd.DataFrame, row: pd.Series) -> str:
    """The better of the original's settings, of the same cell."""
    same = (frame["cell"] == row["cell"]) & (frame["quantity"] == row["quantity"])
    same &= frame["status"] == Status.OK.value
    values = frame.loc[same & frame["method"].isin(ORIGINAL), "value"]
    if not len(values):
        return units.NOTHING
    is_time = row["quantity"] == Quantity.TIME.value
    return _text(row["quantity"], values.min() if is_time else values.max())


def _text(quantity: str, value: float) -> str:
    if quantity == Quantity.TIME.value:
        return units.seconds(float(value))
    return f"> {LARGEST_SEARCHED}" if value > LARGEST_SEARCHED else f"{int(value)}"


SECTION = Paper()
