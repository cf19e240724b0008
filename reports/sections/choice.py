"""Which method was best for which kind of situation, as far as records say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import pandas as pd

from benchmarks.records.record import Quantity, Status
from reports.sections.base import Section
from reports.sources.frame import TASK
from reports.sources.sources import Sources
from reports.tables.best import Leader, are_compared, leader, same_results
from reports.tables.table import Table
from reports.words import labels, units

SUITES = (
    *("eigenvalues", "leading", "derivatives", "newton", "family", "matrix_free", "engine"),
    *("scaling_batch", "scaling_classes", "scaling_width"),
)
"""Those whose methods compute the same."""

SITUATION = ["problem", "data", "task", "batch_size", "device", "dtype"]
"""What was measured in several environments is one situation."""

EDGES: dict[str, tuple[int, ...]] = {"C": (10, 1_000), "N": (), "D": (100_000,)}
"""Sizes up to which situations are of one kind; the batch size alone does not tell kinds apart."""

SIZES = (
    "A row is a kind of situation: the task, and the sizes of networks and batches that were "
    "measured. C is the number of columns that a sample adds to the matrix (of a classifier, its "
    "classes less one), N the number of samples, D the number of parameters. "
)
COSTS = SIZES + (
    "“By” is how many times as long, or as much memory, the next method took: the median, and "
    "the range of several cases; below 1x another one was better. Methods count whose "
    "error was measured and is below 1e-3, or no more than ten times that of the most exact one. "
    "What runs on vivit is no rival of vivit. Of a situation that was measured in several "
    "environments, the one with most methods counts; each factor is within one environment."
)
BATCHES = (
    "The method with the largest batch that fits into an amount of memory, and how many times as "
    "large it is as the next one's: the median, and the range of several cases."
)


class Choice(Section):
    """The fastest and the smallest method for each kind of situation."""

    name = "choice"
    title = "Which method for me?"
    question = "Which method was fastest, and which needs the least memory, for a task like mine?"

    def needs(self, sources: Sources) -> list[Table]:
        """Tables in which there is a choice."""
        return self.tables(sources)

    def tables(self, sources: Sources) -> list[Table]:
        """Times and memory by kind of situation, and batches by amount of memory."""
        places = {e.label: i for i, e in enumerate(sources.measurements.environments)}
        tables = [cost_table(situations(sources.frame, places)), batch_table(sources.frame)]
        return [table for table in tables if len(table.shown)]


@dataclass(frozen=True)
class Situation:
    """What was measured with several methods.

    Attributes:
        task: What was computed.
        sizes: C, N and D, as far as they are recorded.
        costs: Quantity -> method -> seconds or bytes.
        place: Of the environment, the last is the latest.
    """

    task: str
    sizes: dict[str, float]
    costs: dict[str, dict[str, float]]
    place: int = 0

    @property
    def kind(self) -> tuple[str, ...]:
        """Equal for situations that share a row."""
        return (self.task, *(str(_step(name, self.sizes.get(name))) for name in EDGES))

    @property
    def merit(self) -> tuple[int, int]:
        """By which one of several environments is chosen."""
        return len(self.costs[Quantity.TIME.value]), self.place


def situations(frame: pd.DataFrame, places: dict[str, int]) -> list[Situation]:
    """Situations in which at least two methods computed the same.

    Args:
        frame: All measurements.
        places: Of the environments, in their order.

    Returns:
        The situations, each in one environment.
    """
    whole = frame[frame["suite"].isin(SUITES)]
    for name in ("approximation", "subset", "grouping"):
        whole = whole[whole[name] == TASK[name]]
    known, chosen = _sizes(frame), dict[tuple[Any, ...], Situation]()
    for _, rows in same_results(whole).groupby("cell", sort=False):
        first = rows.iloc[0]
        costs = {
            quantity: dict(zip(own["method"], own["value"], strict=True))
            for quantity, own in rows.groupby("quantity")
        }
        if not are_compared(costs.get(Quantity.TIME.value, ())):
            continue
        sizes = known[first["problem"]] | {"N": first["batch_size"]}
        found = Situation(first["task"], sizes, costs, places.get(first["environment"], 0))
        key = tuple(first[name] for name in SITUATION)
        if key not in chosen or found.merit >= chosen[key].merit:
            chosen[key] = found
    return [*chosen.values()]


def _sizes(frame: pd.DataFrame) -> dict[str, dict[str, float]]:
    """C and D of each problem, where a record has them."""
    sizes: dict[str, dict[str, float]] = {}
    columns = zip(*(frame[n] for n in ("problem", "method", "batch_size", "details")), strict=True)
    for problem, method, samples, details in columns:
        own = sizes.setdefault(problem, {})
        if "num_parameters" in details:
            own["D"] = details["num_parameters"]
        if method == labels.OURS and "num_columns" in details and not pd.isna(samples):
            own["C"] = max(own.get("C", 0), details["num_columns"] / samples)
    return sizes


def _step(name: str, size: float | None) -> int:
    """How many edges a size is above; -1 if it is not known."""
    if size is None or pd.isna(size):
        return -1
    return sum(size > edge for edge in EDGES[name])


@dataclass
class Column:
    """The best methods, row by row: texts and numbers."""

    title: str
    by: str
    raw: str
    leaders: list[Leader | None] = field(default_factory=list)

    @property
    def shown(self) -> dict[str, list[str]]:
        """What the page shows."""
        return {
            self.title: [_name(leader) for leader in self.leaders],
            self.by: [_factors(leader) for leader in self.leaders],
        }

    @property
    def numbers(self) -> dict[str, list[float | None]]:
        """Medians of the factors."""
        return {self.raw: [None if one is None else median(one.factors) for one in self.leaders]}


def cost_table(found: Sequence[Situation]) -> Table:
    """The fastest method, and the one with the least memory, of each kind of situation.

    Args:
        found: The situations.

    Returns:
        One row per kind.
    """
    kinds: dict[tuple[str, ...], list[Situation]] = {}
    for situation in found:
        kinds.setdefault(situation.kind, []).append(situation)
    tasks = list(dict.fromkeys(situation.task for situation in found))
    rows = [kinds[kind] for kind in sorted(kinds, key=lambda kind: (tasks.index(kind[0]), kind))]
    columns = {
        Quantity.TIME.value: Column("Fastest", "Faster by", "time factor"),
        Quantity.MEMORY.value: Column("Least memory", "Less by", "memory factor"),
    }
    for row in rows:
        for quantity, column in columns.items():
            column.leaders.append(leader([one.costs.get(quantity, {}) for one in row]))
    identity = {
        "You want": [row[0].task for row in rows],
        **{name: [_range(row, name) for row in rows] for name in EDGES},
        "Cases": [str(len(row)) for row in rows],
    }
    return _table("choice", Choice.title, COSTS, identity, columns.values())


def batch_table(frame: pd.DataFrame) -> Table:
    """The method with the largest batch, for each task and amount of memory.

    Args:
        frame: All measurements.

    Returns:
        One row per task and budget.
    """
    done = (frame["quantity"] == Quantity.CRITICAL.value) & (frame["status"] == Status.OK.value)
    rows = frame[done & (frame["value"] > 0) & ~frame["method"].isin(labels.YARDSTICKS)]
    identity: dict[str, list[str]] = {"You want": [], "Memory": [], "Cases": []}
    column = Column("Largest batch", "Larger by", "batch factor")
    for (task, budget), group in rows.groupby(["task", "budget"], sort=False):
        cells = [
            {method: 1 / size for method, size in zip(own["method"], own["value"], strict=True)}
            for _, own in group.groupby("cell", sort=False)
        ]
        best = leader(cells)
        if best is not None:
            facts = (str(task), units.size(float(budget)), str(best.cases))
            for name, fact in zip(identity, facts, strict=True):
                identity[name].append(fact)
            column.leaders.append(best)
    return _table("choice-batches", "By the memory that you have", BATCHES, identity, [column])


def _table(
    name: str,
    title: str,
    caption: str,
    identity: dict[str, list[str]],
    columns: Iterable[Column],
) -> Table:
    texts, numbers = dict(identity), dict[str, list[float | None]]()
    for column in columns:
        texts |= column.shown
        numbers |= column.numbers
    factors = [text for text in texts if text.endswith(" by")]
    return Table(
        name,
        title,
        caption,
        pd.DataFrame(texts, dtype=object),
        pd.DataFrame(numbers, dtype="Float64"),
        (*EDGES, "Cases", *factors),
        wrapped=("Fastest", "Least memory", "Largest batch", *factors),
    )


def _name(best: Leader | None) -> str:
    if best is None:
        return units.NOTHING
    share = "" if best.wins == best.cases else f" ({best.wins} of {best.cases})"
    return labels.short_method_label(best.method) + share


def _factors(best: Leader | None) -> str:
    """The median; of several cases, the range too."""
    if best is None:
        return units.NOTHING
    middle, *ends = (units.factor(f(best.factors)) for f in (median, min, max))
    return middle if len(best.factors) == 1 else f"{middle} ({' to '.join(ends)})"


def _range(row: Sequence[Situation], name: str) -> str:
    """The smallest and the largest size of some situations."""
    sizes = [s.sizes[name] for s in row if not pd.isna(s.sizes.get(name))]
    if not sizes:
        return units.NOTHING
    ends: list[Callable[[list[float]], float]] = [min, max]
    return " to ".join(dict.fromkeys(units.count(end(sizes)) for end in ends))


SECTION = Choice()
