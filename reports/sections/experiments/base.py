"""What the sections of published experiments have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.experiments import EXPERIMENTS
from benchmarks.records.record import Quantity, Status
from benchmarks.records.tasks import Grouping
from reports.figures.plot import Plot
from reports.sections.base import Section, Term, Words
from reports.sources.sources import Sources
from reports.tables.table import Table
from reports.words import labels, units


class ExperimentSection(Section):
    """A published experiment, repeated.

    Name, title and question are those of the experiment.

    Attributes:
        beside: What the published figures are and where they come from; empty if there are none.
    """

    beside: str = ""

    def __init__(self, name: str) -> None:
        """Find the experiment.

        Args:
            name: Of the experiment.
        """
        self.experiment = EXPERIMENTS[name]
        self.name = name
        self.title = labels.capitalized(self.experiment.label.name)
        self.question = labels.capitalized(self.experiment.description)
        self.suites = (name,)

    def needs(self, sources: Sources) -> pd.DataFrame:
        """Its records that have a result."""
        frame = sources.frame
        return frame[(frame["suite"] == self.name) & (frame["status"] == Status.OK.value)]

    def of(self, sources: Sources, *quantities: Quantity) -> pd.DataFrame:
        """Its results of some quantities.

        Args:
            sources: All that was found.
            *quantities: Which ones.

        Returns:
            Rows of the frame, numbered from 0.
        """
        rows = self.needs(sources)
        return rows[rows["quantity"].isin([q.value for q in quantities])].reset_index(drop=True)

    def in_short(self, points: Iterable[str]) -> list[Words]:
        """Sentences as the section's answer; none if there are none."""
        said = tuple(points)
        return [Words(self.title, points=said)] if said else []

    def table(
        self,
        caption: str,
        shown: list[dict[str, str]],
        raw: list[dict[str, Any]],
        first_measured: int,
    ) -> list[Table]:
        """Rows as the section's table; none if there are none.

        Args:
            caption: How to read it.
            shown: Texts by column.
            raw: Numbers by column, for each row.
            first_measured: Index of the first column that holds measurements.
        """
        if not shown:
            return []
        frame = pd.DataFrame(shown)
        measured = (*frame.columns[first_measured:],)
        return [Table(self.name, self.title, caption, frame, pd.DataFrame(raw), measured)]

    def plot(self, of: str, caption: str, shows: str, draw: Callable[[], Figure]) -> Plot:
        """A figure of the section.

        Args:
            of: What it is about, such as a problem.
            caption: How to read it.
            shows: What it shows, in words.
            draw: Makes it.
        """
        title = f"{self.title}: {of}"
        return Plot(labels.slug(f"{self.name} {of}"), title, caption, f"{title}. {shows}", draw)

    def words(self, sources: Sources) -> list[Words]:
        """What was published, what is different, and the command."""
        terms = [
            Term("Published", f"{labels.capitalized(self.experiment.published)}."),
            Term("Smaller in the profile quick", self.experiment.scaled),
            Term("To repeat it", f"python -m benchmarks experiment {self.name}", is_code=True),
        ]
        if self.beside:
            terms.insert(1, Term("Published figures shown here", self.beside))
        return [Words(terms=tuple(terms))]


PAPER = (
    "ViViT: Curvature access through the generalized Gauss-Newton's low-rank structure (TMLR "
    "2022); CPU: Core i7-8700K with 31.3 GiB, GPU: RTX 2080 Ti with 11 GiB."
)


def problem_titles(frame: pd.DataFrame) -> dict[str, str]:
    """Names of the problems, in the order of the report.

    Args:
        frame: Measurements.

    Returns:
        Name of the identifier -> name for people, which says where data is not real.
    """
    pairs = zip(frame["problem"], frame["data"], strict=True)
    return {problem: labels.problem_label(problem, data) for problem, data in dict.fromkeys(pairs)}


def moments_of(frame: pd.DataFrame) -> list[tuple[str, float, pd.DataFrame]]:
    """Measurements of trainings, apart for each moment.

    Args:
        frame: Measurements; each has the epoch among its parameters.

    Returns:
        Problem for people, epoch and rows, in the order of the report and then of the epochs.
    """
    titles = problem_titles(frame)
    epochs = pd.Series([p["epoch"] for p in frame["parameters"]], index=frame.index, dtype=float)
    found = frame.groupby([frame["problem"], epochs], sort=False)
    order = {problem: number for number, problem in enumerate(titles)}
    ordered = sorted(found, key=lambda item: (order[item[0][0]], item[0][1]))
    return [(titles[problem], float(epoch), rows) for (problem, epoch), rows in ordered]


def blocks_of(grouping: str) -> str:
    """The blocks of a GGN, for a table."""
    return "network" if grouping == Grouping.NETWORK.value else f"per {grouping}"


def seconds_of(value: float | None) -> str:
    """A time that may be missing, for a table."""
    return units.NOTHING if value is None or pd.isna(value) else units.seconds(float(value))
