"""Ratios of other methods to this library: what the sections of most suites show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from benchmarks.records.record import Quantity, Status
from reports.sections.base import Section, Words
from reports.sources.frame import COMPARED, compared, groups, setting_of
from reports.sources.sources import Sources
from reports.tables.best import INACCURATE
from reports.tables.ratios import baselines, compare, ratio_kind, ratio_text, summary
from reports.tables.table import Notes, Table, identity
from reports.words import labels, units
from reports.words.labels import MISSING, OURS, YARDSTICK

OK = Status.OK.value
QUANTITIES = (Quantity.TIME, Quantity.MEMORY)
CAPTION = (
    "“2.00x faster” means that the other method takes twice as long as vivit (medians of the "
    "repeats), “2.00x less” that vivit needs half of its memory (medians of the peaks), “30.0 "
    "gradients” that vivit takes as long as thirty mini-batch gradients. Each ratio compares "
    "equal problems, parameters, machines, code and versions."
)


class Ratios(Section):
    """A suite whose methods compute the same: times and memory, relative to vivit's."""

    def needs(self, sources: Sources) -> pd.DataFrame:
        """Times, memory and accuracies of its suites, unless there are only accuracies."""
        return compared(sources.frame, self.suites)

    def answers(self, sources: Sources) -> list[Words]:
        """A sentence for each baseline, apart for each suite and setting."""
        return [
            Words(_title(group), CAPTION, tuple(summary(group))) for group in self._groups(sources)
        ]

    def tables(self, sources: Sources) -> list[Table]:
        """The ratios, apart for each suite and setting."""
        return [ratio_table(group) for group in self._groups(sources)]

    def _groups(self, sources: Sources) -> list[pd.DataFrame]:
        return groups(self.needs(sources), "suite")


@dataclass(frozen=True)
class Column:
    """A column of measurements: what is shown, how it is marked, and the numbers behind it."""

    title: str
    texts: list[str]
    kinds: list[str]
    raw_title: str
    raw: list[float]


def ratio_table(frame: pd.DataFrame) -> Table:
    """Ratios of this library to every baseline.

    Args:
        frame: Measurements of one suite in one setting.

    Returns:
        One row per cell: the library's own time and memory, then the ratios.
    """
    frame = frame[frame["method"] != labels.REFERENCE]
    frame = frame[frame["quantity"].isin(COMPARED)]
    cells, notes = frame.drop_duplicates("cell"), Notes()
    columns = [_own_column(frame, cells["cell"], quantity, notes) for quantity in QUANTITIES]
    columns += [
        _ratio_column(frame, cells["cell"], baseline, quantity, notes)
        for quantity in QUANTITIES
        for baseline in baselines(frame)
    ]
    suite, setting = str(frame["suite"].iloc[0]), setting_of(frame)
    return Table(
        name=labels.slug(f"ratios {suite} {setting}"),
        title=_title(frame),
        caption=CAPTION,
        shown=_identity(cells).assign(**{c.title: c.texts for c in columns}),
        raw=pd.DataFrame({c.raw_title: c.raw for c in columns}),
        measured=tuple(c.title for c in columns),
        kinds={(i, c.title): kind for c in columns for i, kind in enumerate(c.kinds)},
        notes=tuple(notes.texts),
    )


def _title(frame: pd.DataFrame) -> str:
    """The suite, and the setting where there are several."""
    suite = labels.suite_label(str(frame["suite"].iloc[0]))
    return labels.titled(labels.capitalized(suite), setting_of(frame))


def _identity(cells: pd.DataFrame) -> pd.DataFrame:
    """What a row is about; of a task that the heading names, only `k` remains."""
    shown = identity(cells)
    variants = cells[["computed", "approximation", "subset", "grouping"]].drop_duplicates()
    if len(variants) > 1:
        return shown
    if cells["k"].isna().all():
        return shown.drop(columns="Computed")
    return shown.assign(Computed=[units.integer(k) for k in cells["k"]]).rename(
        columns={"Computed": "k"}
    )


def _own_column(
    frame: pd.DataFrame, cells: Iterable[str], quantity: Quantity, notes: Notes
) -> Column:
    title, text, unit = {
        Quantity.TIME: ("vivit: time", units.seconds, "s"),
        Quantity.MEMORY: ("vivit: memory", units.size, "bytes"),
    }[quantity]
    own = frame[(frame["method"] == OURS) & (frame["quantity"] == quantity.value)]
    rows = own.set_index("cell").reindex(list(cells))
    statuses, reasons = rows["status"].fillna(MISSING), rows["reason"].fillna("")
    return Column(
        title,
        [
            text(value) if status == OK else _outcome(OURS, status, reason, notes)
            for value, status, reason in zip(rows["value"], statuses, reasons, strict=True)
        ],
        ["plain" if status == OK else "failed" for status in statuses],
        f"vivit {quantity.value} [{unit}]",
        list(rows["value"]),
    )


def _ratio_column(
    frame: pd.DataFrame, cells: Iterable[str], baseline: str, quantity: Quantity, notes: Notes
) -> Column:
    pairs = compare(frame, quantity)
    rows = pairs[pairs["baseline"] == baseline].set_index("cell").loc[list(cells)]
    name = labels.short_method_label(baseline)
    described = [_describe(row, baseline, quantity, notes) for _, row in rows.iterrows()]
    texts = [text for text, _ in described]
    if quantity is Quantity.TIME:
        texts = [
            text + _accuracy_mark(frame, cell, baseline, notes) if pd.notna(ratio) else text
            for text, cell, ratio in zip(texts, rows.index, rows["ratio"], strict=True)
        ]
    return Column(
        f"{quantity.value.capitalize()} vs {name}",
        texts,
        [kind for _, kind in described],
        f"{quantity.value} ratio {baseline} / {OURS}",
        list(rows["ratio"]),
    )


def _describe(pair: pd.Series, baseline: str, quantity: Quantity, notes: Notes) -> tuple[str, str]:
    """Text and kind of one pair: its ratio, or what kept it from being formed."""
    if pd.notna(pair["ratio"]):
        ratio = float(pair["ratio"])
        return ratio_text(ratio, baseline, quantity), ratio_kind(ratio, baseline)
    parts = []
    if pair["status_ours"] != OK:
        own = _outcome(OURS, pair["status_ours"], pair["reason_ours"], notes)
        parts.append(f"vivit {own}")
    if pair["status_theirs"] != OK:
        parts.append(_outcome(baseline, pair["status_theirs"], pair["reason_theirs"], notes))
    return "; ".join(parts) or "vivit below resolution", "failed"


def _outcome(method: str, status: str, reason: str, notes: Notes) -> str:
    text = labels.status_label(status)
    if status == MISSING:
        return text
    return text + notes.mark(
        f"{labels.method_label(method)}: {text}: {reason or 'no reason recorded'}"
    )


def _accuracy_mark(frame: pd.DataFrame, cell: str, baseline: str, notes: Notes) -> str:
    """A footnote if the result that a time belongs to was not checked or is far off."""
    checked = frame[(frame["cell"] == cell) & (frame["quantity"] == Quantity.ACCURACY.value)]
    errors = checked[checked["status"] == OK].set_index("method")["value"]
    marks = ""
    for method in (OURS, baseline):
        name = labels.method_label(method)
        if method not in errors:
            marks += notes.mark(f"{name}: the result was not checked against a reference")
        elif errors[method] > INACCURATE and method != YARDSTICK:
            limit = units.error(INACCURATE)
            marks += notes.mark(f"{name}: relative error above {limit}, see Accuracy")
    return marks
