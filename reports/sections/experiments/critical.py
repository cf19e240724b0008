"""Critical batch sizes beside the published ones: three tables of the same form."""

from __future__ import annotations

import pandas as pd

from benchmarks.grid.targets import ORIGINAL
from benchmarks.records.record import Quantity
from reports.sections.base import Words
from reports.sections.experiments.base import PAPER, ExperimentSection, blocks_of, problem_titles
from reports.sources.published import DEVICES, LARGEST_SEARCHED, published
from reports.sources.sources import Sources
from reports.tables.table import Table
from reports.words import units
from reports.words.labels import OURS

CAPTION = (
    "The largest batch with which a process gets by on the budget. Published sizes are for other "
    "machines with other memory: CPU 31.3 GiB, GPU 11 GiB. To be read row by row: sub-sampling "
    "and Monte-Carlo let a batch be larger, here as there."
)


class CriticalSection(ExperimentSection):
    """A row for each problem and approximation."""

    beside = PAPER

    def answers(self, sources: Sources) -> list[Words]:
        """The exact matrix of the whole network, ours and the original's."""
        points = []
        for table in self.tables(sources):
            shown = table.shown
            exact = (shown["Loss Hessian"] == "exact") & (shown["Samples"] == "all")
            for _, row in shown[exact & (shown["Blocks"] == "network")].iterrows():
                original = row["original here"]
                beside = "" if original == units.NOTHING else f", of the original {original}"
                points.append(
                    f"{row['Problem']}, {row['Budget']}: a batch of {row['vivit here']} "
                    f"samples{beside}."
                )
        return self.in_short(points)

    def tables(self, sources: Sources) -> list[Table]:
        """Ours, the original's, and the published sizes."""
        rows = self.of(sources, Quantity.CRITICAL)
        ours = rows[rows["method"] == OURS].reset_index(drop=True)
        if not len(ours):
            return []
        titles, found = problem_titles(rows), [published(row) for _, row in ours.iterrows()]
        original = [_original(rows, row) for _, row in ours.iterrows()]
        shown = pd.DataFrame(
            {
                "Problem": [titles[problem] for problem in ours["problem"]],
                "Loss Hessian": [_hessian(row) for _, row in ours.iterrows()],
                "Samples": [_samples(row) for _, row in ours.iterrows()],
                "Blocks": [blocks_of(grouping) for grouping in ours["grouping"]],
                "Budget": [units.size(float(budget)) for budget in ours["budget"]],
                "vivit here": [_size(value) for value in ours["value"]],
                "original here": [_size(value) for value in original],
                **{
                    title: [_size(figures.get(device)) for figures in found]
                    for device, title in DEVICES.items()
                },
            }
        )
        raw = pd.DataFrame(
            {
                "batch size": ours["value"],
                "original": original,
                **{device: [figures.get(device) for figures in found] for device in DEVICES},
            }
        )
        measured = ("vivit here", "original here", *DEVICES.values())
        return [Table(self.name, self.title, CAPTION, shown, raw, measured)]


def _original(rows: pd.DataFrame, row: pd.Series) -> float | None:
    """The better of the original's settings, of the same search."""
    same = rows[(rows["cell"] == row["cell"]) & rows["method"].isin(ORIGINAL)]
    return float(same["value"].max()) if len(same) else None


def _hessian(row: pd.Series) -> str:
    return "exact" if row["approximation"] == "exact" else "Monte-Carlo"


def _samples(row: pd.Series) -> str:
    return "all" if row["subset"] == "whole" else "first eighth"


def _size(value: float | None) -> str:
    if value is None or pd.isna(value):
        return units.NOTHING
    return f"> {LARGEST_SEARCHED}" if value > LARGEST_SEARCHED else f"{int(value)}"
