"""Command line of the reports."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.records.names import Parser
from benchmarks.records.record import RecordError
from reports.errors import ReportError
from reports.pages import PAGES
from reports.pages.compared import compared_page
from reports.pages.formats import CSV, LATEX, PARQUET, Format
from reports.sections.compared import Compared
from reports.serving import serving, watch
from reports.sources.sides import Side
from reports.sources.sources import Sources
from reports.tables.pairs import as_text

EXIT_ERROR = 2
PORT = 8000
RESULTS = [Path("bench_results")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a report, or compare two machines or commits.

    Args:
        arguments: Command-line arguments; those of the process if None.

    Returns:
        The exit code: 0, or 2 if the report cannot be made.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.command == "compare":
            print(compare(options.a, options.b, options.input, options.output, _formats(options)))
        elif options.serve is not None:
            serve(options.input, options.output, options.serve, _formats(options))
        else:
            print(make_report(options.input, options.output, _formats(options)))
    except (ReportError, RecordError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_ERROR
    return 0


def make_report(inputs: Sequence[Path], output: Path, formats: Sequence[Format] = (CSV,)) -> Path:
    """Read what was measured; write tables, figures and pages.

    Args:
        inputs: Files of records or of pytest-benchmark, or folders that contain them or asv's.
        output: Folder to write to.
        formats: Of the files of each table.

    Returns:
        The first page.

    Raises:
        ReportError: There is nothing usable.
        RecordError: A line is not a record.
    """
    sources = Sources.find(inputs)
    pages = [page for page in PAGES if page.is_about(sources)]
    for page in reversed(pages):  # the first one last
        written = page.write(sources, output, pages, formats)
    return written


def serve(inputs: Sequence[Path], output: Path, port: int, formats: Sequence[Format]) -> None:
    """Show the report in a browser of this machine, and make it again when records change.

    Args:
        inputs: As for `make_report`.
        output: Folder to write to.
        port: Where to listen; 0 for any port that is free.
        formats: Of the files of each table.
    """
    with serving(output, port) as server:
        print(f"{server.address} (Ctrl-C ends)", flush=True)

        def make() -> None:
            try:
                make_report(inputs, output, formats)
                server.version += 1
            except (ReportError, RecordError) as error:  # there may be records later
                print(f"error: {error}", file=sys.stderr, flush=True)

        with suppress(KeyboardInterrupt):
            watch(inputs, make)


def compare(
    a: str,
    b: str,
    inputs: Sequence[Path],
    output: Path | None,
    formats: Sequence[Format] = (CSV,),
) -> str:
    """Set two machines, or two commits, beside each other.

    Args:
        a: A file or folder of records, or the beginning of a commit: what to compare with.
        b: The same: what is compared.
        inputs: Files or folders with the records of commits.
        output: Folder to write a page and its table to; None for neither.
        formats: Of the files of the table.

    Returns:
        The table as text, and the page if there is one.

    Raises:
        ReportError: There is nothing to compare.
        RecordError: A line is not a record.
    """
    compared, nothing = Compared(Side.find(a, inputs), Side.find(b, inputs)), Sources()
    (table,), (words,) = compared.tables(nothing), compared.words(nothing)
    notes = [f"[{number}] {note}" for number, note in enumerate(table.notes, start=1)]
    lines = [as_text(table.shown, table.measured), *notes, *words.points]
    if output is not None:
        page = compared_page(compared)
        lines.append(str(page.write(nothing, output, [page], formats)))
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m reports",
        description="Turn records of measurements into HTML pages, CSV tables and figures.",
    )
    _add_input(
        parser,
        "files of records (*.jsonl) or of pytest-benchmark (*.json), or folders to search for "
        "them and for results of asv",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("reports/html"),
        metavar="FOLDER",
        help="where to write the report (default: reports/html)",
    )
    _add_formats(parser)
    parser.add_argument(
        "--serve",
        nargs="?",
        type=int,
        const=PORT,
        default=None,
        metavar="PORT",
        help="show the report on this machine alone, and make it again when records change "
        f"(default port: {PORT})",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_compare(commands.add_parser("compare", help="two machines, or two commits, cell by cell"))
    return parser


def _add_compare(parser: argparse.ArgumentParser) -> None:
    what = "a file or folder of records, or the beginning of a commit"
    parser.add_argument("a", metavar="A", help=f"what to compare with: {what}")
    parser.add_argument("b", metavar="B", help=f"what is compared: {what}")
    _add_input(parser, "where the records of commits are")
    parser.add_argument(
        "--output",
        type=Path,
        default=None,
        metavar="FOLDER",
        help="where to write a page and a CSV table (default: neither)",
    )
    _add_formats(parser)


def _add_input(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--input",
        nargs="+",
        type=Path,
        default=RESULTS,
        metavar="PATH",
        help=f"{what} (default: {RESULTS[0]})",
    )


def _add_formats(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--latex", action="store_true", help="write each table as LaTeX, too")
    parser.add_argument(
        "--parquet", action="store_true", help="write each table as Parquet, too; needs pyarrow"
    )


def _formats(options: argparse.Namespace) -> list[Format]:
    """CSV, and what was asked for; refused at once where a package is missing."""
    asked = {LATEX: options.latex, PARQUET: options.parquet}
    formats = [CSV, *(kind for kind, is_asked in asked.items() if is_asked)]
    for kind in formats:
        kind.check()
    return formats
