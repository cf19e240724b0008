"""Ours: leading eigenpairs by products alone, whatever the library would choose."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.measure.accuracy import Outcome
from benchmarks.methods.base import Method, refuse_others
from benchmarks.methods.conventions import flat_vectors
from benchmarks.methods.gram import PAIRS_TOLERANCE, data_of
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed, Task


class BlockLanczos(Method):
    """Leading eigenpairs by the library's block Lanczos iteration."""

    name = "block_lanczos"
    label = Label("vivit (Lanczos)")
    description = "this library's block Lanczos iteration, on products alone"
    tolerance = PAIRS_TOLERANCE
    takes_batches = True

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Import only: the forward pass belongs to the measured work."""
        refuse_others(self, task, (Computed.PAIRS,))
        import vivit  # here, since the name is the original's in the environment of peers

        def run() -> Outcome:
            ggn = vivit.GGN(instance.model, instance.loss_func, data_of(instance))
            pairs = ggn.eigh(k=task.k, method=vivit.Lanczos())
            return Outcome(pairs.values, (flat_vectors(pairs.vectors.values()),))

        return run
