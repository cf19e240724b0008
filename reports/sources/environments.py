"""Where measurements come from: code, machine and versions.

Numbers of different environments must not be divided by each other, so an environment is part of
the identity of a measurement. The command is not: two commands on one machine are comparable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from benchmarks.records.record import Record, identity

SHORT_COMMIT = 10
NAMED_COMMIT = 7
"""Letters of a commit in the name of an environment."""

CLUTTER = re.compile(r"\(R\)|\(TM\)|@.*|\bCPU\b(?=.*@)|\d+-Core|\bProcessor\b")
"""What vendors add to the name of a processor."""

UNRECORDED = "machine not recorded"


@dataclass(frozen=True)
class Environment:
    """One distinct state of the code, machine and set of versions.

    Attributes:
        label: Its name in the report, unlike that of any other: processor, date and commit.
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
    described = [_describe(group) for _, group in ordered]
    return dict(zip((key for key, _ in ordered), _told_apart(described), strict=True))


def _told_apart(environments: list[Environment]) -> list[Environment]:
    """Names with what differs, where several would be the same; at last with a number."""
    alike: dict[str, list[Environment]] = {}
    for environment in environments:
        alike.setdefault(environment.label, []).append(environment)
    longer = []
    for environment in environments:
        rivals = alike[environment.label]
        facts = _facts(environment)
        others = [_facts(rival) for rival in rivals]
        differing = [fact for fact in facts if any(fact not in other for other in others)]
        longer.append(", ".join([environment.label, *differing]))
    return [
        replace(environment, label=label + _number(longer, position))
        for position, (environment, label) in enumerate(zip(environments, longer, strict=True))
    ]


def _facts(environment: Environment) -> list[str]:
    """What may tell environments apart, in words."""
    machine, versions = environment.machine.copy(), environment.versions
    machine.pop("cpu", None)
    return [
        "uncommitted changes" if environment.dirty else "no changes",
        *(
            f"{name.replace('_', ' ')} {fact}"
            for name, fact in sorted(machine.items())
            if name != "cpu"
        ),
        *(f"{name} {version}" for name, version in sorted(versions.items())),
    ]


def _number(labels: list[str], position: int) -> str:
    """Nothing where a label is the only one of its kind, else its place among equal ones."""
    label = labels[position]
    return f" ({labels[: position + 1].count(label)})" if labels.count(label) > 1 else ""


def _first_time(records: Iterable[Record]) -> float:
    times = [time for record in records if (time := parse_time(record.time))]
    return min(times).timestamp() if times else float("inf")


def _describe(records: list[Record]) -> Environment:
    facts = records[0].environment
    times = sorted(time for record in records if (time := parse_time(record.time)))
    commits = {str(record.environment.get("commit") or "") for record in records}
    commands = {str(record.environment.get("command") or "") for record in records}
    machine = _mapping(facts.get("machine"))
    return Environment(
        label=", ".join(part for part in (processor(machine), *_when(times, commits)) if part),
        commit=", ".join(sorted(commit[:SHORT_COMMIT] for commit in commits - {""})),
        dirty=any(record.environment.get("dirty") for record in records),
        machine=machine,
        versions=_mapping(facts.get("versions")),
        commands=tuple(sorted(commands - {""})),
        first=times[0] if times else None,
        last=times[-1] if times else None,
        records=len(records),
    )


def processor(machine: dict[str, Any]) -> str:
    """A processor, and a GPU, without what vendors add to their names.

    Args:
        machine: As records have it.

    Returns:
        Their names.
    """
    names = [str(machine[name]) for name in ("cpu", "gpu") if machine.get(name)]
    return ", ".join(" ".join(CLUTTER.sub(" ", name).split()) for name in names) or UNRECORDED


def _when(times: list[datetime], commits: set[str]) -> tuple[str, str]:
    """The first day, and the commit; of several with the same code the first."""
    day = times[0].date().isoformat() if times else ""
    return day, min((commit[:NAMED_COMMIT] for commit in commits - {""}), default="")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
