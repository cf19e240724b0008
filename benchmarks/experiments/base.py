"""What an experiment is: a published question, and what has to be measured to answer it again."""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.grid.comparison import Comparison
from benchmarks.grid.suites import Cell as Point
from benchmarks.problems.own import find_problem
from benchmarks.records.label import Label
from benchmarks.records.names import Choice
from benchmarks.records.record import Quantity, Status
from benchmarks.run.cells import Cell
from benchmarks.run.journal import Answer
from benchmarks.run.process import without_places
from benchmarks.run.serve import reason_of, status_of


class Scale(Choice):
    """How much of an experiment is done."""

    SMOKE = "smoke"
    """Does it work?"""
    QUICK = "quick"
    """All experiments together in at most two hours on two cores."""
    PAPER = "paper"
    """The published grid in full."""


@dataclass(frozen=True)
class Request:
    """What a user asks of an experiment.

    Attributes:
        scale: How much of it.
        problems: Names of problems, or ``path/to/file.py:function``, in place of those of the
            experiment; None for those.
        device: As torch names it.
        threads: For torch's operations.
        seed: For weights, data and all that is drawn.
        data_root: Where data sets are.
        samples: Of a problem of the user's own, if it is trained.
        checkpoints: Folder of trainings.
        tell: Is told what runs.
    """

    scale: Scale
    checkpoints: Path
    problems: tuple[str, ...] | None = None
    device: str = "cpu"
    threads: int = 1
    seed: int = 0
    data_root: Path | None = None
    samples: int = 1000
    tell: Callable[[str], None] = field(default=lambda what: None, compare=False)

    def parameters(self, problem: str) -> dict[str, Any]:
        """What a record of a problem depends on, whatever is computed.

        Args:
            problem: Its name, or ``path/to/file.py:function``.

        Returns:
            Plain JSON types.
        """
        found = find_problem(problem)
        own = getattr(found, "digest", None)
        return {
            "device": self.device,
            "dtype": "float32",
            "threads": self.threads,
            "seed": self.seed,
            "data": found.kind_of_data(self.data_root),
            **({} if own is None else {"source": own}),
        }


@dataclass(frozen=True)
class Pace:
    """How long a measured experiment takes for a method.

    Attributes:
        repeats: Timed runs.
        timeout: Seconds that a single step may take.
        patience: Seconds after which a slow method is not timed again.
    """

    repeats: int
    timeout: float
    patience: float


PACES = {
    Scale.SMOKE: Pace(1, 60, 0),
    Scale.QUICK: Pace(3, 300, 10),
    Scale.PAPER: Pace(20, 1800, 600),
}


class Experiment(ABC):
    """A published question.

    Attributes:
        name: Short name, which is the suite of its records.
        label: Its name in reports.
        description: What it asks, in one line.
        published: What was measured in the paper, for people.
        scaled: How the scale ``quick`` differs.
        on_own: Whether it may run on other problems than its own.
        is_small: Whether its own networks, but for the published ones, are so small that several
            threads are slower than one.
    """

    name: str
    label: Label
    description: str
    published: str
    scaled: str
    on_own: bool = True
    is_small: bool = False


class Measurement(Experiment):
    """Time, memory or batch sizes of methods, as the harness measures them.

    Attributes:
        paces: How long it takes for a method.
        with_memory: Whether memory is measured besides time.
    """

    paces: Mapping[Scale, Pace] = PACES
    with_memory: bool = False

    @abstractmethod
    def points(self, scale: Scale) -> Sequence[Point]:
        """The grid.

        Args:
            scale: How much of it.

        Returns:
            Its points, of the suite that has the experiment's name.
        """

    def comparisons(self, scale: Scale) -> list[Comparison]:
        """The grid as what the harness measures.

        Args:
            scale: How much of it.

        Returns:
            The comparisons.
        """
        made = (point.comparison(self.paces[scale].repeats) for point in self.points(scale))
        return [replace(comparison, with_memory=self.with_memory) for comparison in made]


@dataclass(frozen=True)
class Job:
    """A piece of work, whose results are recorded together.

    Attributes:
        title: In a few words, for the progress bar.
        cells: What it gives.
        run: Does it, and returns an answer for each cell.
    """

    title: str
    cells: tuple[Cell, ...]
    run: Callable[[], Mapping[Cell, Answer]]


class Computation(Experiment):
    """Something else than time and memory, which the experiment computes by itself."""

    def check(self, request: Request) -> None:
        """Find what is wrong before anything is computed.

        Args:
            request: What the user asks for.

        Raises:
            DataError: A problem cannot be trained, or its data is not there.
        """

    @abstractmethod
    def jobs(self, request: Request) -> Sequence[Job]:
        """The work, in an order in which each piece finds what it needs.

        Args:
            request: What the user asks for.

        Returns:
            The jobs; nothing has been computed yet.
        """

    def cell(
        self, problem: str, method: str, quantity: Quantity, parameters: Mapping[str, Any]
    ) -> Cell:
        """Something that is computed.

        Args:
            problem: Its name, as records have it.
            method: What gives it.
            quantity: What it is.
            parameters: All that it depends on.

        Returns:
            The cell of a record of this experiment.
        """
        return Cell(self.name, problem, method, quantity, dict(parameters))


def attempt(
    cells: Sequence[Cell], compute: Callable[[], Mapping[Cell, Answer]]
) -> dict[Cell, Answer]:
    """Compute, and say what went wrong if it does not work.

    Args:
        cells: What should come out.
        compute: Gives an answer for each of them.

    Returns:
        Its answers; if it fails, that it did and why, for each cell.
    """
    try:
        answers = dict(compute())
        if answers.keys() != {*cells}:
            lacking = [cell.method for cell in cells if cell not in answers]
            raise LookupError(f"there is no answer, or one too many; lacking: {lacking}")
    except Exception as error:
        answer = {
            "status": status_of(error, simulated=False).value,
            "reason": reason_of(error),
            "details": {"stderr": without_places(traceback.format_exc())},
        }
        return dict.fromkeys(cells, answer)
    return answers


def ok(samples: Sequence[float], **details: Any) -> Answer:
    """The answer of a job for one of its cells.

    Args:
        samples: The numbers.
        **details: Facts about them, as plain JSON types.

    Returns:
        What a record is made of.
    """
    return {"status": Status.OK.value, "samples": [*samples], "details": details}
