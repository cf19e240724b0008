"""What a page is: a lead, and those of its sections that have something to say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.records.files import write
from reports.pages import files
from reports.pages.rendering import Drawing, draw, template
from reports.sections.base import Section, Words
from reports.sources.sources import Sources
from reports.tables.table import Table


@dataclass(frozen=True)
class Page:
    """A page of the report.

    Attributes:
        file: Its name.
        title: Heading.
        link: What other pages call it.
        template: Extends the template of all pages by lead, warnings and footer.
        sections: Its sections, in their order.
        is_about: Whether it has anything to show of some sources.
        facts: What its template has to know of its part of the sources.
        part: What of all sources it is made from.
    """

    file: str
    title: str
    link: str
    template: str
    sections: tuple[Section, ...]
    is_about: Callable[[Sources], bool]
    facts: Callable[[Sources], dict[str, Any]]
    part: Callable[[Sources], Sources] = lambda sources: sources

    def write(self, sources: Sources, folder: Path, others: Sequence[Page] = ()) -> Path:
        """Write tables, figures and, last, the page.

        Args:
            sources: All that was found.
            folder: Where to write to.
            others: Pages in the same folder to link to.

        Returns:
            The page.
        """
        sources = self.part(sources)
        contents = [
            Content.of(section, sources, folder)
            for section in self.sections
            if len(section.needs(sources))
        ]
        html = self.render(sources, contents, others)
        write(folder / self.file, html.encode())
        return folder / self.file

    def render(
        self, sources: Sources, contents: Sequence[Content], others: Sequence[Page] = ()
    ) -> str:
        """Render the page.

        Args:
            sources: What it is made from.
            contents: Its sections.
            others: Pages in the same folder to link to.

        Returns:
            HTML that needs no other file and no network.
        """
        facts = self.facts(sources)
        return template(self.template).render(page=self, contents=contents, others=others, **facts)


@dataclass(frozen=True)
class Content:
    """A section made from sources; its tables and figures are in files, too."""

    section: Section
    words: tuple[Words, ...]
    tables: tuple[Table, ...]
    drawings: tuple[Drawing, ...]

    @classmethod
    def of(cls, section: Section, sources: Sources, folder: Path) -> Content:
        """Make a section, and write the files that it links to.

        Args:
            section: The section.
            sources: What it is made from.
            folder: That of the page.

        Returns:
            What the page shows of it.
        """
        tables = tuple(section.tables(sources))
        for table in tables:
            write(folder / "csv" / f"{table.name}.csv", files.csv(table.csv))
        drawings = tuple(draw(plot, folder / "figures") for plot in section.figures(sources))
        return cls(section, tuple(section.words(sources)), tables, drawings)
