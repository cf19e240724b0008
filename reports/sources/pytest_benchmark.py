"""pytest-benchmark's saved runs -> frames, a row per benchmark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reports.errors import ReportError
from reports.sources.environments import SHORT_COMMIT

MARKS = ("benchmarks", "machine_info", "commit_info")
"""Keys by which a file of pytest-benchmark is told from other JSON."""

FACTS = ("problem", "data", "computed", "method", "N", "D", "columns", "relative_error")
"""What our suite tells of each benchmark."""


@dataclass(frozen=True)
class Run:
    """A saved run.

    Attributes:
        path: The file.
        time: When it was made, as the file says.
        commit: Abbreviated, with a mark if the tree had changes.
        frame: A row for each benchmark.
    """

    path: Path
    time: str
    commit: str
    frame: pd.DataFrame


def find_runs(paths: Sequence[Path]) -> list[Run]:
    """Find and read saved runs.

    Args:
        paths: Files, or folders that are searched recursively.

    Returns:
        The runs that have a benchmark, the latest first.

    Raises:
        ReportError: A file of pytest-benchmark is not understood.
    """
    files: dict[Path, None] = {}
    for path in paths:
        found = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        files |= {file.resolve(): None for file in found if file.suffix == ".json"}
    runs = [run for file in files if (run := _read(file)) is not None]
    return sorted((run for run in runs if len(run.frame)), key=lambda r: r.time, reverse=True)


def _read(path: Path) -> Run | None:
    """A run; None if the file is of something else."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ReportError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict) or not all(mark in content for mark in MARKS):
        return None
    try:
        commit = str(content["commit_info"].get("id") or "")[:SHORT_COMMIT] or "not recorded"
        changed = " with changes" if content["commit_info"].get("dirty") else ""
        time = str(content["datetime"])
        run = f"{time[:16].replace('T', ' ')}, {commit}{changed}"
        machine = content["machine_info"]
        cpu = str(machine.get("vivit", {}).get("cpu") or machine.get("processor") or "")
        rows = [_row(entry) for entry in content["benchmarks"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ReportError(
            f"{path} is not a file of vivit's pytest-benchmark suite: "
            f"{type(error).__name__}: {error}"
        ) from error
    frame = pd.DataFrame(rows).assign(run=run, commit=commit + changed, machine=cpu)
    return Run(path, time, commit + changed, frame)


def _row(entry: Mapping[str, Any]) -> dict[str, Any]:
    facts, stats = entry["extra_info"], entry["stats"]
    return {
        **{name: facts[name] for name in FACTS},
        "point": f"{facts['problem']} {facts['N']} {facts['computed']}",
        **{name: float(stats[name]) for name in ("median", "iqr", "min")},
        "rounds": int(stats["rounds"]),
    }
