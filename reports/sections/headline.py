"""The answers of all sections, at the top of the page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from reports.sections.base import Section, Words
from reports.sources.sources import Sources


class Headline(Section):
    """What other sections say in short."""

    name = "headline"
    title = "Task by task"

    def __init__(self, sections: Iterable[Section], question: str) -> None:
        """Collect from sections.

        Args:
            sections: Of the same page.
            question: What they answer together.
        """
        self._sections, self.question = tuple(sections), question

    def needs(self, sources: Sources) -> list[Words]:
        """The answers of those sections that have something to say.

        Args:
            sources: All that was found.

        Returns:
            The answers, each with the section that it leads to.
        """
        return [
            replace(words, anchor=section.name)
            for section in self._sections
            if len(section.needs(sources))
            for words in section.answers(sources)
        ]

    def words(self, sources: Sources) -> list[Words]:
        """The answers."""
        return self.needs(sources)
