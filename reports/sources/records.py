"""Records -> one tidy frame, a row per measurement."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.records.record import Quantity, Record, RecordStore, Status
from reports.errors import ReportError
from reports.sources import environments
from reports.sources.environments import Environment
from reports.words import labels

SUFFIX = ".jsonl"
OTHER = ".json"
"""Of pytest-benchmark's files, which are read elsewhere."""

MAKE_RECORDS = "python -m benchmarks run --profile quick"
TASK = {
    "computed": "",
    "approximation": "exact",
    "subset": "whole",
    "grouping": "network",
}
"""Parameters that say what was computed, with what older records mean that lack them."""

KNOWN_PARAMETERS = (
    *("batch_size", "device", "dtype", "k", "seed", "threads", "data", "repeats"),
    *TASK,
    *("classes", "width"),
    *("budget", "largest", "resolution", "attempt"),
)
WHOLE = ("batch_size", "k", "threads", "classes", "width", "budget")
"""Parameters that are whole numbers, if they are there."""

SETTING = ("environment", "device", "dtype", "threads", "seed", "other")
"""Columns that hold what measurements must share before any comparison makes sense."""


@dataclass(frozen=True)
class Source:
    """A file and the records in it."""

    path: Path
    records: list[Record]


@dataclass(frozen=True)
class Measurements:
    """What a report is made from.

    Attributes:
        frame: One row per measurement, as `to_frame` gives.
        environments: The distinct environments, in the order of their labels.
        sources: The files read.
    """

    frame: pd.DataFrame
    environments: list[Environment]
    sources: list[Source]


def load(paths: Sequence[Path]) -> Measurements:
    """Read files of records.

    Args:
        paths: Files, or folders that are searched recursively.

    Returns:
        The measurements.

    Raises:
        ReportError: There are no files, no records, or unusable ones.
        RecordError: A line is not a record.
    """
    sources = [_read(path) for path in find_files(paths)]
    records = latest([record for source in sources for record in source.records])
    if not records:
        files = ", ".join(str(source.path) for source in sources)
        raise ReportError(f"no records in {files}: empty. Make some with: {MAKE_RECORDS}")
    known = environments.distinct(records)
    return Measurements(to_frame(records, known), list(known.values()), sources)


def find_files(paths: Sequence[Path], required: bool = True) -> list[Path]:
    """Find files of records.

    Args:
        paths: Files, or folders that are searched recursively.
        required: Whether to insist on some.

    Returns:
        The files, each once.

    Raises:
        ReportError: There are none.
    """
    found: dict[Path, None] = {}
    for path in paths:
        files = sorted(path.rglob(f"*{SUFFIX}")) if path.is_dir() else [path]
        found |= {f.resolve(): None for f in files if f.is_file() and f.suffix != OTHER}
    missing = [str(path) for path in paths if not path.exists()]
    if missing and found:
        raise ReportError(f"no such file or folder: {', '.join(missing)}")
    if not found and required:
        searched = ", ".join(str(path) for path in paths)
        raise ReportError(
            f"no record files (*{SUFFIX}) found; searched: {searched}. "
            f"Make some with: {MAKE_RECORDS}"
        )
    return list(found)


def latest(records: Iterable[Record]) -> list[Record]:
    """One record per measurement and environment: the latest ok one, else the latest.

    Two records measure the same if they differ in nothing but the number of repeats and the time.

    Args:
        records: Records; of those without a time the later in this order counts as later.

    Returns:
        The chosen records.
    """
    chosen: dict[tuple[str, ...], tuple[tuple[bool, float], Record]] = {}
    for record in records:
        identity = (cell(record), record.method, record.quantity.value)
        time = environments.parse_time(record.time)
        merit = (record.status is Status.OK, time.timestamp() if time else -math.inf)
        if identity not in chosen or merit >= chosen[identity][0]:
            chosen[identity] = (merit, record)
    return [record for _, record in chosen.values()]


def cell(record: Record) -> str:
    """Identifies what may be divided by each other: equal in all but method and quantity.

    Args:
        record: The record.

    Returns:
        Environment, suite, problem and all parameters but the number of repeats.
    """
    parameters = {name: v for name, v in record.parameters.items() if name != "repeats"}
    identity = [environments.fingerprint(record), record.suite, record.problem, parameters]
    return json.dumps(identity, sort_keys=True)


