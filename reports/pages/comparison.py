"""The page: what it says, and its rendering."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from benchmarks.records.record import Quantity
from reports.pages.rendering import Drawing, template
from reports.sections import critical, drop_in, paper, scaling, targets
from reports.sections.ratios import headline_table
from reports.sources import records as loading
from reports.sources.environments import Environment
from reports.sources.records import Measurements
from reports.tables import ratios
from reports.tables import table as tables
from reports.tables.table import Table
from reports.words import labels, units


@dataclass(frozen=True)
class Headline:
    """The ratios of one suite in one setting, in words and as a table."""

    sentences: list[str]
    table: Table


@dataclass(frozen=True)
class Term:
    """Something measured, its name and what it means."""

    name: str
    description: str


def headlines(frame: pd.DataFrame) -> list[Headline]:
    """The ratios, one table per suite and setting, so that none mixes what must not be compared.

    Args:
        frame: All measurements.

    Returns:
        The headlines in the order of the report.
    """
    headed = [quantity.value for quantity in (Quantity.TIME, Quantity.MEMORY, Quantity.CRITICAL)]
    speed = frame["quantity"].isin(headed)
    compared = frame[speed | frame["quantity"].isin(labels.COMPARED)]
    # the suites of the scaling share a table, under the name of the first
    suites = compared["suite"].where(~compared["suite"].isin(scaling.SUITES), scaling.SUITES[0])
    groups = compared.groupby([suites, "setting"], sort=False)
    return [
        _headline(str(suite), group)
        for (suite, _), group in groups
        if speed.loc[group.index].any()
    ]


def _headline(suite: str, group: pd.DataFrame) -> Headline:
    if suite == targets.SUITE:
        return Headline(targets.remarks(group), targets.target_table(group))
    if suite == drop_in.SUITE:
        return Headline([], drop_in.drop_in_table(group))
    if suite == critical.SUITE:
        return Headline([], critical.critical_table(group))
    if suite in scaling.SUITES:
        return Headline([], scaling.scaling_table(group))
    return Headline(ratios.summary(group), headline_table(group))


def detail_tables(frame: pd.DataFrame) -> list[Table]:
    """The tables below the ratios; those without rows are left out, but for the failures.

    Args:
        frame: All measurements.

    Returns:
        The tables in the order of the page.
    """
    measured = [
        paper.paper_table(frame),
        tables.time_table(frame),
        tables.memory_table(frame),
        tables.accuracy_table(frame),
    ]
    return [table for table in measured if len(table.shown)] + [tables.failure_table(frame)]


def render(
    measurements: Measurements,
    summaries: Sequence[Headline],
    details: Sequence[Table],
    drawings: Sequence[Drawing],
    commits: str | None = None,
) -> str:
    """Render the page.

    Args:
        measurements: What the report is made from.
        summaries: The ratios.
        details: The other tables.
        drawings: The figures.
        commits: The page of asv's results, if there is one.

    Returns:
        HTML that needs no other file and no network.
    """
    frame = measurements.frame
    return template("index.html.j2").render(
        environments=[(e, machine_text(e), dates_text([e])) for e in measurements.environments],
        dates=dates_text(measurements.environments),
        mixed=len(measurements.environments) > 1,
        settings=[setting for setting in frame["setting"].unique() if setting],
        suites=suite_terms(frame),
        problems=problem_terms(frame),
        methods=method_terms(frame),
        quantities=quantity_terms(frame),
        count=len(frame),
        failures=len(loading.failures(frame)),
        headlines=summaries,
        tables=details,
        drawings=drawings,
        commits=commits,
        sources=[(source.path, len(source.records)) for source in measurements.sources],
    )


def suite_terms(frame: pd.DataFrame) -> list[Term]:
    """The suites of some measurements; the reference is listed among the methods."""
    names = [str(name) for name in frame["suite"].unique() if name != labels.REFERENCE]
    return [_term(labels.SUITES, name, labels.suite_label(name)) for name in names]


def method_terms(frame: pd.DataFrame) -> list[Term]:
    """The methods of some measurements."""
    names = labels.sorted_methods(frame["method"])
    return [_term(labels.METHODS, name, labels.method_label(name)) for name in names]


def quantity_terms(frame: pd.DataFrame) -> list[Term]:
    """The quantities of some measurements."""
    present = set(frame["quantity"])
    return [
        Term(entry.label, entry.description)
        for name, entry in labels.QUANTITIES.items()
        if name in present
    ]


def problem_terms(frame: pd.DataFrame) -> list[Term]:
    """The problems of some measurements, with their sizes as far as they are recorded."""
    terms = []
    ordered = sorted(
        set(zip(frame["problem"], frame["data"], strict=True)),
        key=lambda item: (labels.rank(item[0], labels.PROBLEMS), item[1]),
    )
    for problem, data in ordered:
        rows = frame[(frame["problem"] == problem) & (frame["data"] == data)]
        rows = rows[rows["quantity"] != Quantity.PROBE.value]
        sizes = {details.get("num_parameters") for details in rows["details"]} - {None}
        batches = sorted({int(size) for size in rows["batch_size"].dropna()})
        parts = [f"{n:,} parameters" for n in sorted(s for s in sizes if isinstance(s, int))]
        if batches:
            parts.append(f"batch size {_list_of(batches)}")
        terms.append(Term(labels.problem_label(problem, data), ", ".join(parts)))
    return terms


def machine_text(environment: Environment) -> str:
    """A machine in one line."""
    machine = environment.machine
    memory = machine.get("memory_bytes")
    cores = machine.get("cores")
    parts = [
        str(machine.get("cpu") or "CPU not recorded"),
        f"{cores} cores" if cores else "",
        f"{units.size(memory)} memory" if isinstance(memory, (int, float)) else "",
        str(machine.get("gpu") or "no GPU"),
        str(machine.get("os") or ""),
    ]
    return ", ".join(part for part in parts if part) if machine else "machine not recorded"


def dates_text(environments: Iterable[Environment]) -> str:
    """When measurements were made: a day, or the first and the last."""
    times = [time for e in environments for time in (e.first, e.last) if time]
    if not times:
        return "on an unrecorded date"
    first, last = (_day(time) for time in (min(times), max(times)))
    return f"on {first}" if first == last else f"from {first} to {last}"


def _day(time: datetime) -> str:
    return time.date().isoformat()


def _term(known: dict[str, labels.Entry], name: str, label: str) -> Term:
    return Term(label, known[name].description if name in known else "")


def _list_of(numbers: Sequence[int]) -> str:
    texts = [str(number) for number in numbers]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)
