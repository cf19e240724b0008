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
from enum import Enum
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from scipy.stats import quantile_test

from benchmarks.comparison import Comparison
from benchmarks.grid import GRIDS, PROBLEM, Point
from benchmarks.in_process import THREADS
from benchmarks.journal import Answer
from benchmarks.process import ROOT, WorkerProcess
from benchmarks.records import Status

LIBRARY_WORKER = Path(__file__).with_name("library_worker.py")
PACKAGE = "vivit"

Progress = Callable[[str], None]
"""Told what runs now."""


class CommitError(ValueError):
    """There is no such version of the library."""


class RulesError(ValueError):
    """By such rules, nothing can be decided."""


class Verdict(str, Enum):
    """What a comparison of two versions says."""

    REGRESSION = "regression"
    """Worse by more than the threshold, the noise aside; or it does not work any more."""
    IMPROVEMENT = "improvement"
    UNCHANGED = "unchanged"
    """By more than the threshold, it is neither worse nor better."""
    UNDECIDED = "undecided"
    """The noise is larger than what there is to be seen."""
    SKIPPED = "skipped"
    """The base cannot do it."""


@dataclass(frozen=True)
class Rules:
    """How versions are compared.

    Attributes:
        threshold: Ratio of head to base above which something is worse.
        confidence: Of the interval in which the ratio is.
        processes: Pairs of processes, each started anew: where memory happens to lie makes a
            difference, too.
        samples: Pairs of samples from each pair of processes.
        timeout: Seconds for one step.
    """

    threshold: float = 1.1
    confidence: float = 0.99
    processes: int = 2
    samples: int = 8
    timeout: float = 300.0

    def __post_init__(self) -> None:
        """Refuse rules by which nothing can be decided."""
        pairs = self.processes * self.samples
        if self.threshold <= 1 or not 0 < self.confidence < 1:
            raise RulesError(
                "Expected a threshold above 1 and a confidence between 0 and 1, got "
                f"{self.threshold:g} and {self.confidence:g}."
            )
        if 2 * 0.5**pairs > 1 - self.confidence:  # of the widest interval that there is
            raise RulesError(
                f"Expected enough samples for a confidence of {self.confidence:g}, got {pairs} "
                "pairs: ask for more samples or processes."
            )

    def judge(self, ratios: list[float]) -> tuple[float, float, Verdict]:
        """Decide by the ratios of head to base.

        Args:
            ratios: Of pairs of samples.

        Returns:
            Ends of the interval of confidence of their median, free of assumptions about how they
            are distributed; and the verdict.
        """
        interval = quantile_test(ratios, p=0.5).confidence_interval(self.confidence)
        low, high = float(interval.low), float(interval.high)
        return low, high, self.verdict(low, high)

    def verdict(self, low: float, high: float) -> Verdict:
        """Decide by an interval in which the ratio is.

        Args:
            low: Its lower end.
            high: Its upper end.

        Returns:
            The verdict.
        """
        better, worse = 1 / self.threshold, self.threshold
        if low > worse:
            return Verdict.REGRESSION
        if high < better:
            return Verdict.IMPROVEMENT
        if better <= low and high <= worse:
            return Verdict.UNCHANGED
        return Verdict.UNDECIDED


@dataclass(frozen=True)
class Change:
    """What became of a figure.

    Attributes:
        point: What was computed.
        quantity: ``"time"`` or ``"tensors"``, the bytes that tensors hold at once.
        verdict: Whether it is worse.
        base: Median of the base, in seconds or bytes; None if there is none.
        head: Median of the head.
        low: Lower end of the interval of the ratio.
        high: Its upper end.
        reason: Why there are no figures.
    """

    point: Point
    quantity: str
    verdict: Verdict
    base: float | None = None
    head: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @property
    def ratio(self) -> float | None:
        """Of the medians, head to base."""
        return self.head / self.base if self.head is not None and self.base else None


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
    command = ["git", "archive", "--format=tar", f"{version}^{{commit}}", PACKAGE]
    archive = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        said = archive.stderr.decode(errors="replace").strip().splitlines()
        raise CommitError(
            f"expected a commit that has {PACKAGE}/, or a folder that contains it, got "
            f"{version!r}: {said[-1] if said else 'git failed'}"
        )
    with TemporaryDirectory(prefix="vivit-") as folder:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as packed:
            packed.extractall(folder, filter="data")
        yield Path(folder)


