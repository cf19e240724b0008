"""Power iteration on the Gram matrix and on the GGN, over the number of pairs."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.records.record import Quantity
from reports.figures import over_k
from reports.figures.over_k import Line
from reports.figures.plot import Plot
from reports.sections.experiments.base import PAPER, ExperimentSection, problem_titles, seconds_of
from reports.sources.published import run_times, tolerance_study
from reports.sources.sources import Sources
from reports.tables.table import Table
from reports.words import units

METHODS = {
    "gram": "vivit, exact",
    "gram_power_iteration": "power iteration on the Gram matrix",
    "power_iteration": "power iteration",
}
TITLES = {
    "gram": "vivit",
    "gram_power_iteration": "on the Gram matrix",
    "power_iteration": "on the GGN",
}
HOW_TO_READ = (
    "Lower is better. Blue: all eigenvalues of the Gram matrix are computed, whatever k. The two "
    "others iterate, in the small space and in the space of the parameters. Published (dashed): "
    "batch of 128 on an RTX 2080 Ti, minima of 20 repeats."
)
CAPTION = "Medians here. “Ratio” is power iteration on the GGN over that on the Gram matrix."


class GramPowerSection(ExperimentSection):
    """A table and a figure."""

    beside = PAPER

    def tables(self, sources: Sources) -> list[Table]:
        """Seconds of the three ways."""
        rows = self.of(sources, Quantity.TIME)
        if not len(rows):
            return []
        titles = problem_titles(rows)
        times = rows.pivot_table("value", ["problem", "batch_size", "k"], "method", sort=False)
        times = times.reindex(columns=[*METHODS])
        ratios = times["power_iteration"] / times["gram_power_iteration"]
        keys = times.index.to_frame(index=False)
        shown = pd.DataFrame(
            {
                "Problem": [titles[problem] for problem in keys["problem"]],
                "Batch": [units.integer(n) for n in keys["batch_size"]],
                "k": [units.integer(k) for k in keys["k"]],
                **{title: [seconds_of(t) for t in times[name]] for name, title in TITLES.items()},
                "Ratio": [units.factor(ratio) for ratio in ratios],
            }
        )
        raw = pd.DataFrame({"ratio": [*ratios]})
        return [Table(self.name, self.title, CAPTION, shown, raw, (*TITLES.values(), "Ratio"))]

    def figures(self, sources: Sources) -> list[Plot]:
        """Time over k, ours and the published."""
        rows = self.of(sources, Quantity.TIME)
        if not len(rows):
            return []
        titles, panels = problem_titles(rows), {}
        for (problem, size), group in rows.groupby(["problem", "batch_size"], sort=False):
            panels[f"{titles[problem]}\nbatch {size}, here"] = _here(group)
        panels["CIFAR-10 3c3d\nbatch 128, published"] = _published()
        alt = f"{self.title}: time over k for {'; '.join(panels)}."
        return [Plot(self.name, self.title, HOW_TO_READ, alt, partial(over_k.draw, panels))]


def _here(rows: pd.DataFrame) -> list[Line]:
    return [
        Line.of(label, rows[rows["method"] == method], "value")
        for method, label in METHODS.items()
    ]


def _published() -> list[Line]:
    on_ggn = run_times()
    on_ggn = on_ggn[(on_ggn["problem"] == "cifar10_3c3d") & (on_ggn["device"] == "cuda")]
    on_ggn = on_ggn[on_ggn["grouping"] == "one_group"]
    on_gram = tolerance_study("gram_tol")
    found = (
        ("gram", on_ggn, "full_batch_exact"),
        ("gram_power_iteration", on_gram, "full_batch_exact_gram_power"),
        ("power_iteration", on_ggn, "full_batch_exact_power"),
    )
    return [
        Line.of(METHODS[method], rows[rows["method"] == name], "min_s", True)
        for method, rows, name in found
    ]


SECTION = GramPowerSection("gram-power")
