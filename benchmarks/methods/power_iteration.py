"""Baseline: power iteration with deflation on the matrix-free GGN."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.accuracy import Outcome
from benchmarks.methods.base import Method, refuse_others
from benchmarks.problems import Instance
from benchmarks.tasks import Computed, Task

if TYPE_CHECKING:
    from vivit import GGN

MAX_ITERATIONS = 100
TOLERANCE = 1e-3


class PowerIteration(Method):
    """Leading eigenpairs one after the other, as in PyHessian and the published experiments.

    At most 100 iterations per pair, until ``|new - old| / (|old| + 1e-6) < 1e-3``; uniform random
    start; orthogonal to the pairs already found in every iteration, and so is what is kept.
    (PyHessian keeps the last product as it is. Then the projection on the others is not exact,
    and after the ``C - 1`` outliers of a spectrum it finds them again instead of the next, much
    smaller pair.) The products ``G v`` come from `vivit.GGN`, whose set-up is part of the measured
    time.
    """

    name = "power_iteration"
    description = "power iteration on the matrix-free GGN (100 iterations per pair, tol 1e-3)"
    tolerance = 0.1

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Import only."""
        refuse_others(self, task, (Computed.PAIRS,))
        from vivit import GGN  # here, since the name is the original's in its environment

        k = task.k or 0  # a number, since pairs are asked for

        def run() -> Outcome:
            ggn = GGN(instance.model, instance.loss_func, (instance.inputs, instance.targets))
            start = torch.Generator(device=instance.inputs.device).manual_seed(0)
            values, vectors, iterations = power_iteration(ggn, k, start, instance.inputs)
            return Outcome(values.flip(0), vectors.flip(0), details={"iterations": iterations})

        return run


def power_iteration(
    matrix: GGN | Tensor, k: int, generator: torch.Generator, like: Tensor
) -> tuple[Tensor, Tensor, list[int]]:
    """The ``k`` leading eigenpairs of a positive semi-definite operator.

    Args:
        matrix: The operator.
        k: Number of pairs.
        generator: For the random starts.
        like: A tensor of the dtype and device to use.

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
        for count in range(1, MAX_ITERATIONS + 1):  # noqa: B007 - recorded after the loop
            v = v - found.T @ (found @ v)
            v = v / v.norm()
            product = matrix @ v
            last, value = value, float(v @ product)
            v = product / product.norm()
            if abs(value - last) < TOLERANCE * (abs(last) + 1e-6):
                break
        v = v - found.T @ (found @ v)
        found = torch.cat([found, (v / v.norm())[None]])
        values.append(value)
        iterations.append(count)
    return like.new_tensor(values), found, iterations
