"""A profile as a file that `read_config` reads, to start from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.grid.arguments import UNITS
from benchmarks.grid.config import COMPARISON, DEFAULT, OF_LIMITS, default_computed
from benchmarks.grid.config_keys import toml_value
from benchmarks.grid.profiles import Profile
from benchmarks.grid.suites import SUITES, Cell
from benchmarks.measure.critical import Limits
from benchmarks.records.tasks import Task

WIDTH = 99
"""Of a line; longer lists have one entry a line."""

AXES = ("grouping", "subset", "approximation", "k", "budget", "batch_size", "problem")
"""Keys that may be lists, in the order in which comparisons become one."""

SETTINGS = ("repeats", "timeout", "patience", "threads")

Entry = dict[str, Any]
"""Keys and values of a comparison; those of `AXES` are tuples."""


def config_text(profile: Profile) -> str:
    """Write a profile.

    Args:
        profile: What to write.

    Returns:
        TOML, from which `read_config` makes the same comparisons, in an order that takes few
        tables; what is as it would be anyway is left out.
    """
    file = f"{profile.name}.toml"
    lines = [
        f"# The grid of the profile {profile.name}, to be changed. Kept in a file, it is run by",
        f"#   python -m benchmarks run --config {file}",
        *_assignment("description", profile.description),
    ]
    for name in SETTINGS:
        if getattr(profile, name) != getattr(DEFAULT, name):
            lines += _assignment(name, getattr(profile, name))
    for entry in _joined([_entry(cell) for cell in profile.grid]):
        lines += ["", f"[[{COMPARISON}]]"]
        for name, value in _without_defaults(entry).items():
            is_single = name in AXES and len(value) == 1
            lines += _assignment(name, value[0] if is_single else value)
    return "\n".join(lines) + "\n"


def size_text(size: int) -> str:
    """Bytes as `size_in_bytes` reads them.

    Args:
        size: How many.

    Returns:
        A whole number of the largest unit that allows for it.
    """
    unit = max((unit for unit in UNITS if size % UNITS[unit] == 0), key=lambda unit: UNITS[unit])
    return f"{size // UNITS[unit]}{unit}"


def _entry(cell: Cell) -> Entry:
    """All that is said of a cell."""
    entry: Entry = {"suite": cell.suite, "problem": (cell.problem,)}
    if cell.methods not in (None, SUITES[cell.suite].methods_for(cell.task.computed)):
        entry["methods"] = cell.methods
    if cell.limits is None:
        entry["batch_size"] = (cell.batch_size,)
    else:
        entry["budget"] = (size_text(cell.limits.budget),)
        entry |= {key: getattr(cell.limits, name) for key, name in OF_LIMITS.items()}
        entry["budget_mode"] = cell.limits.mode.value
    task = cell.task.parameters
    entry["computed"] = task.pop("computed")
    return entry | {name: (value,) for name, value in task.items() if value is not None}


def _joined(entries: list[Entry]) -> list[Entry]:
    """Entries that differ in one list only become one with all of its values."""
    for axis in AXES:
        found: dict[tuple[Any, ...], Entry] = {}
        for entry in entries:
            same = tuple(item for item in entry.items() if item[0] != axis)
            if same not in found:
                found[same] = dict(entry)
            elif axis in entry:
                found[same][axis] = tuple(dict.fromkeys(found[same][axis] + entry[axis]))
        entries = [*found.values()]
    return entries


def _without_defaults(entry: Entry) -> Entry:
    plain: Entry = {name: (value,) for name, value in Task().parameters.items()}
    plain |= {key: getattr(Limits(1), name) for key, name in OF_LIMITS.items()}
    plain["computed"] = default_computed(entry["suite"], "k" in entry)
    return {name: x for name, x in entry.items() if name not in plain or x != plain[name]}


def _assignment(name: str, value: Any) -> Iterator[str]:
    line = f"{name} = {toml_value(value)}"
    if len(line) <= WIDTH or not isinstance(value, (list, tuple)):
        yield line
        return
    yield f"{name} = ["
    yield from (f"    {toml_value(x)}," for x in value)
    yield "]"
