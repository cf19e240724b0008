"""Command line of the reports."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.records.names import Parser
from benchmarks.records.record import RecordError
from reports.errors import ReportError
from reports.pages import PAGES
from reports.sources.sources import Sources

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
    """Read what was measured; write tables, figures and pages.

    Args:
        inputs: Files of records or of pytest-benchmark, or folders that contain them or asv's.
        output: Folder to write to.

    Returns:
        The first page.

    Raises:
        ReportError: There is nothing usable.
        RecordError: A line is not a record.
    """
    sources = Sources.find(inputs)
    pages = [page for page in PAGES if page.is_about(sources)]
    written = [page.write(sources, output, pages) for page in reversed(pages)]  # the main one last
    return written[-1]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m reports",
        description="Turn records of measurements into HTML pages, CSV tables and figures.",
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
