"""The command ``check``: has the library become slower, or hungrier, since another commit?"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.commits.regressions import (
    Change,
    Versions,
    commit_of,
    default_points,
    library_folder,
)
from benchmarks.commits.verdicts import Rules, Verdict
from benchmarks.grid import arguments as types
from benchmarks.grid.points import PROBLEM, Point
from benchmarks.problems import PROBLEMS
from benchmarks.records.environment import command_line, environment
from benchmarks.records.tasks import Task
from benchmarks.run.process import ROOT
from benchmarks.run.progress import progress_bar

EXIT_REGRESSION = 1
"""Also if something failed, or nothing could be decided: a check that saw nothing is not green."""

HEADER = ("verdict", "ratio", "interval", "base", "head", "quantity", "computed")


class PointsError(ValueError):
    """The arguments do not say what to compare."""


def add_arguments(check: argparse.ArgumentParser) -> None:
    """Declare the arguments.

    Args:
        check: The parser of the command.
    """
    what = "a commit, or a folder that contains vivit/"
    check.add_argument("base", help=f"what to compare with: {what}")
    check.add_argument(
        "head", nargs="?", default=str(ROOT), help=f"{what}; default: the working tree"
    )
    check.add_argument(
        "--problem",
        action="append",
        choices=PROBLEMS,
        metavar="NAME",
        help="only this problem of the grid; may be repeated",
    )
    check.add_argument(
        "--batch-size",
        type=types.positive,
        metavar="N",
        help="all eigenvalues of any problem, instead of the grid",
    )
    check.add_argument(
        "--k",
        type=types.positive,
        metavar="K",
        help="the K leading eigenpairs instead of them",
    )
    _add_rules(check)
    check.add_argument("--output", type=Path, metavar="FILE", help="file for the figures, as JSON")
    check.set_defaults(run=run)


def _add_rules(check: argparse.ArgumentParser) -> None:
    """Declare the arguments that are `Rules`."""
    rules = Rules()
    check.add_argument(
        "--threshold",
        type=types.threshold,
        metavar="RATIO",
        default=rules.threshold,
        help="ratio of the times of head and base from which on it is a regression, if the whole "
        f"interval of confidence lies above; default: {rules.threshold:g}",
    )
    check.add_argument(
        "--processes",
        type=types.positive,
        default=rules.processes,
        metavar="N",
        help=f"pairs of processes, one after the other; default: {rules.processes}",
    )
    check.add_argument(
        "--samples",
        type=types.positive,
        default=rules.samples,
        metavar="N",
        help=f"pairs of samples of each pair of processes; default: {rules.samples}",
    )
    check.add_argument(
        "--confidence",
        type=float,
        metavar="SHARE",
        default=rules.confidence,
        help=f"of the interval of the ratio; default: {rules.confidence:g}",
    )


def run(options: argparse.Namespace) -> int:
    """Compare, and say what is worse.

    Args:
        options: As `add_arguments` declares them.

    Returns:
        Exit code: 0; or 1 if there is a regression, something failed or nothing was decided.

    Raises:
        CommitError: There is no such commit.
        RulesError: The rules decide nothing.
        PointsError: The arguments do not say what to compare.
    """
    rules = Rules(
        options.threshold,
        confidence=options.confidence,
        processes=options.processes,
        samples=options.samples,
    )
    points, by = _points(options.problem, options.batch_size, options.k)
    changes: list[Change] = []
    with (
        library_folder(options.base) as base,
        library_folder(options.head) as head,
        progress_bar(2 * len(points), "figure") as bar,
    ):
        for change in Versions(base, head, rules, bar.set_description_str, by).compare(points):
            changes.append(change)
            bar.update()
        bar.set_description_str("done")
    for line in table(changes):
        print(line)
    if options.output is not None:
        _write(options.output, options, rules, changes)
    counts = Counter(change.verdict for change in changes)
    print(", ".join(f"{counts[v]} {v.value}" for v in Verdict if counts[v]))
    decided = counts[Verdict.IMPROVEMENT] + counts[Verdict.UNCHANGED]
    bad = counts[Verdict.REGRESSION] + counts[Verdict.FAILED]
    return EXIT_REGRESSION if bad or not decided else 0


def _points(
    problems: list[str] | None, batch_size: int | None, k: int | None
) -> tuple[list[Point], str]:
    """What to compare, and which version makes its references.

    Points of one's own may be beyond what the base can do in double precision.

    Raises:
        PointsError: The arguments do not say what to compare.
    """
    if batch_size is not None and problems:
        task = Task() if k is None else Task.leading(k)
        return [Point(name, batch_size, task) for name in problems], "head"
    if batch_size is not None or k is not None:
        raise PointsError("expected --problem and --batch-size together, and --k with both only")
    others = [name for name in problems or () if name not in PROBLEM.values]
    if others:
        raise PointsError(
            f"expected --batch-size beside --problem {others[0]}, which is not one of the grid's: "
            f"{', '.join(PROBLEM.values)}"
        )
    return default_points(problems), "base"


def table(changes: Iterable[Change]) -> list[str]:
    """The changes for people, the worst first.

    Args:
        changes: What was found.

    Returns:
        Lines of equal columns.
    """
    order = [*Verdict]
    ranked = sorted(changes, key=lambda c: (order.index(c.verdict), -(c.ratio or 0)))
    rows = [HEADER, *map(_row, ranked)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    reasons = ["", *(change.reason for change in ranked)]
    return [f"{line}: {why}" if why else line for line, why in zip(lines, reasons, strict=True)]


def _row(change: Change) -> tuple[str, ...]:
    measured = change.ratio is not None
    return (
        change.verdict.value,
        f"{change.ratio:.3f}" if measured else "-",
        f"{change.low:.3f} to {change.high:.3f}" if measured else "-",
        _amount(change.base, change.quantity),
        _amount(change.head, change.quantity),
        change.quantity,
        change.point.title,
    )


def _amount(value: float | None, quantity: str) -> str:
    if value is None:
        return "-"
    return f"{1e3 * value:.3g} ms" if quantity == "time" else f"{value / 2**20:.4g} MiB"


def _write(
    path: Path, options: argparse.Namespace, rules: Rules, changes: Iterable[Change]
) -> None:
    """All or nothing: what is there is whole."""
    figures = [
        {
            "problem": change.point.problem,
            "batch_size": change.point.batch_size,
            **change.point.task.parameters,
            "quantity": change.quantity,
            "verdict": change.verdict.value,
            "base": change.base,
            "head": change.head,
            "ratio": change.ratio,
            "interval": [change.low, change.high],
            "reason": change.reason,
        }
        for change in changes
    ]
    content: dict[str, Any] = {
        "base": _identity(options.base),
        "head": _identity(options.head),
        "threshold": rules.threshold,
        "confidence": rules.confidence,
        "processes": rules.processes,
        "samples": rules.samples,
        "environment": environment(command_line()),
        "figures": figures,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(partial, path)


def _identity(version: str) -> dict[str, str | None]:
    """A commit as it was given and in full; of a folder its name alone."""
    if Path(version).resolve() == ROOT:
        return {"given": "working tree", "commit": None}
    if Path(version).is_dir():
        return {"given": Path(version).name, "commit": None}
    return {"given": version, "commit": commit_of(version)}
