"""What a method is: one small object that prepares a problem and then runs on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from benchmarks.problems import Instance


class NotApplicableError(Exception):
    """The method does not do this task."""


@dataclass(frozen=True)
class Task:
    """What is to be computed.

    Attributes:
        k: Number of leading eigenpairs; None for all eigenvalues without vectors.
    """

    k: int | None


@dataclass(frozen=True)
class Outcome:
    """What a run computed.

    Attributes:
        values: Eigenvalues in ascending order; for the gradient, its flat entries.
        vectors: Eigenvectors to the values, shape ``[K, D]``, if they were asked for.
        details: Facts worth recording, such as numbers of iterations.
    """

    values: Tensor
    vectors: Tensor | None = None
    details: dict[str, Any] = field(default_factory=dict)


class Method(Protocol):
    """A way to compute curvature, or a yardstick."""

    @property
    def name(self) -> str:
        """Short name."""
        ...

    @property
    def description(self) -> str:
        """One line for people: what it computes, and how."""
        ...

    @property
    def tolerance(self) -> float:
        """Largest relative error in single precision at which its time counts."""
        ...

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Do everything that is not to be measured.

        Args:
            instance: The problem.
            task: What to compute.

        Returns:
            The function to be measured; it can be called many times.
        """
        ...

    def error(self, outcome: Outcome, instance: Instance, reference: Tensor) -> float:
        """Relative error of a result.

        Args:
            outcome: What a run gave.
            instance: The problem that it ran on.
            reference: All eigenvalues in float64, ascending.

        Returns:
            The error, computed in float64.
        """
        ...


def spectral_error(values: Tensor, reference: Tensor) -> float:
    """Largest error of the leading eigenvalues, relative to the largest one.

    Args:
        values: Eigenvalues in ascending order, shape ``[K]``.
        reference: Eigenvalues in float64, ascending; those that it lacks are zero.

    Returns:
        ``max_k |lambda_k - ref_k| / ref_max``.
    """
    zeros = reference.new_zeros(max(len(values) - len(reference), 0))
    expected = torch.cat([zeros, reference])[-len(values) :]
    return float((values.double().cpu() - expected).abs().max() / reference[-1])
