"""Baseline: the product of curvlinops' matrix-free GGN with a vector."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.measure.accuracy import Outcome
from benchmarks.measure.vectors import fixed_vector
from benchmarks.methods.base import Method, refuse_others
from benchmarks.methods.conventions import matrix_free_ggn
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed, Task


class MatrixFreeProduct(Method):
    """A Jacobian-vector product, the loss Hessian and a vector-Jacobian product."""

    name = "matrix_free_product"
    label = Label("GGN product (curvlinops)", "curvlinops")
    description = "the product of curvlinops' matrix-free GGN with a vector"
    tolerance = 1e-2
    takes_batches = True

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Draw the vector."""
        refuse_others(self, task, (Computed.PRODUCT,))
        vector = fixed_vector(instance.num_parameters).to(instance.like)
        return lambda: Outcome(matrix_free_ggn(instance) @ vector)
