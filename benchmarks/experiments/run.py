"""Runs experiments: what is measured by the harness, what is computed job by job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.experiments.base import (
    Computation,
    Experiment,
    Job,
    Measurement,
    Request,
    Scale,
    attempt,
)
from benchmarks.grid.comparison import Comparison, Selection
from benchmarks.problems.own import OwnProblem, find_problem
from benchmarks.records.environment import command_line, environment, machine
from benchmarks.records.record import Record, RecordStore, Status
from benchmarks.run.cells import Cell, num_cells
from benchmarks.run.journal import Conditions, Journal
from benchmarks.run.process import PEER_PYTHON
from benchmarks.run.progress import progress_bar
from benchmarks.run.runner import MEMORY_FRACTION, Progress, Runner
from benchmarks.selection import check


@dataclass
class Experiments:
    """Runs experiments on one request; each has a file of records of its own.

    Attributes:
        request: What the user asks for.
        folder: Of the files, apart for each scale.
        num_threads: Of torch; None for what suits each experiment.
        budget: Bytes, of searches for critical batch sizes; None for those of the experiments.
        workers: Processes side by side, for memory and searches.
        peer_python: The interpreter of peers.
    """

    request: Request
    folder: Path
    num_threads: int | None = None
    budget: int | None = None
    workers: int = 1
    peer_python: Path = PEER_PYTHON
    _environment: dict[str, Any] = field(default_factory=dict, init=False)

    def titles(self, experiment: Experiment) -> list[str]:
        """What would be done.

        Args:
            experiment: Which one.

        Returns:
            A line for each comparison or job.
        """
        found = self.comparisons(experiment)
        jobs = self._jobs(experiment)
        return [
            *(f"{c.title}: {', '.join(c.methods)}" for c in found),
            *(job.title.removeprefix(f"{experiment.name}: ") for job in jobs),
        ]

    def check(self, experiments: Sequence[Experiment]) -> None:
        """Find what is wrong before anything is done.

        Args:
            experiments: Those that are going to be run.

        Raises:
            SelectionError: A budget is larger than the memory of this machine.
            ProblemError: A user's problem does not do what is expected.
            DataError: A data set cannot be read.
        """
        for problem in self.request.problems or ():
            found = find_problem(problem)
            if isinstance(found, OwnProblem):
                found.check(self.request.device, self.request.seed)
        for experiment in experiments:
            if isinstance(experiment, Computation):
                experiment.check(self.request)
        check([c for e in experiments for c in self.comparisons(e)], self._memory)

    @property
    def _memory(self) -> int:
        """Bytes that this machine has for each worker."""
        return machine()["memory_bytes"] // self.workers

    def run(self, experiment: Experiment, place: str = "") -> list[Record]:
        """Do what was not done yet.

        Args:
            experiment: Which one.
            place: Of it among others, for the progress bar.

        Returns:
            What was recorded.
        """
        self._environment = self._environment or environment(command_line())
        store = RecordStore(self.folder / f"{experiment.name}.jsonl")
        with progress_bar(0, "step") as bar:

            def progress(what: str, finished: int) -> None:
                if what:
                    bar.set_description_str(f"{place} {what}".strip())
                bar.update(finished)

            comparisons = self.comparisons(experiment)
            jobs = self._jobs(experiment, lambda what: progress(f"{experiment.name}: {what}", 0))
            bar.reset(num_cells(comparisons) + len(jobs))
            made: list[Record] = []
            if isinstance(experiment, Measurement):
                made += self._measure(experiment, comparisons, store, progress)
            if isinstance(experiment, Computation):
                with _threads(self.threads(experiment)):
                    made += self._compute(jobs, store, progress)
            bar.set_description_str(f"{place} {experiment.name}: done".strip())
        return made

    def threads(self, experiment: Experiment) -> int:
        """Of torch: those that were asked for, or what suits the experiment.

        Args:
            experiment: Which one.

        Returns:
            All cores, but one for small networks.
        """
        if self.num_threads is not None:
            return self.num_threads
        published = self.request.scale is Scale.PAPER or self.request.problems is not None
        return 1 if experiment.is_small and not published else torch.get_num_threads()

    def comparisons(self, experiment: Experiment) -> list[Comparison]:
        """What the harness measures for an experiment.

        Args:
            experiment: Has the grid.

        Returns:
            The grid, on the problems that were named in place of its own; none if it measures
            nothing.
        """
        if not isinstance(experiment, Measurement):
            return []
        request = self.request
        settings = {
            "device": request.device,
            "threads": self.threads(experiment),
            "seed": request.seed,
            "data_root": request.data_root,
        }
        problems = None if request.problems is None else [*request.problems]
        selection = Selection(problems=problems, budget=self.budget, settings=settings)
        return selection.of(experiment.comparisons(request.scale))

    def _jobs(
        self, experiment: Experiment, tell: Callable[[str], None] = lambda what: None
    ) -> list[Job]:
        if not isinstance(experiment, Computation):
            return []
        request = replace(self.request, threads=self.threads(experiment), tell=tell)
        return [*experiment.jobs(request)]

    def _measure(
        self,
        experiment: Measurement,
        comparisons: list[Comparison],
        store: RecordStore,
        progress: Progress,
    ) -> list[Record]:
        pace = experiment.paces[self.request.scale]
        runner = Runner(
            store,
            self._environment,
            pace.timeout,
            pace.patience,
            int(MEMORY_FRACTION * self._memory),
            progress,
            self.peer_python.absolute(),
            self.workers,
        )
        runner.run(comparisons)
        return runner.made

    def _compute(
        self, jobs: Iterable[Job], store: RecordStore, progress: Progress
    ) -> list[Record]:
        """Do the jobs; one that fails is recorded, and the next one begins."""
        journal = Journal(store, self._environment, Conditions(), lambda finished: None)
        for job in jobs:
            progress(job.title, 0)
            if not all(_is_done(journal, cell) for cell in job.cells):
                journal.add(attempt(job.cells, job.run))
            progress("", 1)
        return journal.made


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch's operations have as many threads within."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _is_done(journal: Journal, cell: Cell) -> bool:
    """Whether there is a result; what went wrong, memory that ran out too, may go well today."""
    known = journal.find(cell)
    return known is not None and known.status is Status.OK
