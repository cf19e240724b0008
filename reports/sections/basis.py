"""What the report rests on, in short: machines, dates and commits."""

from __future__ import annotations

from reports.sections.base import Section, Term, Words
from reports.sources.environments import Environment
from reports.sources.sources import Sources

CAPTION = "machine and code, named by processor, date and commit; times depend on both."


class Basis(Section):
    """Each environment, and how much was measured in it."""

    name = "basis"
    title = "Where this was measured"
    question = "On which machine, when, and with which code?"

    def needs(self, sources: Sources) -> list[Environment]:
        """Environments of the records."""
        return sources.measurements.environments

    def words(self, sources: Sources) -> list[Words]:
        """A line for each."""
        terms = tuple(
            Term(environment.label, f"{environment.records} measurements")
            for environment in self.needs(sources)
        )
        return [Words(caption=CAPTION, terms=terms)]


SECTION = Basis()
