"""Where measurements come from: code, machine and versions.

Numbers of different environments must not be divided by each other, so an environment is part of
the identity of a measurement. The command is not: two commands on one machine are comparable.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from benchmarks.records.record import Record, identity

SHORT_COMMIT = 10


@dataclass(frozen=True)
class Environment:
    """One distinct state of the code, machine and set of versions.

    Attributes:
        label: Its name in the report.
        commit: The commit, abbreviated; all, if several have the same code; empty if none is
            recorded.
        dirty: Whether the code had changes.
        machine: Description of the machine, as recorded.
        versions: Versions of the software, as recorded.
        commands: The commands that made the records.
        first: Time of the first record; None if no record carries a time.
        last: Time of the last record.
        records: How many records stem from it.
    """

    label: str
    commit: str
    dirty: bool
    machine: dict[str, Any]
    versions: dict[str, Any]
    commands: tuple[str, ...]
    first: datetime | None
    last: datetime | None
    records: int


def fingerprint(record: Record) -> str:
    """Text that is equal for two records exactly if they share an environment.

    Args:
        record: The record.

    Returns:
        What identifies the environment, as canonical JSON.
    """
    return json.dumps(identity(record.environment), sort_keys=True)


def parse_time(text: str) -> datetime | None:
    """Parse the time of a record.

    Args:
        text: ISO 8601.

    Returns:
        The time, in the local time zone if the text names none; None if it is not a time.
    """
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone()
    except ValueError:
        return None


def distinct(records: Iterable[Record]) -> dict[str, Environment]:
    """The environments of some records, named in the order in which they were first used.

    Args:
        records: The records.

    Returns:
        Fingerprint -> environment.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(fingerprint(record), []).append(record)
    ordered = sorted(groups.items(), key=lambda item: _first_time(item[1]))
    return {
        key: _describe(f"environment {number}", group)
        for number, (key, group) in enumerate(ordered, start=1)
    }


def _first_time(records: Iterable[Record]) -> float:
    times = [time for record in records if (time := parse_time(record.time))]
    return min(times).timestamp() if times else float("inf")


def _describe(label: str, records: list[Record]) -> Environment:
    facts = records[0].environment
    times = sorted(time for record in records if (time := parse_time(record.time)))
    commits = {str(record.environment.get("commit") or "") for record in records}
    commands = {str(record.environment.get("command") or "") for record in records}
    return Environment(
        label=label,
        commit=", ".join(sorted(commit[:SHORT_COMMIT] for commit in commits - {""})),
        dirty=any(record.environment.get("dirty") for record in records),
        machine=_mapping(facts.get("machine")),
        versions=_mapping(facts.get("versions")),
        commands=tuple(sorted(commands - {""})),
        first=times[0] if times else None,
        last=times[-1] if times else None,
        records=len(records),
    )


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
