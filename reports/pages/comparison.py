"""The page that compares methods, from records of the harness."""

from __future__ import annotations

from typing import Any

from benchmarks.records.record import Quantity
from reports import sections
from reports.pages.page import Page
from reports.sections.environments import dates_text, machine_text
from reports.sources.frame import failures
from reports.sources.sources import Sources

HEADED = [quantity.value for quantity in (Quantity.TIME, Quantity.MEMORY, Quantity.CRITICAL)]
"""Quantities by which methods can be compared."""


def is_about(sources: Sources) -> bool:
    """Whether there are records."""
    return len(sources.frame) > 0


def facts(sources: Sources) -> dict[str, Any]:
    """What the lead, the warnings and the footer have to know.

    Args:
        sources: Some of them records.

    Returns:
        Variables of the template.
    """
    frame, measurements = sources.frame, sources.measurements
    environments = measurements.environments
    return {
        "count": len(frame),
        "failures": len(failures(frame)),
        "dates": dates_text(environments),
        "environments": environments,
        "machine": machine_text(environments[0]),
        "settings": [setting for setting in frame["setting"].unique() if setting],
        "comparable": bool(frame["quantity"].isin(HEADED).any()),
        "sources": [(source.path, len(source.records)) for source in measurements.sources],
    }


COMPARISON = Page(
    file="index.html",
    title="GGN curvature: benchmark report",
    link="Comparison of methods",
    template="comparison.html.j2",
    sections=sections.comparison(),
    is_about=is_about,
    facts=facts,
)
