"""Names that users write, and what may be meant by one that is not known."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Collection, Iterable
from enum import Enum
from typing import Any

NEAREST = 3
"""Names that are suggested at most."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Near matches of a name.

    Args:
        name: What is not known.
        choices: What there is.

    Returns:
        Such as ``": did you mean smoke?"``; empty if nothing is near.
    """
    by_lower = {choice.lower(): choice for choice in choices}
    wanted = name.lower()
    near = difflib.get_close_matches(wanted, by_lower, NEAREST)
    near += [lower for lower in by_lower if len(wanted) >= NEAREST and wanted in lower]
    found = [by_lower[lower] for lower in dict.fromkeys(near)][:NEAREST]
    return f": did you mean {' or '.join(found)}?" if found else ""


def unknown(kind: str, name: str, choices: Collection[str]) -> str:
    """What to say of a name that is not known.

    Args:
        kind: What it should name.
        name: What a user wrote.
        choices: What there is.

    Returns:
        The name, near matches and all choices.
    """
    guess = did_you_mean(name, choices) or "."
    return f"Unknown {kind} {name!r}{guess} Choose from: {', '.join(choices)}."


class Choice(str, Enum):
    """Values that users or files name."""

    @classmethod
    def _missing_(cls, value: object) -> None:
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", cls.__name__).lower()
        raise ValueError(unknown(kind, str(value), [x.value for x in cls]))


class Parser(argparse.ArgumentParser):
    """Suggests names, of options too; what begins with a minus and a digit is a value."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As `argparse.ArgumentParser`."""
        super().__init__(*args, **kwargs)
        self._negative_number_matcher = re.compile(r"-(\.?\d|inf)")  # "-1GiB" is no option

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what is not known here, where it is known what there is."""
        found, extras = super().parse_known_args(args, namespace)
        if extras:
            option = extras[0].partition("=")[0]
            guess = did_you_mean(option, self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(extras)}{guess}")
        return found, extras

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            kind = (action.dest or "name").replace("_", " ")
            raise argparse.ArgumentError(action, unknown(kind, str(value), [*action.choices]))
