"""The pages that compare methods, from records of the harness: one for each theme."""

from __future__ import annotations

from typing import Any

from reports import sections
from reports.pages.page import Page
from reports.sections.base import Section
from reports.sections.environments import dates_text
from reports.sources.frame import failures
from reports.sources.sources import Sources


def facts(sources: Sources) -> dict[str, Any]:
    """What the lead, the warnings and the footer have to know.

    Args:
        sources: Some of them records.

    Returns:
        Variables of the template.
    """
    frame, measurements = sources.frame, sources.measurements
    return {
        "count": len(frame),
        "failures": len(failures(frame)),
        "dates": dates_text(measurements.environments),
        "environments": measurements.environments,
        "settings": [setting for setting in frame["setting"].unique() if setting],
        "sources": [(source.path, len(source.records)) for source in measurements.sources],
    }


def _theme(file: str, title: str, link: str, lead: str, content: tuple[Section, ...]) -> Page:
    return Page(file, title, link, "theme.html.j2", content, facts, lead=lead)


def _plain(file: str, title: str, link: str, lead: str, content: tuple[Section, ...]) -> Page:
    """One that compares nothing, and needs no warning."""
    return Page(file, title, link, "plain.html.j2", content, facts, lead=lead)


START = Page(
    file="index.html",
    title="vivit: exact curvature, measured",
    link="Start",
    template="start.html.j2",
    sections=sections.start(),
    facts=facts,
    opening=("answer", "choice"),
)
SPEED = _theme(
    "speed.html",
    "How fast is it?",
    "Speed",
    "Times of vivit and of what one would use instead, task by task. Where memory was measured of "
    "the same runs, it stands beside the times.",
    sections.speed(),
)
MEMORY = _theme(
    "memory.html",
    "How much memory does it need?",
    "Memory and batch sizes",
    "The peak memory of each method, and the largest batch that fits into a given memory.",
    sections.sections(sections.ABOUT_MEMORY),
)
ACCURACY = _theme(
    "accuracy.html",
    "How exact is it?",
    "Accuracy",
    "Errors of each method against a computation in double precision (float64).",
    sections.sections(sections.ABOUT_ACCURACY),
)
SPECTRA = _theme(
    "spectra.html",
    "What do the eigenvalues look like?",
    "Spectra",
    "All eigenvalues of the measured networks, in double precision (float64).",
    sections.sections(sections.ABOUT_SPECTRA),
)
SCALING = _theme(
    "scaling.html",
    "How does it grow?",
    "Scaling",
    "Time and memory when the batch, the network or the number of classes grows.",
    sections.sections(sections.ABOUT_SCALING),
)
RECORDS = _plain(
    "records.html",
    "What was measured, where, and what failed",
    "Records",
    "Everything that gave no result, with the reason, and the code and machines behind all "
    "figures.",
    sections.sections(sections.ABOUT_RECORDS),
)
GLOSSARY = _plain(
    "glossary.html",
    "What the names stand for",
    "Glossary",
    "Tasks, networks, methods and quantities of this report, in a line each.",
    sections.sections(["glossary"]),
)
THEMES = (SPEED, MEMORY, ACCURACY, SPECTRA)
