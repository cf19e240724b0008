"""Command line: ``python -m vivit.monitor run.jsonl [--html [FILE] | --follow]``."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from vivit.errors import InputError
from vivit.monitor.files import write
from vivit.monitor.log import read


def main(arguments: list[str] | None = None) -> int:
    """Show what a monitor has written.

    Args:
        arguments: Words of the command; by default the process's.

    Returns:
        Exit code: 0 when done, 2 for what the user can mend.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.html is not None:
            _write_page(options.file, options.html or options.file.with_suffix(".html"))
        else:
            _show(options.file, options.follow)
    except (InputError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m vivit.monitor", description="Show what vivit.Monitor saw of a training."
    )
    parser.add_argument("file", type=Path, help="what the monitor writes, such as run.jsonl")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--html",
        type=Path,
        nargs="?",
        const=False,
        metavar="FILE",
        help="make a page of all curves; default: beside the file, ending in .html",
    )
    how.add_argument("--follow", action="store_true", help="show it until Ctrl-C as it grows")
    return parser


def _write_page(file: Path, target: Path) -> None:
    _require("The page", "matplotlib", "seaborn")
    from vivit.monitor.page import page

    observations = read(file)
    if not observations:
        raise InputError(f"{file} has no observation yet.")
    write(target, page(file.name, observations))
    print(f"Page: {target}")


def _show(file: Path, follow: bool) -> None:
    _require("The view in the terminal", "rich")
    from rich.console import Console

    from vivit.monitor import terminal

    if follow:
        terminal.follow(file)
        return
    Console().print(terminal.view(file.name, read(file)))


def _require(what: str, *modules: str) -> None:
    """Say how to get what is not installed."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ImportError(
                f"{what} needs {module}, which is not installed: install vivit with the extra "
                "monitor."
            ) from error


if __name__ == "__main__":
    sys.exit(main())
