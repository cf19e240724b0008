"""The page of asv's results: what became of each figure over commits."""

from __future__ import annotations

from collections.abc import Sequence

from reports.pages.rendering import Drawing, template
from reports.sections.changes import worse_rows
from reports.sources import asv
from reports.sources.asv import Results
from reports.sources.environments import SHORT_COMMIT
from reports.tables.table import Table


def render(
    results: Results,
    table: Table,
    drawings: Sequence[Drawing],
    runs: Table | None = None,
    index: str | None = None,
) -> str:
    """Render the page.

    Args:
        results: Of asv.
        table: The changes.
        drawings: The figures.
        runs: Of pytest-benchmark, if there are any.
        index: The page of the harness's records, if there is one.

    Returns:
        HTML that needs no other file and no network.
    """
    frame = results.frame
    dates = frame.drop_duplicates("commit").sort_values("order")
    measured = frame[frame["outcome"] != asv.SKIPPED]
    return template("regressions.html.j2").render(
        commits=[
            (commit[:SHORT_COMMIT], date.date().isoformat())
            for commit, date in zip(dates["commit"], dates["date"], strict=True)
        ],
        measured=len(measured),
        failed=int((measured["outcome"] == asv.FAILED).sum()),
        worse=len(worse_rows(table)),
        table=table,
        drawings=drawings,
        runs=runs,
        machines=results.machines,
        sources=results.sources,
        index=index,
    )
