"""What a section is: a question, and what was measured to answer it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence, Sized
from dataclasses import dataclass

from reports.figures.plot import Plot
from reports.sources.sources import Sources
from reports.tables.table import Table


@dataclass(frozen=True)
class Term:
    """A name and what it means.

    Attributes:
        name: The name.
        description: What it means; may be empty.
        is_code: Whether the description is to be typed as it is.
    """

    name: str
    description: str
    is_code: bool = False


@dataclass(frozen=True)
class Words:
    """Something said in words, in this order.

    Attributes:
        title: Heading; may be empty.
        caption: How to read it; may be empty.
        points: Sentences in a list.
        terms: Names and what they mean.
        anchor: The section that the heading leads to; may be empty.
    """

    title: str = ""
    caption: str = ""
    points: tuple[str, ...] = ()
    terms: tuple[Term, ...] = ()
    anchor: str = ""


class Section(ABC):
    """What a reader sees under one heading.

    Attributes:
        name: Its anchor, unique on a page.
        title: Heading.
        question: What it answers, in a short sentence.
        suites: Suites of the harness that are its own; those of no section share another one.
        are_side_by_side: Whether its figures are small enough to stand beside each other.
    """

    name: str
    title: str
    question: str
    suites: tuple[str, ...] = ()
    are_side_by_side: bool = False

    @abstractmethod
    def needs(self, sources: Sources) -> Sized:
        """What it is made from.

        Args:
            sources: All that was found.

        Returns:
            Its part of them; where that is empty, the section is left out.
        """

    def answers(self, sources: Sources) -> Sequence[Words]:
        """The answer in short, for the top of the page.

        Args:
            sources: All that was found.

        Returns:
            A few sentences for each setting; maybe none.
        """
        return ()

    def words(self, sources: Sources) -> Sequence[Words]:
        """What is said before the tables.

        Args:
            sources: All that was found.

        Returns:
            Paragraphs, lists and terms; maybe none.
        """
        return ()

    def tables(self, sources: Sources) -> Sequence[Table]:
        """The tables, each of which is a CSV file, too.

        Args:
            sources: All that was found.

        Returns:
            The tables in their order; maybe none.
        """
        return ()

    def figures(self, sources: Sources) -> Sequence[Plot]:
        """The figures, each of which is a file, too.

        Args:
            sources: All that was found.

        Returns:
            The figures in their order; maybe none.
        """
        return ()
