"""Baselines: stochastic traces of curvlinops' matrix-free GGN, from products alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from curvlinops import xtrace
from torch import Tensor

from benchmarks.measure.accuracy import Outcome
from benchmarks.methods.base import Method, NotApplicableError, refuse_others
from benchmarks.methods.conventions import Sketched, matrix_free_ggn
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import Computed, Task


@dataclass(frozen=True)
class Settings:
    """Of an estimate.

    Attributes:
        products: With the GGN, an even number.
    """

    products: int = 32


class StochasticTrace(Method):
    """XTrace: half of the products find a subspace, each is used for the rest as well.

    Epperly, Tropp, Webber, "XTrace: making the most of every sample in stochastic trace
    estimation" (2024).
    """

    tolerance = 0.2
    """Of an estimate: a check that it is one. Its error stands beside its time."""
    takes_batches = True
    settings = Settings()

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """See that there are fewer products than parameters."""
        refuse_others(self, task, (Computed.TRACE,))
        products = self.settings.products
        if products % 2 or products >= instance.num_parameters:
            raise NotApplicableError(
                f"{self.name} takes an even number of products below the number of parameters, "
                f"{instance.num_parameters}, got {products}."
            )

        def run() -> Outcome:
            trace = self.estimate(instance, products)
            return Outcome(trace.reshape(1), details={"products": products})

        return run

    @abstractmethod
    def estimate(self, instance: Instance, products: int) -> Tensor:
        """Estimate the trace.

        Args:
            instance: The problem.
            products: How many, even.

        Returns:
            A number.
        """


class CurvlinopsTrace(StochasticTrace):
    """By curvlinops."""

    name = "curvlinops_trace"
    label = Label("XTrace (curvlinops)", "XTrace of curvlinops")
    description = "curvlinops' XTrace on its matrix-free GGN: an estimate"

    def estimate(self, instance: Instance, products: int) -> Tensor:
        """With random vectors of a generator of its own."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return xtrace(matrix_free_ggn(instance), products)


class SkerchTrace(StochasticTrace):
    """By skerch."""

    name = "skerch_trace"
    label = Label("XTrace (skerch)", "XTrace of skerch")
    description = "skerch's XTrace on curvlinops' matrix-free GGN: an estimate"

    def estimate(self, instance: Instance, products: int) -> Tensor:
        """Without the diagonal, which it could give as well."""
        from skerch.algorithms import xhutchpp  # here: the environment of peers has none

        like = instance.like
        found = xhutchpp(
            Sketched(matrix_free_ggn(instance)),
            like.device,
            like.dtype,
            x_dims=products // 2,
            return_diag=False,
        )
        return found["tr"]
