"""Kernels, Fisher, solves, traces, products, and pairs from products, beside what people do."""

from __future__ import annotations

import pandas as pd

from benchmarks.records.record import Quantity, Status
from reports.figures import trade_off
from reports.figures.plot import Plot
from reports.figures.style import palette_of
from reports.sections.base import Section, Words
from reports.sources.frame import compared, groups, setting_of
from reports.sources.sources import Sources
from reports.tables.beside import beside
from reports.tables.ratios import compare, summary
from reports.tables.table import Table
from reports.words import labels, units

ABOUT = {
    "ntk": "The kernel of the batch with itself, all outputs. Errors: relative Frobenius norm.",
    "fisher": "From the gradient of each sample's loss. Errors: of eigenvalues, to the largest.",
    "solve": (
        "One right-hand side, random. Errors are relative to what curvature changes: to ignore "
        "it is an error of one."
    ),
    "trace": "XTrace is an estimate from products; all else is exact. Errors: relative.",
    "product": (
        "With one random vector, from scratch. Errors: relative to the norm; of finite "
        "differences, they are those of their step."
    ),
    "eigenpairs": "A sketch is an approximation. Errors: of eigenvalues and residuals.",
}
CAPTION = (
    "Medians of interleaved runs, and of peaks of memory; “2.00x” means that a method takes twice "
    "vivit's time, or memory. The gradient is a yardstick that computes no curvature."
)
HOW_TO_READ = (
    "Further left is faster, further down more accurate; both axes are logarithmic, and vivit "
    "stands at one. Symbols of one method are several problems."
)


class Family(Section):
    """What else the same backward passes give."""

    name = "family"
    title = "Kernels, Fisher, solves, traces and products"
    question = "What does all else cost that the same backward passes give?"
    suites = ("family", "matrix_free")

    def needs(self, sources: Sources) -> pd.DataFrame:
        """Times, memory and accuracies of its suites."""
        return compared(sources.frame, self.suites)

    def answers(self, sources: Sources) -> list[Words]:
        """A sentence for each baseline of each result, and how exact all are."""
        return [
            Words(_title(group), CAPTION, (*summary(group), *_errors(group)))
            for group in self._groups(sources)
        ]

    def tables(self, sources: Sources) -> list[Table]:
        """The methods of each result."""
        return [
            beside(
                group,
                labels.slug(f"family {group['computed'].iloc[0]} {group['setting'].iloc[0]}"),
                _title(group),
                f"{ABOUT.get(str(group['computed'].iloc[0]), '')} {CAPTION}".strip(),
            )
            for group in self._groups(sources)
        ]

    def figures(self, sources: Sources) -> list[Plot]:
        """Error over time, a panel for each result that has both."""
        plots, palette = [], palette_of(sources.frame)
        for group in groups(self.needs(sources), "suite"):
            panels = {_result(part): _points(part) for part in groups(group, "computed")}
            panels = {title: points for title, points in panels.items() if len(points)}
            if panels:
                setting = setting_of(group)
                name = labels.slug(f"{group['suite'].iloc[0]} {setting}")
                title = labels.titled(_over_time(group), setting)
                plots.append(trade_off.plot(name, title, HOW_TO_READ, panels, palette))
        return plots

    def _groups(self, sources: Sources) -> list[pd.DataFrame]:
        return groups(self.needs(sources), "computed")


def _over_time(group: pd.DataFrame) -> str:
    return f"Error over time: {labels.suite_label(str(group['suite'].iloc[0]))}"


def _title(group: pd.DataFrame) -> str:
    return labels.titled(labels.capitalized(_result(group)), setting_of(group))


def _result(group: pd.DataFrame) -> str:
    """What is computed, for several numbers of pairs all of them."""
    return " and ".join(map(str, group["task"].unique()))


def _errors(group: pd.DataFrame) -> list[str]:
    """The largest error of each method, in one sentence."""
    rows = group[(group["quantity"] == Quantity.ACCURACY.value) & _fine(group)]
    rows = rows[~rows["method"].isin([labels.YARDSTICK, labels.REFERENCE])]
    largest = rows.groupby("method")["value"].max()
    named = [
        f"{labels.short_method_label(method)} {units.error(float(largest[method]))}"
        for method in labels.sorted_methods(largest.index)
    ]
    return [f"Largest errors: {', '.join(named)}."] if named else []


def _points(group: pd.DataFrame) -> pd.DataFrame:
    """Ratio of times to ours, and error, of each method and cell that has both."""
    rows = group[(group["quantity"] == Quantity.ACCURACY.value) & _fine(group)]
    errors = rows[["cell", "method", "value"]].rename(columns={"value": "error"})
    pairs = compare(group, Quantity.TIME)[["cell", "baseline", "ratio"]]
    ratios = pairs.rename(columns={"baseline": "method"}).dropna()
    own = ratios[["cell"]].drop_duplicates().assign(method=labels.OURS, ratio=1.0)
    found = pd.concat([own, ratios[ratios["method"] != labels.YARDSTICK]])
    return found.merge(errors, on=["cell", "method"])


def _fine(group: pd.DataFrame) -> pd.Series:
    return group["status"] == Status.OK.value


SECTION = Family()