def to_frame(records: Sequence[Record], known: dict[str, Environment]) -> pd.DataFrame:
    """Tabulate records.

    Args:
        records: The records, each measurement once.
        known: Fingerprint -> environment.

    Returns:
        One row per record in the order of the report. Besides the record's own fields: `value`
        (the median; NaN unless ok), the parameters as columns,
        `other` (parameters not known here), `cell`, and `setting`, which names what differs
        between groups of measurements that must not be compared.
    """
    frame = pd.DataFrame([_row(record, known) for record in records])
    frame = frame.astype(dict.fromkeys(WHOLE, "Int64"))
    order = sorted(range(len(frame)), key=lambda index: _order(frame.iloc[index]))
    frame = frame.iloc[order].reset_index(drop=True)
    return frame.assign(setting=_settings(frame))


def failures(frame: pd.DataFrame) -> pd.DataFrame:
    """What was tried and gave no result; a probe that runs out of memory is a result."""
    probed = frame["quantity"] == Quantity.PROBE.value
    fine = (frame["status"] == Status.OK.value) | (
        probed & (frame["status"] == Status.OUT_OF_MEMORY.value)
    )
    return frame[~fine]


def varying(frame: pd.DataFrame) -> list[str]:
    """Columns of the setting in which the comparable measurements differ."""
    compared = frame[frame["quantity"].isin(labels.KEPT_APART)]
    return [name for name in SETTING if compared[name].nunique(dropna=False) > 1]


def _read(path: Path) -> Source:
    try:
        records = RecordStore(path).read()
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"cannot read {path}: {error}") from error
    for number, record in enumerate(records, start=1):
        for name in ("parameters", "details", "environment"):
            if not isinstance(getattr(record, name), dict):
                raise ReportError(f"{path}, record {number}: expected {name} to be an object")
    return Source(path, records)


def _row(record: Record, known: dict[str, Environment]) -> dict[str, Any]:
    samples = _numbers(record.samples)
    status, reason = record.status.value, str(record.reason)
    if record.status is Status.OK and not samples:
        status, reason = Status.ERROR.value, "the record says ok but has no finite samples"
    parameters = record.parameters
    return {
        "suite": record.suite,
        "problem": record.problem,
        "method": record.method,
        "quantity": record.quantity.value,
        "status": status,
        "reason": reason,
        "samples": samples if status == Status.OK.value else [],
        "value": float(np.median(samples)) if status == Status.OK.value else math.nan,
        **{name: _integer(parameters.get(name)) for name in WHOLE},
        **{name: str(parameters.get(name) or default) for name, default in TASK.items()},
        "task": labels.task_label(record.suite, _integer(parameters.get("k")), parameters),
        "device": str(parameters.get("device") or ""),
        "dtype": str(parameters.get("dtype") or ""),
        "seed": str(parameters.get("seed", "")),
        "data": str(parameters.get("data") or ""),
        "other": ", ".join(
            f"{name} = {value}"
            for name, value in sorted(parameters.items())
            if name not in KNOWN_PARAMETERS
        ),
        "details": record.details,
        "environment": known[environments.fingerprint(record)].label,
        "cell": cell(record),
    }


def _numbers(samples: Any) -> list[float]:
    """The samples, or none at all if any is not a finite number."""
    if not isinstance(samples, list):
        return []
    usable = all(isinstance(s, (int, float)) and math.isfinite(s) for s in samples)
    return [float(sample) for sample in samples] if usable else []


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _order(row: pd.Series) -> tuple[Any, ...]:
    return (
        labels.rank(row["suite"], labels.SUITES),
        _natural(row["environment"]),
        row["device"],
        row["dtype"],
        labels.rank(row["problem"], labels.PROBLEMS)[0],
        _or_zero(row["classes"]),
        _or_zero(row["width"]),
        row["problem"],
        row["data"],
        _or_zero(row["batch_size"]),
        _or_zero(row["budget"]),
        labels.rank(row["computed"], labels.COMPUTED),
        _or_zero(row["k"]),
        *(row[name] != TASK[name] for name in ("approximation", "subset", "grouping")),
        _or_zero(row["threads"]),
        row["seed"],
        row["other"],
        labels.rank(row["method"], labels.METHODS),
    )


def _natural(label: str) -> int:
    return int(label.rsplit(" ", 1)[-1])


def _or_zero(value: Any) -> int:
    return 0 if pd.isna(value) else int(value)


def _settings(frame: pd.DataFrame) -> list[str]:
    names = varying(frame)
    return [", ".join(_setting_part(row, name) for name in names) for _, row in frame.iterrows()]


def _setting_part(row: pd.Series, name: str) -> str:
    value = "not recorded" if pd.isna(row[name]) or row[name] == "" else str(row[name])
    wording = {"threads": f"{value} threads", "seed": f"seed {value}"}
    return wording.get(name, value)
