"""A TOML file, and the lines on which its keys stand, which no reader of TOML tells."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    from tomllib import loads
else:
    from tomli import loads

KeyPath = tuple[str | int, ...]
"""Names of nested keys; the position of a table among those of its name, behind it."""


class ConfigError(ValueError):
    """A file with a grid that cannot be used; the message names the file, the line and the key."""


@dataclass(frozen=True)
class TomlFile:
    """What a file holds.

    Attributes:
        path: Where it is.
        table: Its content.
        lines: Of each key and table, counted from 1.
    """

    path: Path
    table: dict[str, Any]
    lines: dict[KeyPath, int]

    @classmethod
    def read(cls, path: Path) -> TomlFile:
        """Read a file.

        Args:
            path: Where it is.

        Returns:
            What it holds.

        Raises:
            ConfigError: It cannot be read, or is not TOML.
        """
        try:
            text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise ConfigError(f"{path}, line {line}: expected text in UTF-8.") from error
        try:
            return cls(path, loads(text), key_lines(text))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}, {_where_and_what(str(error), text)}.") from error

    def error(self, at: KeyPath, message: str) -> ConfigError:
        """What to raise for a key.

        Args:
            at: The key; one that is missing stands where its table begins.
            message: What was expected, and what was got.

        Returns:
            The error.
        """
        known = next(at[:n] for n in range(len(at), -1, -1) if at[:n] in self.lines)
        return ConfigError(f"{self.path}, line {self.lines[known]}, {at[-1]}: {message}")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Where keys and tables begin.

    Args:
        text: Valid TOML.

    Returns:
        Lines, counted from 1; that of the file itself is 1.
    """
    lines: dict[KeyPath, int] = {(): 1}
    seen: Counter[KeyPath] = Counter()
    table: KeyPath = ()
    for number, is_header, parsed in _statements(text):
        if is_header:
            table = _table(parsed, seen)
        found = [table[:n] for n in range(1, len(table) + 1)] if is_header else [*_keys(parsed)]
        for path in found:
            lines.setdefault(path if is_header else table + path, number)
    return lines


def _statements(text: str) -> Iterator[tuple[int, bool, dict[str, Any]]]:
    """First line of each header and ``key = value``, which of them it is, and what it says alone.

    A statement ends with the first line with which it can be read: what is open at the end of a
    line, a list or a text of several lines, is no TOML by itself. One without an end says nothing.
    """
    pending, start = "", 0
    for number, line in enumerate(text.split("\n"), start=1):
        start = start if pending else number
        pending += line + "\n"
        try:
            parsed = loads(pending)
        except ValueError:
            continue
        if parsed:
            yield start, pending.lstrip().startswith("["), parsed
        pending = ""
    if pending:
        yield start, False, {}


def _table(header: dict[str, Any], seen: Counter[KeyPath]) -> KeyPath:
    """The table that a header begins; `seen` counts those of each name."""
    path: KeyPath = ()
    inner: Any = header
    while inner:
        ((name, inner),) = inner.items()
        path += (name,)
        if isinstance(inner, list):
            seen[path] += 1
            inner = inner[0]
        if seen[path]:
            path += (seen[path] - 1,)
    return path


def _keys(parsed: dict[str, Any]) -> Iterator[KeyPath]:
    for name, value in parsed.items():
        yield (name,)
        if isinstance(value, dict):
            yield from ((name, *path) for path in _keys(value))


def _where_and_what(message: str, text: str) -> str:
    """The message of a reader of TOML, its line in front."""
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    if found:
        return f"line {found[2]}, column {found[3]}: {found[1]}"
    what, at_end, _ = message.partition(" (at end of document)")
    if not at_end:
        return what
    without_end = [start for start, _, parsed in _statements(text) if not parsed]
    line = [*without_end, text.rstrip().count("\n") + 1][0]
    return f"line {line}: {what}"
