"""The yardstick of contractions: as many flops in large matrix products, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.measure.accuracy import Check, Outcome, Reference, relative_error
from benchmarks.methods.base import Method, NotApplicableError
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed, Task

INNER = 4096
"""Length of the inner products: long enough for the full speed of the machine."""


class MatrixProduct(Method):
    """Matrix products with as many flops as the cheapest contractions of the Gram matrix.

    Their time is the least that the contractions could take on this machine: what `vivit` plans,
    at the rate of large products. Its ratio to the time of a method is the share of the roofline
    that the method reaches.
    """

    name = "matrix_product"
    label = Label("matrix products")
    description = (
        "yardstick: large matrix products with as many flops as the cheapest contractions of the "
        "Gram matrix, and nothing else"
    )
    tolerance = 1e-4

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Plan the Gram matrix and draw factors."""
        if task.computed is not Computed.GRAM or not task.is_plain:
            raise NotApplicableError(
                f"Matrix products are the yardstick of Gram matrices, not of: {task.title}."
            )
        from vivit import GGN  # here, since the name is the original's in its environment

        plan = GGN(instance.model, instance.loss_func, (instance.inputs, instance.targets)).plan()
        size = plan.num_columns
        count, rest = divmod(max(round(plan.flops / (2 * size**2)), 1), INNER)
        inner = [INNER] * count + [rest] * (rest > 0)
        factor = _factor(size, instance.like)
        product = torch.empty(size, size, dtype=factor.dtype, device=factor.device)

        def run() -> Outcome:
            for length in inner:
                torch.mm(factor[:, :length], factor[:, :length].T, out=product)
            details = {"flops": 2 * size**2 * sum(inner), "last": inner[-1]}
            return Outcome(product[0].clone(), details=details)

        return run

    def check(
        self, outcome: Outcome, instance: Instance, task: Task, reference: Reference
    ) -> Check:
        """The first row of the last product, relative to its norm in float64."""
        size = len(outcome.values)
        factor = _factor(size, instance.like)[:, : outcome.details["last"]].double()
        exact = factor @ factor[0]
        error = relative_error(outcome.values, exact)
        return Check(error, self.tolerance, "the same in float64")


def _factor(size: int, like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, INNER, generator=generator, dtype=like.dtype).to(like.device)
