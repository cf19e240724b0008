"""Run time of leading eigenpairs over their number, beside the published curves."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.records.record import Quantity
from reports.figures import over_k
from reports.figures.over_k import Line
from reports.figures.plot import Plot
from reports.sections.base import Words
from reports.sections.experiments.base import (
    PAPER,
    ExperimentSection,
    blocks_of,
    problem_titles,
    seconds_of,
)
from reports.sources.published import GROUPINGS, VARIANTS, run_times
from reports.sources.sources import Sources
from reports.tables.table import Table
from reports.words import units
from reports.words.labels import OURS

POWER = "power_iteration"
PUBLISHED_POWER = "full_batch_exact_power"
NAMES = {
    "full_batch_exact": "vivit, exact",
    "frac_batch_exact": "vivit, first eighth",
    "full_batch_mc": "vivit, Monte-Carlo",
    "frac_batch_mc": "vivit, Monte-Carlo, first eighth",
    PUBLISHED_POWER: "power iteration",
}
OTHERS = {POWER: "power iteration", "lanczos": "Lanczos", "original_lean": "original"}
"""Of the original, in its lean setting."""

TABLE_CAPTION = (
    "Seconds for the k leading pairs of the exact GGN: medians here, minima of 20 repeats in the "
    "paper, on the same kind of device (CPU or GPU). “Ratio” is power iteration over vivit."
)
HOW_TO_READ = (
    "Lower is better. Solid lines were measured here (medians), dashed ones are the published "
    "minima on the paper's CPU or GPU, as here. The height of a dashed line depends on its "
    "machine: compare the distances between lines, not the lines."
)


class RuntimeSection(ExperimentSection):
    """A panel for each problem and grouping."""

    beside = PAPER

    def answers(self, sources: Sources) -> list[Words]:
        """Power iteration over vivit, for the most pairs of each problem."""
        points = []
        for table in self.tables(sources):
            last = table.shown[table.shown["Ratio here"] != units.NOTHING]
            for _, row in last.drop_duplicates(["Problem", "Blocks"], keep="last").iterrows():
                published = row["Ratio published"]
                beside = "" if published == units.NOTHING else f" (published: {published})"
                points.append(
                    f"{row['Problem']}, k = {row['k']}: power iteration takes "
                    f"{row['Ratio here']} as long as vivit{beside}."
                )
        return self.in_short(points)

    def tables(self, sources: Sources) -> list[Table]:
        """Exact pairs, here and published, against power iteration."""
        rows = self.of(sources, Quantity.TIME)
        exact = rows[(rows["approximation"] == "exact") & (rows["subset"] == "whole")]
        ours = exact[exact["method"] == OURS].reset_index(drop=True)
        if not len(ours):
            return []
        titles = problem_titles(rows)
        published = [_published_pair(row) for _, row in ours.iterrows()]
        power = [_same(exact, row, POWER) for _, row in ours.iterrows()]
        ratios = [_ratio(p, t) for p, t in zip(power, ours["value"], strict=True)]
        theirs = [_ratio(p, t) for t, p in published]
        shown = pd.DataFrame(
            {
                "Problem": [titles[problem] for problem in ours["problem"]],
                "Blocks": [blocks_of(grouping) for grouping in ours["grouping"]],
                "Batch": [units.integer(n) for n in ours["batch_size"]],
                "k": [units.integer(k) for k in ours["k"]],
                "vivit here": [seconds_of(t) for t in ours["value"]],
                "power iteration here": [seconds_of(t) for t in power],
                "Ratio here": [units.factor(r) for r in ratios],
                "vivit published": [seconds_of(t) for t, _ in published],
                "power iteration published": [seconds_of(p) for _, p in published],
                "Ratio published": [units.factor(r) for r in theirs],
            }
        )
        raw = pd.DataFrame({"ratio": ratios, "published ratio": theirs})
        return [Table(self.name, self.title, TABLE_CAPTION, shown, raw, (*shown.columns[4:],))]

    def figures(self, sources: Sources) -> list[Plot]:
        """Time over k."""
        rows = self.of(sources, Quantity.TIME)
        panels = _panels(rows)
        if not panels:
            return []
        alt = f"{self.title}: time over k for {'; '.join(panels)}."
        return [Plot(self.name, self.title, HOW_TO_READ, alt, partial(over_k.draw, panels))]


def _panels(rows: pd.DataFrame) -> dict[str, list[Line]]:
    titles = problem_titles(rows)
    found = {}
    panel = ["problem", "grouping", "batch_size", "device"]
    for (problem, grouping, size, _), group in rows.groupby(panel, sort=False):
        blocks = "" if grouping == "network" else f", per {grouping}"
        title = f"{titles[problem]}\nbatch {size}{blocks}"
        found[title] = [*_here(group), *_published(group.iloc[0])]
    return found


def _here(rows: pd.DataFrame) -> list[Line]:
    keys = ["method", "approximation", "subset"]
    lines = []
    for (method, approximation, subset), group in rows.groupby(keys, sort=False):
        variant = NAMES[VARIANTS[approximation, subset]]
        label = variant if method == OURS else OTHERS.get(str(method))
        is_exact = variant == NAMES["full_batch_exact"]
        if label is not None and (method == OURS or is_exact):
            lines.append(Line.of(label, group, "value"))
    return lines


def _kind(device: object) -> str:
    """``cpu`` or ``cuda``, as the published tables name devices."""
    return str(device).partition(":")[0]


def _of_paper(row: pd.Series) -> pd.DataFrame:
    """What the paper reports of the problem, blocks, batch size and kind of device of a row."""
    table = run_times()
    same = (table["problem"] == row["problem"]) & (table["device"] == _kind(row["device"]))
    same &= table["grouping"] == GROUPINGS.get(row["grouping"])
    return table[same & (table["batch_size"] == row["batch_size"])]


def _published(row: pd.Series) -> list[Line]:
    methods = _of_paper(row).groupby("method", sort=False)
    return [Line.of(NAMES[str(name)], group, "min_s", True) for name, group in methods]


def _published_pair(row: pd.Series) -> tuple[float | None, float | None]:
    """What the paper's device took with vivit, and with power iteration."""
    table = _of_paper(row)
    rows = table[table["k"] == row["k"]].set_index("method")["min_s"]
    return rows.get("full_batch_exact"), rows.get(PUBLISHED_POWER)


def _same(rows: pd.DataFrame, row: pd.Series, method: str) -> float | None:
    found = rows[(rows["cell"] == row["cell"]) & (rows["method"] == method)]["value"]
    return float(found.iloc[0]) if len(found) else None


def _ratio(time: float | None, ours: float | None) -> float:
    return time / ours if time is not None and ours is not None else float("nan")


SECTION = RuntimeSection("runtime-eigenpairs")
