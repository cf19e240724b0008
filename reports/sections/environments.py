"""Where the measurements were made: code, machine, versions, commands."""

from __future__ import annotations

from collections.abc import Iterable

from reports.sections.base import Section, Term, Words
from reports.sources.environments import Environment
from reports.sources.sources import Sources
from reports.words import units

NOT_RECORDED = "not recorded"


class Environments(Section):
    """The distinct environments."""

    name = "environments"
    title = "Environments"
    question = "Which code was measured, and on which machine?"

    def needs(self, sources: Sources) -> list[Environment]:
        """Environments of the records."""
        return sources.measurements.environments

    def words(self, sources: Sources) -> list[Words]:
        """All that is known of each."""
        return [
            Words(environment.label, terms=_terms(environment))
            for environment in self.needs(sources)
        ]


def machine_text(environment: Environment) -> str:
    """A machine in one line."""
    machine = environment.machine
    memory = machine.get("memory_bytes")
    cores = machine.get("cores")
    parts = [
        str(machine.get("cpu") or "CPU not recorded"),
        f"{cores} cores" if cores else "",
        f"{units.size(memory)} memory" if isinstance(memory, (int, float)) else "",
        str(machine.get("gpu") or "no GPU"),
        str(machine.get("os") or ""),
    ]
    return ", ".join(part for part in parts if part) if machine else "machine not recorded"


def dates_text(environments: Iterable[Environment]) -> str:
    """When measurements were made: a day, or the first and the last."""
    times = [time for e in environments for time in (e.first, e.last) if time]
    if not times:
        return "on an unrecorded date"
    first, last = (time.date().isoformat() for time in (min(times), max(times)))
    return f"on {first}" if first == last else f"from {first} to {last}"


def _terms(environment: Environment) -> tuple[Term, ...]:
    changed = ", with uncommitted changes" if environment.dirty else ""
    versions = sorted(environment.versions.items(), key=lambda item: item[0].lower())
    commands = [Term("Command", command, is_code=True) for command in environment.commands]
    return (
        Term("Commit", (environment.commit or NOT_RECORDED) + changed),
        Term("Machine", machine_text(environment)),
        Term("Versions", ", ".join(f"{name} {v}" for name, v in versions) or NOT_RECORDED),
        *(commands or [Term("Command", NOT_RECORDED)]),
        Term("Measurements", f"{environment.records}, made {dates_text([environment])}"),
    )


SECTION = Environments()
