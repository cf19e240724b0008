"""The page over commits, from results of asv and saved runs of pytest-benchmark."""

from __future__ import annotations

from typing import Any

from reports import sections
from reports.pages.page import Page
from reports.sections.changes import change_table, worse_rows
from reports.sources import asv
from reports.sources.environments import SHORT_COMMIT
from reports.sources.sources import Sources


def facts(sources: Sources) -> dict[str, Any]:
    """What the lead and the footer have to know.

    Args:
        sources: All that was found.

    Returns:
        Variables of the template.
    """
    frame = sources.results.frame
    dates = frame.drop_duplicates("commit").sort_values("order")
    measured = frame[frame["outcome"] != asv.SKIPPED]
    return {
        "commits": [
            (commit[:SHORT_COMMIT], date.date().isoformat())
            for commit, date in zip(dates["commit"], dates["date"], strict=True)
        ],
        "measured": len(measured),
        "failed": int((measured["outcome"] == asv.FAILED).sum()),
        "worse": len(worse_rows(change_table(frame))),
        "sources": [*sources.results.sources, *(run.path for run in sources.runs)],
    }


COMMITS = Page(
    file="regressions.html",
    title="GGN curvature: over commits",
    link="Over commits",
    template="commits.html.j2",
    sections=sections.sections(sections.ABOUT_COMMITS),
    facts=facts,
)
