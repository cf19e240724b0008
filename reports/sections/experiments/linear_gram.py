"""What the Gram matrix of linear layers costs beyond a gradient."""

from __future__ import annotations

import pandas as pd

from benchmarks.records.record import Quantity
from reports.sections.experiments.base import ExperimentSection
from reports.sources.sources import Sources
from reports.tables.table import Table
from reports.words import labels, units

METHODS = {
    "gradient": "gradient",
    "backpropagation": "+ V sent backwards",
    "naive_gram": "+ V stored, and its Gram matrix",
    "gram": "Gram matrix without V (vivit)",
}
CAPTION = (
    "Minima of the repeats, as in the paper. “Beyond the gradient” subtracts the gradient's time. "
    "The paper's own figures for this experiment are not among its published tables."
)


class LinearGramSection(ExperimentSection):
    """A row for each step."""

    def tables(self, sources: Sources) -> list[Table]:
        """Seconds, differences, ratios and memory."""
        rows = self.of(sources, Quantity.TIME)
        rows = rows[rows["method"].isin(METHODS)]
        return [self._table(sources, group) for _, group in rows.groupby("cell", sort=False)]

    def _table(self, sources: Sources, rows: pd.DataFrame) -> Table:
        seconds = {row["method"]: min(row["samples"]) for _, row in rows.iterrows()}
        memory = self.of(sources, Quantity.MEMORY)
        peaks = memory[memory["cell"].isin(rows["cell"])].set_index("method")["value"]
        names = [name for name in METHODS if name in seconds]
        base = seconds.get("gradient", float("nan"))
        shown = pd.DataFrame(
            {
                "Computed": [METHODS[name] for name in names],
                "Time": [units.seconds(seconds[name]) for name in names],
                "Beyond the gradient": [_beyond(seconds[name] - base) for name in names],
                "Ratio to the gradient": [units.factor(seconds[name] / base) for name in names],
                "Peak memory": [
                    units.size(peaks[n]) if n in peaks else units.NOTHING for n in names
                ],
            }
        )
        raw = pd.DataFrame({"seconds": [seconds[name] for name in names]})
        size = rows["batch_size"].iloc[0]
        name = labels.slug(f"{self.name} {size}")
        title = f"{self.title}, batch {size}"
        return Table(name, title, CAPTION, shown, raw, (*shown.columns[1:],))


def _beyond(seconds: float) -> str:
    return units.seconds(seconds) if seconds > 0 else units.NOTHING


SECTION = LinearGramSection("linear-gram")
