"""What the names on the page stand for."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from benchmarks.records.record import Quantity
from reports.sections.base import Section, Term, Words
from reports.sources.sources import Sources
from reports.words import labels


class Glossary(Section):
    """Suites, problems, methods and quantities that were measured."""

    name = "glossary"
    title = "What is compared"
    question = "What do the names on this page stand for?"

    def needs(self, sources: Sources) -> pd.DataFrame:
        """All measurements."""
        return sources.frame

    def words(self, sources: Sources) -> list[Words]:
        """A list of names for each kind of thing."""
        frame = sources.frame
        return [
            Words("What was computed", terms=suite_terms(frame)),
            Words("On which problems", terms=problem_terms(frame)),
            Words("By which methods", terms=method_terms(frame)),
            Words("What was measured", terms=quantity_terms(frame)),
        ]


def suite_terms(frame: pd.DataFrame) -> tuple[Term, ...]:
    """The suites of some measurements; the reference is listed among the methods."""
    names = [str(name) for name in frame["suite"].unique() if name != labels.REFERENCE]
    return tuple(Term(labels.suite_label(n), labels.suite_description(n)) for n in names)


def method_terms(frame: pd.DataFrame) -> tuple[Term, ...]:
    """The methods of some measurements."""
    names = labels.sorted_methods(frame["method"])
    return tuple(Term(labels.method_label(n), labels.method_description(n)) for n in names)


def quantity_terms(frame: pd.DataFrame) -> tuple[Term, ...]:
    """The quantities of some measurements."""
    present = set(frame["quantity"])
    return tuple(
        Term(entry.label, entry.description)
        for name, entry in labels.QUANTITIES.items()
        if name in present
    )


def problem_terms(frame: pd.DataFrame) -> tuple[Term, ...]:
    """The problems of some measurements, with their sizes as far as they are recorded."""
    ordered = sorted(
        set(zip(frame["problem"], frame["data"], strict=True)),
        key=lambda item: (labels.problem_rank(item[0]), item[1]),
    )
    return tuple(
        Term(labels.problem_label(problem, data), _sizes(frame, problem, data))
        for problem, data in ordered
    )


def _sizes(frame: pd.DataFrame, problem: str, data: str) -> str:
    """Parameters and batch sizes of a problem; a search tries too many of these to be listed."""
    rows = frame[(frame["problem"] == problem) & (frame["data"] == data)]
    rows = rows[rows["quantity"] != Quantity.PROBE.value]
    sizes = {details.get("num_parameters") for details in rows["details"]} - {None}
    batches = sorted({int(size) for size in rows["batch_size"].dropna()})
    parts = [f"{n:,} parameters" for n in sorted(s for s in sizes if isinstance(s, int))]
    if batches:
        parts.append(f"batch size {_listed(batches)}")
    return ", ".join(parts)


def _listed(numbers: Sequence[int]) -> str:
    *most, last = (str(number) for number in numbers)
    return f"{', '.join(most)} and {last}" if most else last


SECTION = Glossary()