class Versions:
    """Compares two versions of the library."""

    def __init__(self, base: Path, head: Path, rules: Rules, progress: Progress) -> None:
        """Say what is compared.

        Args:
            base: Folder of the version that is compared with.
            head: Folder of the version in question.
            rules: How.
            progress: Is told what happens.
        """
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
        comparison = _comparison(point)
        pairs: list[tuple[float, float]] = []
        sizes: dict[str, float] = {}
        for process in range(self._rules.processes):
            with ExitStack() as stack:
                workers = {
                    name: stack.enter_context(_worker(comparison, folder))
                    for name, folder in self._folders.items()
                }
                try:
                    self._tell(point, "accuracy")
                    self._check(workers)
                    self._tell(point, f"time, processes {process + 1}/{self._rules.processes}")
                    pairs += self._sampled(workers)
                    if not sizes:
                        sizes = {n: self._number(n, w, "tensors") for n, w in workers.items()}
                except _FailedError as failed:
                    return [
                        Change(point, quantity, failed.verdict, reason=str(failed))
                        for quantity in ("time", "tensors")
                    ]
        base, head = ([*samples] for samples in zip(*pairs, strict=True))
        low, high, verdict = self._rules.judge([h / b for b, h in pairs])
        growth = sizes["head"] / sizes["base"]
        return [
            Change(point, "time", verdict, median(base), median(head), low, high),
            Change(
                point,
                "tensors",
                self._rules.verdict(growth, growth),
                sizes["base"],
                sizes["head"],
                growth,
                growth,
            ),
        ]

    def _check(self, workers: dict[str, WorkerProcess]) -> None:
        """Both have to be right before anything is compared: as the base is in float64."""
        for name, worker in workers.items():
            self._ask(name, worker, "start")
        reference = self._ask("base", workers["base"], "reference")
        facts = {"reference": reference["samples"], "facts": reference["details"]}
        for name, worker in workers.items():
            self._ask(name, worker, "accuracy", **facts)

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
        timeout = self._rules.timeout
        ask = worker.start(timeout) if command == "start" else None
        answer = ask or worker.ask(command, timeout, **arguments)
        if answer["status"] != Status.OK.value:
            raise _FailedError(name, answer["reason"])
        return answer

    def _tell(self, point: Point, what: str) -> None:
        self._progress(f"{point.title}: {what}")


class _FailedError(Exception):
    """A version cannot do what it is asked.

    Attributes:
        verdict: That a base cannot is no regression.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.verdict = Verdict.SKIPPED if name == "base" else Verdict.REGRESSION


def _comparison(point: Point) -> Comparison:
    suite = next(grid.name for grid in GRIDS.values() if grid.computed is point.task.computed)
    return Comparison(
        suite, point.problem, ("gram",), point.batch_size, point.task, 1, threads=THREADS
    )


def _worker(comparison: Comparison, folder: Path) -> WorkerProcess:
    command = [sys.executable, "-I", str(LIBRARY_WORKER), str(folder)]
    return WorkerProcess(comparison, "gram", None, command)


def _confirmed(first: Change, second: Change) -> Change:
    """A regression, if it was one twice; else what the second time says, or that it is open."""
    if first.verdict is not Verdict.REGRESSION or second.verdict is Verdict.REGRESSION:
        return second
    return replace(second, verdict=Verdict.UNDECIDED, reason="worse in one of two measurements")
