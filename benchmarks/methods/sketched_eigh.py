"""Baseline: leading eigenpairs from a random sketch of the matrix-free GGN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.measure.accuracy import Outcome
from benchmarks.methods.base import Method, NotApplicableError, refuse_others
from benchmarks.methods.conventions import Sketched, matrix_free_ggn
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed, Task


@dataclass(frozen=True)
class Settings:
    """Of the sketch.

    Attributes:
        oversampling: Random vectors beyond the number of pairs.
    """

    oversampling: int = 10


class SketchedEigh(Method):
    """Random vectors are multiplied, orthonormalised, multiplied again, and the rest is small.

    Halko, Martinsson, Tropp, "Finding structure with randomness" (2011), without a power
    iteration, as skerch has it: eigenpairs of an eigenvalue that others follow closely are rough.
    """

    name = "sketched_eigh"
    label = Label("sketched eigendecomposition (skerch)", "skerch")
    description = (
        "skerch's sketched Hermitian eigendecomposition of curvlinops' matrix-free GGN, two passes"
    )
    tolerance = 0.5
    """Of an approximation: a check that it is one. Its error stands beside its time."""
    takes_batches = True
    settings = Settings()

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Count the random vectors."""
        refuse_others(self, task, (Computed.PAIRS,))
        from skerch.algorithms import seigh  # here: the environment of peers has none

        k, like = task.k or 0, instance.like
        vectors = k + self.settings.oversampling
        if vectors > instance.num_parameters:
            raise NotApplicableError(
                f"{self.name} takes {vectors} random vectors for {k} pairs, got "
                f"{instance.num_parameters} parameters."
            )

        def run() -> Outcome:
            operator = Sketched(matrix_free_ggn(instance))
            values, found = seigh(operator, like.device, like.dtype, vectors, by_mag=False)
            order = values.argsort()[-k:]
            details = {"products": 2 * vectors}
            return Outcome(values[order], (found[:, order].T.contiguous(),), details=details)

        return run
