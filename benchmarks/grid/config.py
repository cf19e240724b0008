"""A grid of one's own in a TOML file, read as a profile."""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.grid.config_keys import GRID, Key, comparison_keys, not_a_key, toml_value
from benchmarks.grid.profiles import PROFILES, Profile
from benchmarks.grid.suites import SUITES, Cell
from benchmarks.grid.toml_file import ConfigError, KeyPath, TomlFile
from benchmarks.measure.critical import Limits
from benchmarks.records.tasks import Approximation, Computed, Grouping, Subset, Task

COMPARISON = "comparison"
"""Name of the tables."""

DEFAULT = PROFILES["quick"]
"""Whose settings a file has where it says nothing."""

OF_LIMITS = {"largest": "largest", "resolution": "resolution", "budget_mode": "mode"}
"""Keys that only searches have, and the fields that they become."""


def read_config(path: Path) -> Profile:
    """Read a grid, and check all that can be checked without measuring.

    Args:
        path: The file.

    Returns:
        The grid as a profile with the name of the file.

    Raises:
        ConfigError: It cannot be read, or something in it is not what is expected.
    """
    file = TomlFile.read(path)
    tables = file.table.get(COMPARISON, [])
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        got = toml_value(tables)
        raise file.error((COMPARISON,), f"expected tables [[{COMPARISON}]], got {got}")
    if not tables:
        raise file.error((COMPARISON,), f"there is none; expected at least one [[{COMPARISON}]]")
    keys = comparison_keys(path.parent)
    below, above = f"below a [[{COMPARISON}]]", f"above the first [[{COMPARISON}]]"
    settings = {name: value for name, value in file.table.items() if name != COMPARISON}
    grid = _Table(file, (), GRID, settings).read(keys, below)
    cells: list[Cell] = []
    for number, table in enumerate(tables):
        cells += _cells(_Table(file, (COMPARISON, number), keys, table), above)
    return Profile(
        path.stem,
        grid.get("description", f"the grid of {path.name}"),
        tuple(cells),
        grid.get("repeats", DEFAULT.repeats),
        grid.get("timeout", DEFAULT.timeout),
        grid.get("patience", DEFAULT.patience),
        grid.get("threads", DEFAULT.threads),
    )


def default_computed(suite: str, has_k: bool) -> Computed:
    """What a comparison computes that does not say it.

    Args:
        suite: Name of its suite.
        has_k: Whether it gives a number of pairs.

    Returns:
        What the suite is about; if that differs, pairs where there is a number of them.
    """
    if (computed := SUITES[suite].computed) is not None:
        return computed
    return Computed.PAIRS if has_k else Computed.EIGENVALUES


@dataclass(frozen=True)
class _Table:
    """Keys and values of a file that belong together, and where."""

    file: TomlFile
    at: KeyPath
    keys: dict[str, Key]
    values: dict[str, Any]

    def error(self, key: str, message: str) -> ConfigError:
        return self.file.error((*self.at, key), message)

    def read(self, elsewhere: dict[str, Key], place: str) -> dict[str, Any]:
        """What the values stand for; other tables have other keys, at another place."""
        found = {}
        for name, value in self.values.items():
            if name not in self.keys:
                here = self.keys if self.at else [*self.keys, COMPARISON]
                raise self.error(name, not_a_key(name, here, elsewhere, place))
            try:
                found[name] = self.keys[name].read(value)
            except argparse.ArgumentTypeError as error:
                raise self.error(name, str(error)) from error
        return found


def _cells(table: _Table, above: str) -> list[Cell]:
    """The product of its lists."""
    found = table.read(GRID, above)
    for name in ("suite", "problem"):
        if name not in found:
            raise table.error(name, f"is missing; expected {table.keys[name].expected}")
    points = itertools.product(found["problem"], _sizes(table, found), _tasks(table, found))
    return [
        Cell(found["suite"], problem, batch_size, task, found.get("methods"), limits)
        for problem, (batch_size, limits), task in points
    ]


def _sizes(table: _Table, found: dict[str, Any]) -> list[tuple[int | None, Limits | None]]:
    """Batch sizes, or limits of the search for the critical one."""
    if "batch_size" in found and "budget" in found:
        raise table.error("budget", "expected either a batch_size or a budget, got both")
    if "batch_size" not in found and "budget" not in found:
        what = "a batch_size, or a budget to search the largest one with"
        raise table.error("batch_size", f"is missing; expected {what}")
    searched = {OF_LIMITS[name]: value for name, value in found.items() if name in OF_LIMITS}
    if "budget" in found:
        return [(None, Limits(budget, **searched)) for budget in found["budget"]]
    for name in OF_LIMITS:
        if name in found:
            raise table.error(name, "is of a search; expected a budget beside it, got batch_size")
    return [(size, None) for size in found["batch_size"]]


def _tasks(table: _Table, found: dict[str, Any]) -> list[Task]:
    computed = found.get("computed") or default_computed(found["suite"], "k" in found)
    variants = itertools.product(
        found.get("k", [None]),
        found.get("approximation", [Approximation.EXACT]),
        found.get("subset", [Subset.WHOLE]),
        found.get("grouping", [Grouping.NETWORK]),
    )
    try:
        return [Task(computed, *variant) for variant in variants]
    except ValueError as error:
        raise table.error("k", str(error)) from error
