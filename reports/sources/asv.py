"""asv's result files -> one tidy frame, a row per benchmark, point and commit.

asv writes these files and its own tools read them; here they are only read. Their format (version
2 of results): rows are lists cut off after the last known entry, to be read by `result_columns`;
the values of a benchmark follow the product of its parameters; NaN stands for skipped, null for
failed.
"""

from __future__ import annotations

import ast
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.records.environment import git
from reports.errors import ReportError

INDEX = "benchmarks.json"
MACHINE = "machine.json"
VERSIONS = {"benchmarks": 2, "results": 2}
"""Of asv's files, that are understood here."""

OK, SKIPPED, FAILED = "ok", "skipped", "failed"


@dataclass(frozen=True)
class Results:
    """What asv measured.

    Attributes:
        frame: One row per benchmark, point, commit and machine: `machine`, `setting` (machine and
            environment of asv, which must agree where values are compared), `benchmark`, `kind`
            (asv's type), `unit`, `point`, `commit`, `date` (of the commit), `order` (of commits),
            `value`, `low` and `high` (ends of asv's interval of confidence of 99%, NaN if there is
            none), `outcome`.
        machines: By name, what asv says of them.
        sources: The files read.
    """

    frame: pd.DataFrame
    machines: dict[str, dict[str, Any]]
    sources: list[Path]


def find_folders(paths: Sequence[Path]) -> list[Path]:
    """Find folders of results.

    Args:
        paths: Folders that are searched recursively; files are passed over.

    Returns:
        Folders with an index of benchmarks, each once.
    """
    found = (index.parent.resolve() for p in paths if p.is_dir() for index in p.rglob(INDEX))
    return sorted(set(found))


def load(folders: Iterable[Path]) -> Results:
    """Read results.

    Args:
        folders: As `find_folders` gives them.

    Returns:
        The results; without any, an empty frame.

    Raises:
        ReportError: A file is not what asv writes.
    """
    rows: list[dict[str, Any]] = []
    machines: dict[str, dict[str, Any]] = {}
    sources: list[Path] = []
    for folder in folders:
        benchmarks = _read(folder / INDEX, VERSIONS["benchmarks"])
        for path in sorted(folder.glob("*/*.json")):
            machine = path.parent.name
            if path.name == MACHINE:
                machines[machine] = {k: v for k, v in _read(path).items() if k != "version"}
                continue
            result = _read(path, VERSIONS["results"])
            try:
                rows += _rows(result, benchmarks, machine)
            except (KeyError, TypeError, ValueError) as error:
                raise ReportError(
                    f"{path} is not a result file of asv: {type(error).__name__}: {error}"
                ) from error
            sources.append(path)
    return Results(_frame(rows), machines, sources)


def _read(path: Path, version: int | None = None) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ReportError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict):
        raise ReportError(f"{path}: expected a file of asv, got {type(content).__name__}")
    if version is not None and content.get("version") != version:
        raise ReportError(
            f"{path}: expected version {version} of asv's files, got {content.get('version')!r}"
        )
    return content


def _rows(
    result: Mapping[str, Any], benchmarks: Mapping[str, Any], machine: str
) -> Iterator[dict[str, Any]]:
    columns = result["result_columns"]
    for name, row in result["results"].items():
        entries = dict(zip(columns, row, strict=False))  # rows are cut off
        known = benchmarks.get(name)
        if not isinstance(known, dict) or entries.get("version") != known["version"]:
            continue  # of a benchmark that is gone, or measured otherwise today
        if len(entries.get("params") or []) != len(known["param_names"]):
            continue  # of other axes
        points = [*itertools.product(*(entries.get("params") or []))]
        values = _listed(entries["result"], len(points))
        lows = _listed(entries.get("stats_ci_99_a"), len(points))
        highs = _listed(entries.get("stats_ci_99_b"), len(points))
        for point, value, low, high in zip(points, values, lows, highs, strict=True):
            yield {
                "machine": machine,
                "setting": f"{machine} ({result['params'].get('cpu')}), {result['env_name']}",
                "benchmark": name,
                "kind": known["type"],
                "unit": known["unit"],
                "point": _point(known["param_names"], point),
                "commit": result["commit_hash"],
                "date": pd.Timestamp(result["date"], unit="ms", tz="UTC"),
                "value": _number(value),
                "low": _number(low),
                "high": _number(high),
                "outcome": _outcome(value),
            }


def _listed(values: object, count: int) -> list[Any]:
    """The values of all points; asv writes null where there is none."""
    if values is None:
        return [None] * count
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"expected {count} values, got {values!r}")
    return values


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan


def _outcome(value: object) -> str:
    if value is None:
        return FAILED
    return SKIPPED if math.isnan(_number(value)) else OK


def _point(names: Sequence[str], values: Sequence[str]) -> str:
    """Parameters and their values, for people: `problem digits_mlp, batch size 16 samples`."""
    return ", ".join(_named(n, _plain(v)) for n, v in zip(names, values, strict=True))


def _named(name: str, value: str) -> str:
    words, _, unit = name.partition(" [")
    unit = unit.rstrip("]")
    if words in ("problem", "variant", "grouping"):
        return value
    return f"{words} {value}" if unit in ("", "1") else f"{words} {value} {unit}"


def _plain(text: str) -> str:
    """A value from its representation, as asv keeps it."""
    try:
        return str(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        return text


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    names = ["machine", "setting", "benchmark", "kind", "unit", "point", "commit", "date"]
    frame = pd.DataFrame(rows, columns=[*names, "value", "low", "high", "outcome"])
    age = _ages(frame)
    frame["order"] = frame["commit"].map(age)
    columns = ["setting", "benchmark", "point", "order"]
    return frame.sort_values(columns, kind="stable").reset_index(drop=True)


def _ages(frame: pd.DataFrame) -> dict[str, int]:
    """The place of each commit: as in git's history where it is at hand, else by date.

    Dates have whole seconds, and those of rebased commits need not follow each other.
    """
    history = {commit: place for place, commit in enumerate(_history())}
    dates = frame.drop_duplicates("commit").sort_values(["date", "commit"], kind="stable")
    commits = [str(commit) for commit in dates["commit"]]
    if all(commit in history for commit in commits):
        commits.sort(key=history.__getitem__)
    return {commit: place for place, commit in enumerate(commits)}


def _history() -> list[str]:
    """All commits of the repository, parents first; none where there is no repository."""
    return (git("rev-list", "--topo-order", "--reverse", "--all") or "").split()
