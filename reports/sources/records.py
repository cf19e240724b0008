"""Files of records -> the measurements that a report is made from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from benchmarks.records.record import Record, RecordStore, Status
from benchmarks.records.settings import FIELD
from reports.errors import ReportError
from reports.sources import environments
from reports.sources.environments import Environment
from reports.sources.frame import cell, to_frame

SUFFIX = ".jsonl"
OTHER = ".json"
"""Of pytest-benchmark's files, which are read elsewhere."""

MAKE_RECORDS = "python -m benchmarks run --profile quick"


@dataclass(frozen=True)
class Source:
    """A file and the records in it."""

    path: Path
    records: list[Record]


@dataclass(frozen=True)
class Measurements:
    """Records that were read; by default none.

    Attributes:
        frame: One row per measurement, as `to_frame` gives.
        environments: The distinct environments, in the order of their labels.
        sources: The files read.
    """

    frame: pd.DataFrame = field(default_factory=lambda: to_frame([], {}))
    environments: list[Environment] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)


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
        identity = (cell(record), record.text, record.quantity.value)
        time = environments.parse_time(record.time)
        merit = (record.status is Status.OK, time.timestamp() if time else -math.inf)
        if identity not in chosen or merit >= chosen[identity][0]:
            chosen[identity] = (merit, record)
    return [record for _, record in chosen.values()]


def _read(path: Path) -> Source:
    try:
        records = RecordStore(path).read()
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"cannot read {path}: {error}") from error
    for number, record in enumerate(records, start=1):
        for name in ("parameters", "details", "environment"):
            if not isinstance(getattr(record, name), dict):
                raise ReportError(f"{path}, record {number}: expected {name} to be an object")
        if not isinstance(record.parameters.get(FIELD, {}), dict):
            raise ReportError(f"{path}, record {number}: expected {FIELD} to be an object")
    return Source(path, records)
