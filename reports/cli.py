"""Command line of the reports."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.records import RecordError
from reports import figures, files, loading, page
from reports.errors import ReportError
from reports.figures import Plot

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
    """Read records, write tables, figures and, last, the page.

    Args:
        inputs: Files of records, or folders that contain them.
        output: Folder to write to.

    Returns:
        The page.

    Raises:
        ReportError: There are no usable records.
        RecordError: A line is not a record.
    """
    measurements = loading.load(inputs)
    frame = measurements.frame
    headlines, details = page.headlines(frame), page.detail_tables(frame)
    for table in [*(headline.table for headline in headlines), *details]:
        files.write(output / "csv" / f"{table.name}.csv", files.csv(table.csv))
    drawings = [_draw(plot, output / "figures") for plot in figures.plots(frame)]
    path = output / "index.html"
    files.write(path, page.render(measurements, headlines, details, drawings).encode())
    return path


def _draw(plot: Plot, folder: Path) -> page.Drawing:
    figure = plot.draw()
    image = files.png(figure)
    files.write(folder / f"{plot.name}.png", image)
    files.write(folder / f"{plot.name}.pdf", files.pdf(figure))
    return page.Drawing.of(plot, image)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reports",
        description="Turn records of measurements into an HTML page, CSV tables and figures.",
    )
    parser.add_argument(
        "--input",
        nargs="+",
        type=Path,
        default=[Path("bench_results")],
        metavar="PATH",
        help="files of records (*.jsonl) or folders to search for them (default: bench_results)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("reports/html"),
        metavar="FOLDER",
        help="where to write the report (default: reports/html)",
    )
    return parser
