"""The engine suite: targets against measured ratios."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from benchmarks.grid.targets import ORIGINAL, TARGETS, Target
from benchmarks.records.record import Quantity, Status
from reports.sections.base import Section, Words
from reports.sources.frame import COMPARED, TASK, compared, groups, setting_of
from reports.sources.sources import Sources
from reports.tables.table import Table, identity
from reports.words import labels, units
from reports.words.labels import MISSING, OURS

OK = Status.OK.value
CAPTION = (
    "Ratios of medians, of run times and of peaks of memory: “3.00x” in time means that the other "
    "method takes three times as long as vivit, in memory that it needs three times as much. "
    "“Original” is vivit-for-pytorch 1.0.0 in the better of its two settings, for each figure by "
    "itself. A target is reached if both of its ratios are. Below 1x the other method is better; "
    "a target below 1x is met by staying close to a yardstick that does less."
)


class Targets(Section):
    """The library's targets, problem by problem."""

    name = "targets"
    title = "Engine targets"
    question = "Does vivit reach the ratios that it was made to reach?"
    suites = ("engine",)

    def needs(self, sources: Sources) -> pd.DataFrame:
        """Times, memory and accuracies of the engine suite."""
        return compared(sources.frame, self.suites)

    def answers(self, sources: Sources) -> list[Words]:
        """How many targets are reached in each setting."""
        return [
            Words(labels.titled(self.title, setting_of(group)), points=(verdict(group),))
            for group in groups(self.needs(sources))
        ]

    def words(self, sources: Sources) -> list[Words]:
        """What the original needed to run in each setting."""
        return [
            Words(labels.titled(self.title, setting_of(group)), points=tuple(said))
            for group in groups(self.needs(sources))
            if (said := circumstances(group))
        ]

    def tables(self, sources: Sources) -> list[Table]:
        """Targets against measured ratios in each setting."""
        return [target_table(group) for group in groups(self.needs(sources))]


@dataclass(frozen=True)
class Figure:
    """One figure of a target: what is asked for, and what was measured.

    Attributes:
        asked: Smallest ratio that will do; None if the figure does not matter.
        ratio: The rival's value over ours; NaN if one of them is missing.
        failure: What kept the ratio from being formed; empty if nothing did.
    """

    asked: float | None
    ratio: float
    failure: str

    @property
    def text(self) -> str:
        """What was measured and, in brackets, what is asked for."""
        measured = self.failure or units.factor(self.ratio)
        return measured + (f" (≥ {units.factor(self.asked, 2)})" if self.asked else "")

    @property
    def reached(self) -> bool | None:
        """Whether the ratio is large enough; None if it is not known."""
        if self.asked is None:
            return True
        return None if math.isnan(self.ratio) else self.ratio >= self.asked


def target_table(frame: pd.DataFrame) -> Table:
    """Targets against measured ratios.

    Args:
        frame: Measurements of the engine suite in one setting.

    Returns:
        One row per target of which anything was measured.
    """
    cells = [(target, _rows(frame, target)) for target in TARGETS]
    cells = [(target, rows) for target, rows in cells if len(rows)]
    times = [_figure(target.speed, rows, target, Quantity.TIME) for target, rows in cells]
    sizes = [_figure(target.memory, rows, target, Quantity.MEMORY) for target, rows in cells]
    reached = [_verdict(pair) for pair in zip(times, sizes, strict=True)]
    what = pd.concat([rows.head(1) for _, rows in cells]) if cells else frame.head(0)
    shown = identity(what).assign(
        **{
            "Against": [_rivals(target) for target, _ in cells],
            "Reached": reached,
            "Time (target)": [f.text for f in times],
            "Memory (target)": [f.text for f in sizes],
            "vivit: time": [_own(rows, Quantity.TIME) for _, rows in cells],
            "vivit: memory": [_own(rows, Quantity.MEMORY) for _, rows in cells],
        }
    )
    setting = setting_of(frame)
    return Table(
        name=labels.slug(f"targets {setting}"),
        title=labels.titled(Targets.title, setting),
        caption=CAPTION,
        shown=shown,
        raw=pd.DataFrame(
            {"time ratio": [f.ratio for f in times], "memory ratio": [f.ratio for f in sizes]}
        ),
        measured=tuple(shown.columns[5:]),
        kinds={
            (i, "Reached"): {"yes": "better", "no": "worse"}.get(word, "failed")
            for i, word in enumerate(reached)
        },
    )


def verdict(frame: pd.DataFrame) -> str:
    """How many targets are reached.

    Args:
        frame: Measurements of the engine suite in one setting.

    Returns:
        A sentence.
    """
    words = list(target_table(frame).shown["Reached"])
    return f"{words.count('yes')} of {len(words)} targets reached."


def circumstances(frame: pd.DataFrame) -> list[str]:
    """What the original ran with, and what it needed to run.

    Args:
        frame: Measurements of the engine suite in one setting.

    Returns:
        Sentences, the facts of which are the records'.
    """
    details = frame.loc[frame["method"].isin(ORIGINAL), "details"]
    packages = dict.fromkeys(_versions(d["package"]) for d in details if "package" in d)
    shims = dict.fromkeys(shim for d in details for shim in d.get("shims", []))
    return [
        *(f"The original ran with {text}." for text in packages),
        *(f"To run on current PyTorch it needed a shim: {text}." for text in shims),
    ]


def _rows(frame: pd.DataFrame, target: Target) -> pd.DataFrame:
    """The measurements of a target's problem and task."""
    parameters = target.task.parameters
    k = frame["k"].isna() if parameters["k"] is None else frame["k"] == parameters["k"]
    same = (frame["problem"] == target.problem) & (frame["batch_size"] == target.batch_size) & k
    for name in TASK:
        same &= frame[name] == parameters[name]
    return frame[same & frame["quantity"].isin(COMPARED)]


def _figure(asked: float | None, rows: pd.DataFrame, target: Target, quantity: Quantity) -> Figure:
    ours, rivals = (_of(rows, methods, quantity) for methods in ((OURS,), target.rivals))
    done, own = (rows.loc[rows["status"] == OK, "value"] for rows in (rivals, ours))
    if len(done) and len(own) and own.iloc[0] > 0:
        return Figure(asked, float(done.min() / own.iloc[0]), "")
    lacking = ours if not len(own) else rivals
    words = dict.fromkeys(labels.status_label(status) for status in lacking["status"])
    failure = " / ".join(words) or labels.STATUSES[MISSING]
    return Figure(asked, math.nan, failure if len(own) else f"vivit {failure}")


def _of(rows: pd.DataFrame, methods: tuple[str, ...], quantity: Quantity) -> pd.DataFrame:
    return rows[rows["method"].isin(methods) & (rows["quantity"] == quantity.value)]


def _own(rows: pd.DataFrame, quantity: Quantity) -> str:
    found = _of(rows, (OURS,), quantity)
    if not len(found):
        return labels.STATUSES[MISSING]
    status, value = found["status"].iloc[0], float(found["value"].iloc[0])
    if status != OK:
        return labels.status_label(status)
    return units.seconds(value) if quantity is Quantity.TIME else units.size(value)


def _verdict(figures: tuple[Figure, ...]) -> str:
    reached = [figure.reached for figure in figures]
    if False in reached:
        return "no"
    return "open" if None in reached else "yes"


def _rivals(target: Target) -> str:
    if target.rivals == ORIGINAL:
        return "original"
    return ", ".join(labels.short_method_label(name) for name in target.rivals)


def _versions(package: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in package.items())


SECTION = Targets()
