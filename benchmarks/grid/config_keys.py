"""The keys of a grid in a file: what each may hold, and what is said of anything else."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.grid import arguments as types
from benchmarks.grid.suites import SUITES
from benchmarks.measure.critical import BudgetMode
from benchmarks.problems.own import SEPARATOR
from benchmarks.records.names import Choice, unknown
from benchmarks.records.tasks import Approximation, Computed, Grouping, Subset


@dataclass(frozen=True)
class Key:
    """What a key may hold.

    Attributes:
        expected: In words.
        types: Of the value in TOML; a bool is no number.
        parse: The value, or an ArgumentTypeError that says what is wrong with it.
        allows: Whether a value of that type is in range.
        one: Whether it may be a single value.
        many: Whether it may be a list of values, of which each is measured.
    """

    expected: str
    types: tuple[type, ...] = (str,)
    parse: Callable[[Any], Any] = lambda value: value
    allows: Callable[[Any], bool] = lambda value: True
    one: bool = True
    many: bool = False

    def read(self, value: Any) -> Any:
        """Check a value.

        Args:
            value: As TOML has it.

        Returns:
            What it stands for; a tuple, even of one, if there may be several.

        Raises:
            ArgumentTypeError: It is something else than expected.
        """
        is_list = isinstance(value, list)
        if is_list != self.many and (is_list or not self.one):
            raise self._refusal(value)
        values = value if is_list else [value]
        if not values or not all(type(x) in self.types and self.allows(x) for x in values):
            raise self._refusal(value)
        parsed = tuple(map(self.parse, values))
        if len(set(parsed)) < len(parsed):
            raise argparse.ArgumentTypeError(f"expected each once, got {toml_value(value)}")
        return parsed if self.many else parsed[0]

    def _refusal(self, value: Any) -> argparse.ArgumentTypeError:
        several = " or a list of them" if self.many and self.one else ""
        got = toml_value(value)
        return argparse.ArgumentTypeError(f"expected {self.expected}{several}, got {got}")


def toml_value(value: Any) -> str:
    """A value as TOML.

    Args:
        value: A text, number or bool, or a list of those; others are only told what they are.

    Returns:
        In one line.
    """
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "a table"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _positive(many: bool = False) -> Key:
    return Key("a positive whole number", (int,), allows=lambda n: n > 0, many=many)


def _choice(kind: type[Choice], many: bool = False) -> Key:
    return Key(f"one of {', '.join(x.value for x in kind)}", parse=types.choice(kind), many=many)


def _suite(name: str) -> str:
    if name not in SUITES:
        raise argparse.ArgumentTypeError(unknown("suite", name, SUITES))
    return name


GRID = {
    "description": Key("a text"),
    "repeats": _positive(),
    "timeout": Key(
        "a positive number of seconds", (int, float), allows=lambda x: 0 < x < math.inf
    ),
    "patience": Key(
        "a number of seconds, 0 or more", (int, float), allows=lambda x: 0 <= x < math.inf
    ),
    "threads": _positive(),
}
"""Of the whole grid."""


def comparison_keys(folder: Path) -> dict[str, Key]:
    """Those of a comparison.

    Args:
        folder: From which paths of a user's own problems start.

    Returns:
        Keys by name, in the order in which people read them.
    """

    def problem(name: str) -> str:
        return types.problem(str(folder / name) if SEPARATOR in name else name)

    return {
        "suite": Key("the name of a suite", parse=_suite),
        "problem": Key(
            "the name of a problem or path/to/file.py:function", parse=problem, many=True
        ),
        "methods": Key(
            'a list of methods such as ["gram", "lanczos:tolerance=1e-6"]',
            parse=types.method,
            one=False,
            many=True,
        ),
        "batch_size": _positive(many=True),
        "budget": Key('a size such as "4GiB"', parse=types.size_in_bytes, many=True),
        "largest": _positive(),
        "resolution": Key("a number from 0 to below 1", (int, float), allows=lambda x: 0 <= x < 1),
        "budget_mode": _choice(BudgetMode),
        "computed": _choice(Computed),
        "k": _positive(many=True),
        "approximation": _choice(Approximation, many=True),
        "subset": _choice(Subset, many=True),
        "grouping": _choice(Grouping, many=True),
    }


def not_a_key(name: str, here: Collection[str], elsewhere: Collection[str], place: str) -> str:
    """What to say of a key that is not known.

    Args:
        name: What a user wrote.
        here: Keys of the table that it is in.
        elsewhere: Those of the other kind of table.
        place: Where the other ones stand.

    Returns:
        A sentence, with near matches.
    """
    if name in elsewhere:
        return f"stands in the wrong place: it belongs {place}."
    return unknown("key", name, here)
