"""Baseline: power iteration with deflation on the Gram matrix instead of the GGN."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.measure.accuracy import Outcome
from benchmarks.methods.base import Method, refuse_others
from benchmarks.methods.power_iteration import Rule, power_iteration
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed, Task


class GramPowerIteration(Method):
    """Leading eigenpairs of the Gram matrix one by one, and then ``e = V e~ / sqrt(lambda)``.

    The iteration is that of `PowerIteration`, as in the published experiment on it; its products
    are with a matrix of the size of ``N C`` instead of passes through the network.
    """

    name = "gram_power_iteration"
    label = Label("power iteration on the Gram matrix", "power iteration, Gram")
    description = "the same iteration on this library's Gram matrix instead of the GGN"
    tolerance = 0.1

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Import only."""
        refuse_others(self, task, (Computed.PAIRS,))
        from vivit import GGN  # here, since the name is the original's in its environment

        k = task.k or 0  # a number, since pairs are asked for

        def run() -> Outcome:
            ggn = GGN(instance.model, instance.loss_func, (instance.inputs, instance.targets))
            start = torch.Generator(device=instance.like.device).manual_seed(0)
            gram = ggn.gram()
            values, vectors, iterations = power_iteration(gram, k, start, gram, Rule())
            directions = (ggn.factor_operator() @ (vectors.T / values.sqrt())).T
            details = {"iterations": iterations}
            return Outcome(values.flip(0), (directions.flip(0),), details=details)

        return run
