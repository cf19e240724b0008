"""The page of the published experiments, repeated."""

from __future__ import annotations

from typing import Any

from benchmarks.experiments import EXPERIMENTS
from reports import sections
from reports.pages.page import Page
from reports.sections.environments import dates_text, machine_text
from reports.sources.frame import failures
from reports.sources.sources import Sources


def facts(sources: Sources) -> dict[str, Any]:
    """What the lead, the warnings and the footer have to know.

    Args:
        sources: The experiments alone.

    Returns:
        Variables of the template.
    """
    frame, measurements = sources.frame, sources.measurements
    environments = measurements.environments
    return {
        "repeated": len({*frame["suite"]} & {*EXPERIMENTS}),
        "published": len(EXPERIMENTS),
        "count": len(frame),
        "left_out": measurements.left_out,
        "failures": len(failures(frame)),
        "dates": dates_text(environments),
        "environments": environments,
        "machine": machine_text(environments[0]),
        "sources": [(source.path, len(source.records)) for source in measurements.sources],
    }


EXPERIMENTS_PAGE = Page(
    file="experiments.html",
    title="GGN curvature: published experiments",
    link="Experiments",
    template="experiments.html.j2",
    sections=sections.published(),
    facts=facts,
    part=lambda sources: sources.of_experiments,
)
