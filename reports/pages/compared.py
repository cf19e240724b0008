"""The page that sets two machines, or two commits, beside each other."""

from __future__ import annotations

from typing import Any

from reports.pages.page import Page
from reports.sections.compared import Compared
from reports.sources.sources import Sources


def compared_page(compared: Compared) -> Page:
    """A page of two sides.

    Args:
        compared: The only section of it.

    Returns:
        The page, which needs no sources.
    """

    def facts(sources: Sources) -> dict[str, Any]:
        sides = {"A": compared.a, "B": compared.b}
        return {"sides": [(name, side.name, side.known.values()) for name, side in sides.items()]}

    return Page(
        file="compared.html",
        title="Two sides compared",
        link="Comparison",
        template="compared.html.j2",
        sections=(compared,),
        facts=facts,
    )
