"""Command line of the reports."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.records.names import Parser
from benchmarks.records.record import RecordError
from reports.errors import ReportError
from reports.figures import plot as figures
from reports.pages import commits as commits_page
from reports.pages import comparison as page
from reports.pages import files
from reports.pages.rendering import draw
from reports.sections import over_commits as regression_plot
from reports.sections.changes import change_table
from reports.sources import asv, pytest_benchmark
from reports.sources import records as loading
from reports.sources.asv import Results
from reports.tables.table import Table

EXIT_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a report.

    Args:
        arguments: Command-line arguments; those of the process if None.

    Returns:
        The exit code: 0, or 2 if the report cannot be made.
    """
    options = _parser().parse_args(arguments)
    try:
        path = make_report(options.input, options.output)
    except (ReportError, RecordError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_ERROR
    print(path)
    return 0


def make_report(inputs: Sequence[Path], output: Path) -> Path:
    """Read what was measured, write tables, figures and, last, the pages.

    Args:
        inputs: Files of records or of pytest-benchmark, or folders that contain them or asv's.
        output: Folder to write to.

    Returns:
        The page; that of the records, if there are any.

    Raises:
        ReportError: There is nothing usable.
        RecordError: A line is not a record.
    """
    results = asv.load(asv.find_folders(inputs))
    saved = pytest_benchmark.find_runs(inputs)
    runs = pytest_benchmark.run_table(saved) if saved else None
    has_commits = bool(len(results.frame) or saved)
    has_records = bool(loading.find_files(inputs, required=not has_commits))
    index, commits = output / "index.html", output / "regressions.html"
    if has_commits:
        _write_commits(results, runs, commits, index.name if has_records else None)
    if not has_records:
        return commits
    measurements = loading.load(inputs)
    frame = measurements.frame
    headlines, details = page.headlines(frame), page.detail_tables(frame)
    details += [runs] if runs is not None else []
    _write_tables([*(headline.table for headline in headlines), *details], output)
    drawings = [draw(plot, output / "figures") for plot in figures.plots(frame)]
    link = commits.name if has_commits else None
    files.write(index, page.render(measurements, headlines, details, drawings, link).encode())
    return index


def _write_commits(results: Results, runs: Table | None, path: Path, index: str | None) -> None:
    table = change_table(results.frame)
    _write_tables([table, *([runs] if runs is not None else [])], path.parent)
    plots = regression_plot.plots(results.frame)
    drawings = [draw(plot, path.parent / "figures") for plot in plots]
    files.write(path, commits_page.render(results, table, drawings, runs, index).encode())


def _write_tables(tables: Iterable[Table], output: Path) -> None:
    for table in tables:
        files.write(output / "csv" / f"{table.name}.csv", files.csv(table.csv))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m reports",
        description="Turn records of measurements into an HTML page, CSV tables and figures.",
    )
    parser.add_argument(
        "--input",
        nargs="+",
        type=Path,
        default=[Path("bench_results")],
        metavar="PATH",
        help="files of records (*.jsonl) or of pytest-benchmark (*.json), or folders to search "
        "for them and for results of asv (default: bench_results)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("reports/html"),
        metavar="FOLDER",
        help="where to write the report (default: reports/html)",
    )
    return parser
