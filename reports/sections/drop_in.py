"""The suite of the drop-in computations: ours in BackPACK against the original."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from benchmarks.grid.targets import ORIGINAL
from benchmarks.records.record import Quantity, Status
from reports.sections.base import Section
from reports.sources.frame import COMPARED, compared, groups, setting_of
from reports.sources.sources import Sources
from reports.tables.table import Table, identity
from reports.words import labels, units

OWN = "drop_in"
"""The method that is ours."""

CAPTION = (
    "The same calls, by vivit and by vivit-for-pytorch 1.0.0 in the better of the settings that "
    "were measured, for each figure by itself: medians of interleaved runs, and of peaks of "
    "memory. “2.00x” means that the original takes twice as long, or needs twice the memory."
)


class DropIn(Section):
    """Ours in BackPACK against the original, task by task."""

    name = "drop-in"
    title = "Drop-in computations"
    question = "What do programs written for vivit-for-pytorch 1.0.0 gain?"
    suites = ("drop_in",)

    def needs(self, sources: Sources) -> pd.DataFrame:
        """Times, memory and accuracies of the suite."""
        return compared(sources.frame, self.suites)

    def tables(self, sources: Sources) -> list[Table]:
        """Times and memory of both in each setting."""
        return [drop_in_table(group) for group in groups(self.needs(sources))]


def drop_in_table(frame: pd.DataFrame) -> Table:
    """Times and memory of both, and the ratios.

    Args:
        frame: Measurements of the suite in one setting.

    Returns:
        One row per task.
    """
    frame = frame[frame["quantity"].isin(COMPARED)]
    cells = frame.drop_duplicates("cell").reset_index(drop=True)
    shown, raw = identity(cells), pd.DataFrame(index=cells.index)
    kinds: dict[tuple[int, str], str] = {}
    for quantity, text in ((Quantity.TIME, units.seconds), (Quantity.MEMORY, units.size)):
        pairs = [_pair(frame, cell, quantity) for cell in cells["cell"]]
        ratios = [theirs / ours for ours, theirs in pairs]
        name = labels.QUANTITIES[quantity.value].label
        shown[f"vivit: {name.lower()}"] = [_text(ours, text) for ours, _ in pairs]
        shown[f"original: {name.lower()}"] = [_text(theirs, text) for _, theirs in pairs]
        shown[f"{name} ratio"] = [units.factor(ratio) for ratio in ratios]
        raw[f"{quantity.value} ratio"] = ratios
        kinds |= {
            (i, f"{name} ratio"): "better" if ratio > 1 else "worse"
            for i, ratio in enumerate(ratios)
            if not math.isnan(ratio)
        }
    setting = setting_of(frame)
    return Table(
        name=labels.slug(f"drop-in {setting}"),
        title=labels.titled(DropIn.title, setting),
        caption=CAPTION,
        shown=shown,
        raw=raw,
        measured=tuple(shown.columns[-6:]),
        kinds=kinds,
    )


def _pair(frame: pd.DataFrame, cell: str, quantity: Quantity) -> tuple[float, float]:
    """Ours and the better of the original's settings; NaN for what there is not."""
    rows = frame[(frame["cell"] == cell) & (frame["quantity"] == quantity.value)]
    values = rows[rows["status"] == Status.OK.value].set_index("method")["value"]
    theirs = values[values.index.isin(ORIGINAL)]
    return float(values.get(OWN, math.nan)), float(theirs.min()) if len(theirs) else math.nan


def _text(value: float, text: Callable[[float], str]) -> str:
    return units.NOTHING if math.isnan(value) else text(value)


SECTION = DropIn()
