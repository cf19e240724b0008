"""Files of records -> the measurements that a report is made from."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from benchmarks.experiments import EXPERIMENTS
from benchmarks.records.record import Record, RecordStore, Status
from benchmarks.records.settings import FIELD
from reports.errors import ReportError
from reports.sources import environments
from reports.sources.environments import Environment
from reports.sources.frame import cell, to_frame
from reports.words.labels import REFERENCE

SUFFIX = ".jsonl"
OTHER = ".json"
"""Of pytest-benchmark's files, which are read elsewhere."""

MAKE_RECORDS = "python -m benchmarks run --profile quick"


@dataclass(frozen=True)
class Source:
    """A file and the records in it."""

    path: Path
    records: list[Record]

    @property
    def halves(self) -> tuple[Source, Source]:
        """Records that compare methods, and those of experiments.

        References belong to experiments if anything in the same file does.
        """
        suites = {record.suite for record in self.records}
        of_experiments = suites & {*EXPERIMENTS}
        if of_experiments:
            of_experiments.add(REFERENCE)
        belong = [record.suite in of_experiments for record in self.records]
        compared = [r for r, of_one in zip(self.records, belong, strict=True) if not of_one]
        repeated = [r for r, of_one in zip(self.records, belong, strict=True) if of_one]
        return Source(self.path, compared), Source(self.path, repeated)


@dataclass(frozen=True)
class Measurements:
    """Records that are shown together; by default none.

    Attributes:
        frame: One row per measurement, as `to_frame` gives.
        environments: The distinct environments, in the order of their labels.
        sources: The files read.
        left_out: Number of records that belong to other runs of the same experiments.
    """

    frame: pd.DataFrame = field(default_factory=lambda: to_frame([], {}))
    environments: list[Environment] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    left_out: int = 0

    @classmethod
    def of(cls, sources: Iterable[Source]) -> Measurements:
        """Tabulate records.

        Args:
            sources: Files with those of their records that are shown.

        Returns:
            Each measurement once.
        """
        kept = [source for source in sources if source.records]
        records = latest([record for source in kept for record in source.records])
        known = environments.distinct(records)
        return cls(to_frame(records, known), [*known.values()], kept)


def load(paths: Sequence[Path]) -> tuple[Measurements, Measurements]:
    """Read files of records.

    Args:
        paths: Files, or folders that are searched recursively.

    Returns:
        The measurements that compare methods, and those that belong to published experiments;
        one of them may be empty.

    Raises:
        ReportError: There are no files, no records, or unusable ones.
        RecordError: A line is not a record.
    """
    sources = [read(path) for path in find_files(paths)]
    if not any(source.records for source in sources):
        files = ", ".join(str(source.path) for source in sources)
        raise ReportError(f"no records in {files}: empty. Make some with: {MAKE_RECORDS}")
    compared, repeated = zip(*(source.halves for source in sources), strict=True)
    chosen = one_run_each(repeated)
    left_out = sum(len(source.records) for source in repeated)
    left_out -= sum(len(source.records) for source in chosen)
    return Measurements.of(compared), replace(Measurements.of(chosen), left_out=left_out)


def one_run_each(sources: Sequence[Source]) -> list[Source]:
    """Of each experiment the run with the most results, of equal ones the latest.

    A run is what one code on one machine and device, with one seed, left in one file: figures of
    several would be mixed. On each problem it has one kind of data.

    Args:
        sources: Files with records of experiments.

    Returns:
        The same files with the records of these runs, and their references.
    """
    runs: dict[str, dict[Run, list[Record]]] = {}
    for source in sources:
        for record in source.records:
            runs.setdefault(record.suite, {}).setdefault(_run(source, record), []).append(record)
    of_references = runs.pop(REFERENCE, {})
    kept: dict[Path, list[Record]] = {source.path: [] for source in sources}
    for suite in runs.values():
        run = max(suite, key=lambda run: (_results(suite[run]), suite[run][-1].time))
        kept[run[0]] += [*_of_one_kind(suite[run]), *of_references.pop(run, [])]
    return [Source(path, records) for path, records in kept.items()]


Run = tuple[Path, str, str]


def _run(source: Source, record: Record) -> Run:
    """What tells a run from others: file, code and machine, device and seed."""
    parameters = record.parameters
    setting = [parameters.get(name) for name in ("device", "seed")]
    return source.path, environments.fingerprint(record), json.dumps(setting)


def _results(records: Iterable[Record]) -> int:
    """Number of cells that have one."""
    return len({record.key for record in records if record.status is Status.OK})


def _of_one_kind(records: Sequence[Record]) -> list[Record]:
    """Those of the most frequent data, threads and content of each problem."""
    kinds: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        kind = json.dumps([record.parameters.get(name) for name in ("data", "threads", "source")])
        kinds.setdefault(record.problem, {}).setdefault(kind, []).append(record)
    return [x for kind in kinds.values() for x in max(kind.values(), key=_results)]


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


def latest(records: Iterable[Record], within: Callable[[Record], str] = cell) -> list[Record]:
    """One record per measurement and environment: the latest ok one, else the latest.

    Two records measure the same if they differ in nothing but the number of repeats and the time.

    Args:
        records: Records; of those without a time the later in this order counts as later.
        within: What else measurements have in common that are the same, beside method and
            quantity; by default environment, suite, problem and parameters.

    Returns:
        The chosen records.
    """
    chosen: dict[tuple[str, ...], tuple[tuple[bool, float], Record]] = {}
    for record in records:
        identity = (within(record), record.text, record.quantity.value)
        time = environments.parse_time(record.time)
        merit = (record.status is Status.OK, time.timestamp() if time else -math.inf)
        if identity not in chosen or merit >= chosen[identity][0]:
            chosen[identity] = (merit, record)
    return [record for _, record in chosen.values()]


def read(path: Path) -> Source:
    """Read a file.

    Args:
        path: The file.

    Returns:
        The file and its records.

    Raises:
        ReportError: It cannot be read, or a part of a record is not what it should be.
        RecordError: A line is not a record.
    """
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
