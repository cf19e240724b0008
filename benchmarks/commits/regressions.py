"""Two versions of the library against each other, in turns: has anything become slower?

Base and head run in processes of their own, under the harness of the working tree. One sample of
each follows the other, so both see the same disturbances; a ratio is formed of each such pair, and
an interval of confidence for the median of the ratios is the estimate of the noise.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.commits.in_process import THREADS
from benchmarks.commits.verdicts import Rules, Verdict
from benchmarks.grid.comparison import Comparison
from benchmarks.grid.points import GRIDS, PROBLEM, Point
from benchmarks.records.environment import git
from benchmarks.records.names import did_you_mean
from benchmarks.records.record import Status
from benchmarks.records.tasks import Approximation
from benchmarks.run.journal import Answer
from benchmarks.run.process import ROOT, WorkerProcess

LIBRARY_WORKER = Path(__file__).resolve().parents[1] / "run" / "library_worker.py"
PACKAGE = "vivit"

Progress = Callable[[str], None]
"""Told what runs now."""


class CommitError(ValueError):
    """There is no such version of the library."""


@dataclass(frozen=True)
class Change:
    """What became of a figure.

    Attributes:
        point: What was computed.
        quantity: ``"time"`` or ``"tensors"``, the bytes that tensors hold at once.
        verdict: Whether it is worse.
        base: Median of the base, in seconds or bytes; None if there is none.
        head: Median of the head.
        ratio: Median of the ratios of pairs of samples, head to base.
        low: Lower end of the interval of the ratio.
        high: Its upper end.
        reason: Why there are no figures.
    """

    point: Point
    quantity: str
    verdict: Verdict
    base: float | None = None
    head: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""


def default_points(problems: Iterable[str] | None = None) -> list[Point]:
    """The points that are compared: some of each grid.

    Args:
        problems: Only these problems; None for all.

    Returns:
        Points, grid by grid.
    """
    chosen = set(PROBLEM.values if problems is None else problems)
    return [
        point
        for grid in GRIDS.values()
        for point in map(grid.point, grid.selected)
        if point.problem in chosen
    ]


@contextmanager
def library_folder(version: str) -> Iterator[Path]:
    """A folder with a version of the library in it.

    Args:
        version: A commit, in any way that git knows; or a folder that contains `vivit/`.

    Yields:
        The folder, which vanishes afterwards if it was made for a commit.

    Raises:
        CommitError: There is no such thing.
    """
    if (Path(version) / PACKAGE / "__init__.py").is_file():
        yield Path(version).resolve()
        return
    command = ["git", "archive", "--format=tar", commit_of(version), PACKAGE]
    archive = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        said = archive.stderr.decode(errors="replace").strip()
        raise CommitError(f"commit {version!r} has no {PACKAGE}/: {said}")
    with TemporaryDirectory(prefix="vivit-") as folder:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as packed:
            packed.extractall(folder, filter="data")
        yield Path(folder)


def commit_of(version: str) -> str:
    """The full name of a commit.

    Args:
        version: In any way that git knows.

    Returns:
        The hash.

    Raises:
        CommitError: There is no such commit.
    """
    found = git("rev-parse", "--verify", "--quiet", f"{version}^{{commit}}")
    if not found:
        names = (git("for-each-ref", "--format=%(refname:short)") or "").split()
        raise CommitError(
            f"expected a commit, or a folder that contains {PACKAGE}/, got {version!r}"
            f"{did_you_mean(version, names)}"
        )
    return found


class Versions:
    """Compares two versions of the library."""

    def __init__(
        self,
        base: Path,
        head: Path,
        rules: Rules,
        progress: Progress,
        reference_by: str = "base",
    ) -> None:
        """Say what is compared.

        Args:
            base: Folder of the version that is compared with.
            head: Folder of the version in question.
            rules: How.
            progress: Is told what happens.
            reference_by: ``"base"`` or ``"head"``: whose result in float64 both have to give; it
                is checked by an independent implementation.
        """
        self._reference_by = reference_by
        self._folders = {"base": base, "head": head}
        self._rules, self._progress = rules, progress

    def compare(self, points: Iterable[Point]) -> Iterator[Change]:
        """Compare times and memory.

        What looks worse is measured again, with new processes: it has to be worse twice.

        Args:
            points: What to compute.

        Yields:
            Two changes for each point.
        """
        for point in points:
            found = self._changes(point)
            if any(change.verdict is Verdict.REGRESSION for change in found):
                again = self._changes(point)
                found = [_confirmed(*pair) for pair in zip(found, again, strict=True)]
            yield from found

    def _changes(self, point: Point) -> list[Change]:
        try:
            pairs, sizes = self._measured(point)
        except _FailedError as failed:
            return [
                Change(point, quantity, failed.verdict, reason=str(failed))
                for quantity in ("time", "tensors")
            ]
        base, head = zip(*(pair for of_pair in pairs for pair in of_pair), strict=True)
        ratios = [[after / before for before, after in of_pair] for of_pair in pairs]
        low, high, verdict = self._rules.judge(ratios)
        middle = median(ratio for of_pair in ratios for ratio in of_pair)
        growth = sizes["head"] / sizes["base"]
        return [
            Change(point, "time", verdict, median(base), median(head), middle, low, high),
            Change(
                point,
                "tensors",
                self._rules.judge_bytes(growth),
                sizes["base"],
                sizes["head"],
                *(growth, growth, growth),
            ),
        ]

    def _measured(self, point: Point) -> tuple[list[list[tuple[float, float]]], dict[str, float]]:
        """Pairs of times for each pair of processes, and bytes of tensors."""
        comparison, number = _comparison(point), self._rules.processes
        pairs: list[list[tuple[float, float]]] = []
        references: dict[str, Answer] = {}
        sizes: dict[str, float] = {}
        for process in range(number):
            with ExitStack() as stack:
                workers = {
                    name: stack.enter_context(_worker(comparison, folder))
                    for name, folder in self._folders.items()
                }
                self._progress(f"{point.title}: accuracy")
                for name, worker in workers.items():
                    self._start(name, worker)
                references = references or self._references(point, workers)
                for name, worker in workers.items():
                    exact = references[name]
                    facts = {"reference": exact["samples"], "facts": exact["details"]}
                    self._ask(name, worker, "accuracy", **facts)
                self._progress(f"{point.title}: time, processes {process + 1}/{number}")
                pairs.append([*self._sampled(workers)])
                if not sizes:
                    sizes = {n: self._number(n, w, "tensors") for n, w in workers.items()}
        return pairs, sizes

    def _start(self, name: str, worker: WorkerProcess) -> None:
        """What is older than what is to be computed is told from what does not work."""
        _required(name, worker.start(self._rules.timeout))
        missing = self._ask(name, worker, "missing")["details"]["missing"]
        if missing:
            raise _FailedError(name, f"has no {', '.join(missing)}", is_too_old=name == "base")

    def _references(self, point: Point, workers: dict[str, WorkerProcess]) -> dict[str, Answer]:
        """Both have to be as one of them is in float64, before anything is compared.

        Monte-Carlo draws may differ between versions, so there each has its own reference.
        """
        is_exact = point.task.approximation is Approximation.EXACT
        makers = [self._reference_by] if is_exact else [*workers]
        made = {name: self._ask(name, workers[name], "reference") for name in makers}
        return {name: made.get(name, made[makers[0]]) for name in workers}

    def _sampled(self, workers: dict[str, WorkerProcess]) -> Iterator[tuple[float, float]]:
        """Pairs of a sample of the base and one of the head, each in turn the first."""
        order = [*workers.items()]
        for _ in range(self._rules.samples):
            sample = {name: self._number(name, worker, "time") for name, worker in order}
            yield sample["base"], sample["head"]
            order.reverse()

    def _number(self, name: str, worker: WorkerProcess, command: str) -> float:
        return float(self._ask(name, worker, command)["samples"][0])

    def _ask(self, name: str, worker: WorkerProcess, command: str, **arguments: object) -> Answer:
        return _required(name, worker.ask(command, self._rules.timeout, **arguments))


def _required(name: str, answer: Answer) -> Answer:
    """An answer of a version, if it is none of failure."""
    if answer["status"] != Status.OK.value:
        raise _FailedError(name, answer["reason"])
    return answer


class _FailedError(Exception):
    """A version cannot do what it is asked.

    Attributes:
        verdict: What that says about the head.
    """

    def __init__(self, name: str, reason: str, is_too_old: bool = False) -> None:
        super().__init__(f"{name}: {reason}")
        of_base = Verdict.SKIPPED if is_too_old else Verdict.FAILED
        self.verdict = of_base if name == "base" else Verdict.REGRESSION


def _comparison(point: Point) -> Comparison:
    suite = next(grid.name for grid in GRIDS.values() if grid.computed is point.task.computed)
    return Comparison(
        suite, point.problem, ("gram",), point.batch_size, point.task, 1, threads=THREADS
    )


def _worker(comparison: Comparison, folder: Path) -> WorkerProcess:
    command = [sys.executable, "-I", str(LIBRARY_WORKER), str(folder)]
    return WorkerProcess(comparison, "gram", None, command)


def _confirmed(first: Change, second: Change) -> Change:
    """What the second measurement says; but open, if it was worse in only one of the two."""
    worse = [change.verdict is Verdict.REGRESSION for change in (first, second)]
    if sum(worse) != 1:
        return second
    return replace(second, verdict=Verdict.UNDECIDED, reason="worse in one of two measurements")
