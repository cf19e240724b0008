"""The answer in a sentence, and a chart for each question."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from statistics import median

import pandas as pd

from benchmarks.records.record import Quantity, Status
from reports.figures.dots import dots
from reports.figures.plot import Plot
from reports.figures.style import Palette, palette_of
from reports.sections.base import Section, Words
from reports.sources.frame import groups
from reports.sources.sources import Sources
from reports.tables.ratios import compare
from reports.words import labels, units
from reports.words.labels import ON_VIVIT, OURS, REFERENCE, YARDSTICKS

SUITES = ("eigenvalues", "leading", "derivatives", "newton")
"""The tasks that vivit is made for."""

NO_RIVALS = (*ON_VIVIT, *YARDSTICKS, REFERENCE)

CELL = ["problem", "data", "task", "budget"]
"""What critical batch sizes to be compared share."""

CAPTION = (
    "A dot is a case: a network, a batch and a task that both methods solved. The bar and the "
    "number are the median. Right of 1 vivit is better. What gave no result is not drawn."
)
ERRORS = (
    "A dot is a case. Further left is more exact. The bar and the number are the median. The "
    "error is that of the result against double precision, relative to the largest eigenvalue "
    "or the norm. An error of exactly 0 is not drawn."
)
NOTHING = "No time and no memory of another method was measured, so there is nothing to compare."

UNBROKEN = "\u2011"
"""A hyphen at which no line ends, for exponents."""

Values = dict[str, list[float]]


@dataclass(frozen=True)
class Chart:
    """A question, and a value of each case, method by method."""

    name: str
    title: str
    axis: str
    values: Values
    is_ratio: bool = True

    def plot(self, palette: Palette) -> Plot:
        """The figure."""
        text = units.factor if self.is_ratio else units.error
        parts = [
            f"{labels.method_label(method)}: {text(min(found))} to {text(max(found))}"
            for method, found in self.values.items()
        ]
        return Plot(
            name=f"answer-{self.name}",
            title=self.title,
            caption=CAPTION if self.is_ratio else ERRORS,
            alt=f"{self.title} {'; '.join(parts)}.",
            draw=partial(dots, self.values, self.axis, palette, is_ratio=self.is_ratio),
        )


class Answer(Section):
    """How fast, how small, how large a batch, how exact; in the setting with most comparisons."""

    name = "answer"
    title = "The answer"
    question = "Is it faster, does it need less memory, and is it exact?"
    are_side_by_side = True

    def needs(self, sources: Sources) -> pd.DataFrame:
        """All measurements."""
        return sources.frame

    def words(self, sources: Sources) -> list[Words]:
        """A sentence, and where its figures come from."""
        frame = _chosen(sources.frame)
        points = [text for chart in charts(frame) if (text := _sentence(chart))]
        if not points:
            return [Words(points=(NOTHING,))]
        sentence = f"{labels.capitalized('; '.join(points))}.".replace("e-", f"e{UNBROKEN}")
        return [Words(points=(sentence, _where(frame, sources)))]

    def figures(self, sources: Sources) -> list[Plot]:
        """A chart for each question that was measured."""
        palette = palette_of(sources.frame)
        return [chart.plot(palette) for chart in charts(_chosen(sources.frame)) if chart.values]


def charts(frame: pd.DataFrame) -> list[Chart]:
    """The four questions.

    Args:
        frame: Measurements of one setting.

    Returns:
        A chart for each; its values are empty where nothing was measured.
    """
    own = frame[frame["suite"].isin(SUITES)]
    time, memory = (_ratios(own, quantity) for quantity in (Quantity.TIME, Quantity.MEMORY))
    batch, error = _batches(frame), _errors(own)
    return [
        Chart("time", "How much faster?", "time of the other / vivit's", time),
        Chart("memory", "How much less memory?", "memory of the other / vivit's", memory),
        Chart("batch", "How large a batch?", "vivit's largest batch / the other's", batch),
        Chart("error", "How exact?", "relative error", error, is_ratio=False),
    ]


def _chosen(frame: pd.DataFrame) -> pd.DataFrame:
    """The setting with the most comparisons of times; of equal ones the last."""
    own = groups(frame)
    counts = [sum(map(len, charts(group)[0].values.values())) for group in own]
    return max(zip(counts, range(len(own)), own, strict=True), key=lambda item: item[:2])[2]


def _ratios(frame: pd.DataFrame, quantity: Quantity) -> Values:
    return _by_method(compare(frame, quantity).rename(columns={"baseline": "method"}), "ratio")


def _batches(frame: pd.DataFrame) -> Values:
    rows = frame[frame["quantity"] == Quantity.CRITICAL.value]
    ours = rows.loc[rows["method"] == OURS, [*CELL, "value"]]
    pairs = rows.merge(ours, on=CELL, suffixes=("", "_ours"))
    positive = pairs["value"].where(pairs["value"] > 0)
    return _by_method(pairs.assign(ratio=pairs["value_ours"] / positive), "ratio")


def _errors(frame: pd.DataFrame) -> Values:
    done = (frame["quantity"] == Quantity.ACCURACY.value) & (frame["status"] == Status.OK.value)
    rows = frame[done]
    ours = _values(rows[rows["method"] == OURS], "value")
    return ({OURS: ours} if ours else {}) | _by_method(rows, "value")


def _by_method(rows: pd.DataFrame, column: str) -> Values:
    """Positive values of each rival, in the order of the report."""
    rivals = labels.sorted_methods(set(rows["method"]) - {*NO_RIVALS})
    found = {name: _values(rows[rows["method"] == name], column) for name in rivals}
    return {name: values for name, values in found.items() if values}


def _values(rows: pd.DataFrame, column: str) -> list[float]:
    return [float(value) for value in rows[column].dropna() if value > 0]


def _sentence(chart: Chart) -> str:
    """The median of all cases, and in how many vivit is better."""
    if not chart.is_ratio:
        own = chart.values.get(OURS)
        if not own:
            return ""
        middle, most = (units.error(error) for error in (median(own), max(own)))
        return f"its relative error is {middle} (median; at most {most})"
    cases = pd.Series([value for found in chart.values.values() for value in found], dtype=float)
    if not len(cases):
        return ""
    middle, better = units.factor(cases.median()), int((cases > 1).sum())
    phrase = {
        "time": f"others take {middle} the time of vivit",
        "memory": f"{middle} its memory",
        "batch": f"a batch may be {middle} as large with vivit",
    }[chart.name]
    return f"{phrase} (median; vivit is better in {better} of {len(cases)} cases)"


def _where(frame: pd.DataFrame, sources: Sources) -> str:
    named = dict.fromkeys(str(name) for name in frame["environment"])
    several = sources.frame["setting"].nunique() > 1
    place = f"Measured on {'; '.join(named)}"
    return f"{place}, where most was compared; all others are below." if several else f"{place}."


SECTION = Answer()
