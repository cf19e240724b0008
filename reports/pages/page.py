"""What a page is: a lead, and those of its sections that have something to say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.records.files import write
from reports.pages.formats import CSV, Format
from reports.pages.rendering import Drawing, draw, template
from reports.pages.sorting import LONG
from reports.sections.base import Section, Words
from reports.sources.sources import Sources
from reports.tables.table import Table


@dataclass(frozen=True)
class Page:
    """A page of the report.

    Attributes:
        file: Its name.
        title: Heading.
        link: What the navigation calls it.
        template: Extends the template of all pages by lead, warnings and footer.
        sections: Its sections, in their order.
        facts: What its template has to know of its part of the sources.
        part: What of all sources it is made from.
        lead: What it is about, where the template does not say so.
        opening: Names of sections that come before the warnings.
    """

    file: str
    title: str
    link: str
    template: str
    sections: tuple[Section, ...]
    facts: Callable[[Sources], dict[str, Any]]
    part: Callable[[Sources], Sources] = lambda sources: sources
    lead: str = ""
    opening: tuple[str, ...] = ()

    def is_about(self, sources: Sources) -> bool:
        """Whether a section has something to say of some sources."""
        own = self.part(sources)
        return any(len(section.needs(own)) for section in self.sections)

    def shown(self, sources: Sources) -> list[Section]:
        """Its sections that have something to say.

        Args:
            sources: Its part of all sources.

        Returns:
            The sections in their order.
        """
        return [section for section in self.sections if len(section.needs(sources))]

    def write(
        self,
        sources: Sources,
        folder: Path,
        pages: Sequence[Page],
        formats: Sequence[Format] = (CSV,),
    ) -> Path:
        """Write tables, figures and, last, the page.

        Args:
            sources: All that was found.
            folder: Where to write to.
            pages: All in the folder, itself among them, in the order of the navigation.
            formats: Of the files of each table.

        Returns:
            The page.
        """
        sources = self.part(sources)
        shown = self.shown(sources)
        contents = [Content.of(section, sources, folder, formats) for section in shown]
        html = self.render(sources, contents, pages, formats)
        write(folder / self.file, html.encode())
        return folder / self.file

    def render(
        self,
        sources: Sources,
        contents: Sequence[Content],
        pages: Sequence[Page],
        formats: Sequence[Format],
    ) -> str:
        """Render the page.

        Args:
            sources: What it is made from.
            contents: Its sections.
            pages: All in the folder.
            formats: Of the files of each table.

        Returns:
            HTML that needs no other file and no network.
        """
        places = {s.name: f"{page.file}#{s.name}" for page in pages for s in page.sections}
        places |= {section.name: f"#{section.name}" for section in self.sections}
        opening = sum(content.section.name in self.opening for content in contents)
        variables = self.facts(sources) | {"page": self, "pages": pages}
        tables = [table for content in contents for table in content.tables]
        variables |= {"places": places, "formats": formats}
        variables["has_long"] = any(len(table.shown) > LONG for table in tables)
        variables["opening"] = min(opening, len(contents) - 1)  # warnings are never left out
        return template(self.template).render(contents=contents, **variables)


@dataclass(frozen=True)
class Content:
    """A section made from sources; its tables and figures are in files, too."""

    section: Section
    words: tuple[Words, ...]
    tables: tuple[Table, ...]
    drawings: tuple[Drawing, ...]

    @classmethod
    def of(
        cls, section: Section, sources: Sources, folder: Path, formats: Sequence[Format]
    ) -> Content:
        """Make a section, and write the files that it links to.

        Args:
            section: The section.
            sources: What it is made from.
            folder: That of the page.
            formats: Of the files of each table.

        Returns:
            What the page shows of it.
        """
        tables = tuple(section.tables(sources))
        for table in tables:
            for kind in formats:
                write(folder / kind.path(table), kind.content(table))
        drawings = tuple(draw(plot, folder / "figures") for plot in section.figures(sources))
        return cls(section, tuple(section.words(sources)), tables, drawings)
