"""What was seen at one step, and the line of JSON that says so."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from vivit.shown import Shown

SCHEMA = 1
"""Version of the fields below, and of the names in `Observation.quantities`."""


@dataclass(frozen=True, repr=False)
class Observation(Shown):
    """What was seen at one step.

    Attributes:
        step: Of the training.
        time: When it was made, ISO 8601 with time zone.
        elapsed: Seconds since the first call of the monitor.
        seconds: What the observation took.
        share: Of the time since the first call that observations took, this one among them.
        skipped: Observations since the one before that were due and left out, to stay within the
            budget.
        learning_rate: Of the step, if the monitor was told.
        quantities: By name: numbers, lists of numbers for the leading directions (the first of
            them first) or for all eigenvalues, and numbers by layer. None stands for what is not
            finite.
        error: Why something is lacking; empty if nothing is.
        schema: Version of these fields.
    """

    step: int
    time: str
    elapsed: float
    seconds: float
    share: float
    skipped: int
    learning_rate: float | None
    quantities: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    schema: int = SCHEMA

    @property
    def _parts(self) -> dict[str, str]:
        found = {"step": str(self.step), "seconds": f"{self.seconds:.3g}"}
        found |= {name: _short(value) for name, value in self.quantities.items()}
        return found | {"error": self.error} if self.error else found

    def to_json(self) -> str:
        """One line of JSON; floats that JSON lacks are refused."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Observation:
        """Parse one line.

        Args:
            line: What `to_json` gave.

        Returns:
            The observation.

        Raises:
            ValueError: The line is not an observation of this schema.
        """
        values = json.loads(line)
        if not isinstance(values, dict):
            raise ValueError(f"expected an object, got {type(values).__name__}")
        expected = [f.name for f in fields(cls)]
        if set(values) != set(expected):
            raise ValueError(f"expected the fields {expected}, got {sorted(values)}")
        if values["schema"] != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA}, got {values['schema']!r}")
        _check(values)
        return cls(**values)


def _short(value: Any) -> str:
    """A number, the range of some, or how many layers there are."""
    if isinstance(value, dict):
        return f"{len(value)} layers"
    if not isinstance(value, list):
        return "None" if value is None else f"{value:.3g}"
    numbers = [x for x in value if x is not None]
    span = f" from {min(numbers):.3g} to {max(numbers):.3g}" if numbers else ""
    return f"[{len(value)}]{span}"


def _check(values: dict[str, Any]) -> None:
    """Refuse values of another kind than those that are written."""
    step, quantities = values["step"], values["quantities"]
    if not isinstance(step, int) or isinstance(step, bool):
        raise ValueError(f"expected a whole number as step, got {step!r}")
    for name in ("elapsed", "seconds", "share", "skipped"):
        if not _is_number(values[name]) or values[name] is None:
            raise ValueError(f"expected a number as {name}, got {values[name]!r}")
    texts = all(isinstance(values[name], str) for name in ("time", "error"))
    if not texts or not _is_number(values["learning_rate"]) or not isinstance(quantities, dict):
        raise ValueError("time, error, learning_rate or quantities is of another kind")
    for name, value in quantities.items():
        parts = value if isinstance(value, list) else [value]
        parts = [*value.values()] if isinstance(value, dict) else parts
        if not all(map(_is_number, parts)):
            raise ValueError(f"expected numbers as {name}")


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
