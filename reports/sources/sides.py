"""Two sides to compare: files of records, or the records of two commits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmarks.records.record import Quantity, Record, Status
from reports.errors import ReportError
from reports.sources import environments
from reports.sources.environments import SHORT_COMMIT, Environment
from reports.sources.frame import situation, to_frame
from reports.sources.records import find_files, latest, read

COMMIT = re.compile(r"[0-9a-f]{4,40}")
KNOWN = 8
"""How many commits a message names."""

QUANTITIES = (Quantity.TIME, Quantity.MEMORY, Quantity.ACCURACY, Quantity.CRITICAL)
"""In the order of the table."""

NAMES = {"text": "method"}
"""Of fields of a record, where people call them otherwise."""

SAME = ["situation", "method", "quantity"]
"""What the same measurement of both sides shares."""


@dataclass(frozen=True)
class Side:
    """One of two sides.

    Attributes:
        name: As the reader has written it.
        records: Each measurement once, the latest successful one.
    """

    name: str
    records: list[Record]

    @classmethod
    def find(cls, name: str, inputs: Sequence[Path]) -> Side:
        """Find the records of a side.

        Args:
            name: A file or folder of records, or the beginning of a commit.
            inputs: Files or folders with the records of commits.

        Returns:
            The side, with at least one record.

        Raises:
            ReportError: There is nothing of that name.
            RecordError: A line is not a record.
        """
        paths = [Path(name)] if Path(name).exists() else inputs
        records = [record for path in find_files(paths) for record in read(path).records]
        if not Path(name).exists():
            records = _of_commit(name, records, inputs)
        if not records:
            raise ReportError(f"no records in {name}: empty")
        return cls(name, latest(records, situation))

    @property
    def known(self) -> dict[str, Environment]:
        """Its environments."""
        return environments.distinct(self.records)

    @property
    def frame(self) -> pd.DataFrame:
        """Its measurements that can be compared."""
        names = [quantity.value for quantity in QUANTITIES]
        rows = to_frame(self.records, self.known)
        return rows[rows["quantity"].isin(names)]


def pairs(a: Side, b: Side) -> pd.DataFrame:
    """The same measurements of both sides.

    Args:
        a: What to compare with.
        b: What is compared.

    Returns:
        One row per measurement that both have and at least one of them has a result of:
        the columns of A; `value_b`, `samples_b`, `status_b` and `reason_b` of B.

    Raises:
        ReportError: Nothing is common to both.
    """
    own = ["value", "samples", "status", "reason"]
    rows = a.frame.merge(b.frame[[*SAME, *own]], on=SAME, suffixes=("", "_b"))
    done = (rows["status"] == Status.OK.value) | (rows["status_b"] == Status.OK.value)
    if not done.any():
        raise ReportError(
            f"{a.name} and {b.name} have no measurement in common. "
            f"{_differences(a, b)} Expected the same suites, problems, methods and parameters."
        )
    return rows[done].reset_index(drop=True)


def _of_commit(name: str, records: list[Record], inputs: Sequence[Path]) -> list[Record]:
    commits = {str(record.environment.get("commit") or "") for record in records} - {""}
    if COMMIT.fullmatch(name) and any(commit.startswith(name) for commit in commits):
        return [r for r in records if str(r.environment.get("commit") or "").startswith(name)]
    some = sorted(commit[:SHORT_COMMIT] for commit in commits)
    more = ", ..." if len(some) > KNOWN else ""
    raise ReportError(
        "expected a file or folder of records, or at least four letters of a commit in the "
        f"records of {', '.join(map(str, inputs))}, got {name!r}; commits there: "
        f"{', '.join(some[:KNOWN]) or 'none'}{more}"
    )


def _differences(a: Side, b: Side) -> str:
    """What no record that can be compared shares with any of the other side."""
    found = []
    records = [[r for r in side.records if r.quantity in QUANTITIES] for side in (a, b)]
    for what in ("suite", "problem", "text", "quantity"):
        ours, theirs = ({_field(r, what) for r in own} for own in records)
        if not ours & theirs:
            found.append(_apart(NAMES.get(what, what), ours, theirs))
    names = {name for own in records for record in own for name in record.parameters}
    for name in sorted(names - {"repeats"}):
        values = [{_value(r, name) for r in own} for own in records]
        if not values[0] & values[1]:
            found.append(_apart(name, *values))
    return f"They differ in {'; '.join(found)}." if found else "No single parameter tells why."


def _field(record: Record, name: str) -> str:
    value = getattr(record, name)
    return value.value if isinstance(value, Quantity) else str(value)


def _value(record: Record, name: str) -> str:
    return str(record.parameters.get(name, "not recorded"))


def _apart(name: str, ours: set[str], theirs: set[str]) -> str:
    return f"{name} ({', '.join(sorted(ours))} against {', '.join(sorted(theirs))})"
