"""Baseline: power iteration with deflation on the matrix-free GGN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.measure.accuracy import Outcome
from benchmarks.methods.base import Method, refuse_others
from benchmarks.methods.conventions import blocks
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed, Task

if TYPE_CHECKING:
    from vivit import GGN


@dataclass(frozen=True)
class Rule:
    """When an eigenpair is good enough.

    Attributes:
        tolerance: Change of the eigenvalue, relative to itself, below which it is.
        most_iterations: For one pair.
    """

    tolerance: float = 1e-3
    most_iterations: int = 100


class PowerIteration(Method):
    """Leading eigenpairs one after the other, as in PyHessian and the published experiments.

    At most 100 iterations per pair, until ``|new - old| / (|old| + 1e-6) < 1e-3``; uniform random
    start; orthogonal to the pairs already found in every iteration, and so is what is kept.
    (PyHessian keeps the last product as it is. Then the projection on the others is not exact,
    and after the ``C - 1`` outliers of a spectrum it finds them again instead of the next, much
    smaller pair.) The products ``G v`` come from `vivit.GGN`, whose set-up is part of the measured
    time. Blocks have an operator each.
    """

    name = "power_iteration"
    label = Label("power iteration")
    description = (
        "repeated products of the matrix-free GGN with a vector, one eigenpair after the other, "
        "until they converge"
    )
    tolerance = 0.1
    settings = Rule()

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Import only."""
        refuse_others(self, task, (Computed.PAIRS,), in_blocks=True)
        from vivit import GGN  # here, since the name is the original's in its environment

        k = task.k or 0  # a number, since pairs are asked for
        data = (instance.inputs, instance.targets)
        like = instance.like

        def run() -> Outcome:
            start = torch.Generator(device=like.device).manual_seed(0)
            found = [
                power_iteration(
                    GGN(instance.model, instance.loss_func, data, params=names),
                    k,
                    start,
                    like,
                    self.settings,
                )
                for names in blocks(instance.model, task.grouping)
            ]
            return Outcome(
                torch.cat([values.flip(0) for values, _, _ in found]),
                tuple(vectors.flip(0) for _, vectors, _ in found),
                (k,) * len(found),
                details={"iterations": [n for _, _, counts in found for n in counts]},
            )

        return run


def power_iteration(
    matrix: GGN | Tensor, k: int, generator: torch.Generator, like: Tensor, rule: Rule
) -> tuple[Tensor, Tensor, list[int]]:
    """The ``k`` leading eigenpairs of a positive semi-definite operator.

    Args:
        matrix: The operator.
        k: Number of pairs.
        generator: For the random starts.
        like: A tensor of the dtype and device to use.
        rule: When a pair is done.

    Returns:
        Eigenvalues in the order found (descending but for errors), shape ``[k]``; eigenvectors,
        shape ``[k, D]``; and the number of iterations of each.
    """
    size = matrix.shape[0]
    found = like.new_empty(0, size)
    values, iterations = [], []
    for _ in range(k):
        v = torch.rand(size, generator=generator, dtype=like.dtype, device=like.device)
        value, count = float("inf"), 0
        for count in range(1, rule.most_iterations + 1):  # noqa: B007 - recorded after the loop
            v = v - found.T @ (found @ v)
            v = v / v.norm()
            product = matrix @ v
            last, value = value, float(v @ product)
            v = product / product.norm()
            if abs(value - last) < rule.tolerance * (abs(last) + 1e-6):
                break
        v = v - found.T @ (found @ v)
        found = torch.cat([found, (v / v.norm())[None]])
        values.append(value)
        iterations.append(count)
    return like.new_tensor(values), found, iterations
