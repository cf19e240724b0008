"""The machines that asv knows."""

from __future__ import annotations

from typing import Any

from reports.sections.base import Section, Term, Words
from reports.sources.sources import Sources


class Machines(Section):
    """What asv says of each machine."""

    name = "machines"
    title = "Machines"
    question = "On which machines was it measured?"

    def needs(self, sources: Sources) -> dict[str, dict[str, Any]]:
        """Machines by name."""
        return sources.results.machines

    def words(self, sources: Sources) -> list[Words]:
        """What is known of each."""
        return [
            Words(name, terms=tuple(_terms(facts)))
            for name, facts in sources.results.machines.items()
        ]


def _terms(facts: dict[str, Any]) -> list[Term]:
    ordered = sorted(facts.items(), key=lambda item: item[0].lower())
    return [Term(name, str(fact)) for name, fact in ordered if name != "machine" and fact]


SECTION = Machines()
