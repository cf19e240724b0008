"""Ours: `vivit.GGN`, `vivit.block_diagonal`, and the rest of the family."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure.accuracy import Check, Outcome, Reference, check
from benchmarks.methods.base import Method, NotApplicableError, refuse_combinations
from benchmarks.methods.conventions import above_cutoff, flat_vectors
from benchmarks.methods.family import family_run, missing_of_family
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import (
    NEWTON_DAMPING,
    Approximation,
    Computed,
    Grouping,
    Subset,
    Task,
)

DRAWS_TOLERANCE = 1e-2
"""Of sampled curvature: single precision decides near-ties of a max pooling otherwise than double,
and one of few columns that goes another way changes a small block by 1e-3."""

PAIRS_TOLERANCE = 5e-4
"""Of residuals of leading pairs. The library's Lanczos iteration ends at the square root of the
precision, 3.5e-4; eigenvalues, whose error is of second order, are far more accurate."""


class Gram(Method):
    """Every task as the library does it by default.

    That is through the Gram matrix, layer by layer, V never stored; leading eigenpairs of very
    many columns by the library's Lanczos iteration, where it expects that to be faster.
    """

    name = "gram"
    label = Label("vivit (Gram)", "vivit")
    description = (
        "this library: the exact Gram matrix of the low-rank factor V, summed up layer by layer "
        "without storing V as a whole (few pairs of very many columns: Lanczos)"
    )
    tolerance = 1e-4
    takes_batches = True

    def check(
        self, outcome: Outcome, instance: Instance, task: Task, reference: Reference
    ) -> Check:
        """As for all; leading pairs may come from an iteration that ends at a larger residual."""
        if task.approximation is Approximation.MONTE_CARLO:
            return check(outcome, task, reference, DRAWS_TOLERANCE)
        if task.computed is Computed.PAIRS:
            return check(outcome, task, reference, PAIRS_TOLERANCE)
        return super().check(outcome, instance, task, reference)

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Import only: the forward pass belongs to the measured work."""
        refuse_combinations(self, task)
        if task.computed is Computed.PRECONDITIONED:
            raise NotApplicableError(
                f"{self.name} is measured for all but Kronecker factors, not for: {task.title}."
            )
        import vivit  # here, since the name is the original's in the environment of peers

        options = _options(vivit, instance, task)
        data = data_of(instance)
        if task.computed.is_of_family:
            return family_run(vivit, instance, task.computed, data, options)

        def on_network() -> Outcome:
            ggn = vivit.GGN(instance.model, instance.loss_func, data, **options)
            return _compute(ggn, task)

        def in_blocks() -> Outcome:
            blocks = vivit.block_diagonal(
                instance.model, instance.loss_func, data, groups=task.grouping.value, **options
            )
            if task.computed is Computed.EIGENVALUES:
                values = [block.eigvalsh() for block in blocks.values()]
                return Outcome(torch.cat(values), blocks=tuple(map(len, values)))
            if task.computed is Computed.NEWTON_STEP:
                return Outcome(torch.cat([_step(block) for block in blocks.values()]))
            pairs = [block.eigh(k=task.k) for block in blocks.values()]
            return Outcome(
                torch.cat([found.values for found in pairs]),
                tuple(flat_vectors(found.vectors.values()) for found in pairs),
                tuple(len(found.values) for found in pairs),
            )

        return on_network if task.grouping is Grouping.NETWORK else in_blocks


def data_of(instance: Instance) -> Any:
    """As the library takes it: a batch, or several."""
    batches = instance.batches
    return batches if len(batches) > 1 else batches[0]


def num_columns(instance: Instance, task: Task) -> int:
    """Columns of the factor ``V`` of the GGN; blocks have as many.

    Args:
        instance: The problem.
        task: Approximation and subset.

    Returns:
        For cross-entropy with ``C`` classes, ``C - 1`` for each carrying sample.
    """
    return curvature_of(instance, task).num_columns


def curvature_of(instance: Instance, task: Task) -> Any:
    """The GGN of the whole network.

    Args:
        instance: The problem.
        task: Approximation and subset.

    Returns:
        A ``vivit.GGN`` of all samples as one batch.
    """
    import vivit

    data = (instance.inputs, instance.targets)
    return vivit.GGN(instance.model, instance.loss_func, data, **_options(vivit, instance, task))


def missing_parts(vivit: Any, task: Task) -> list[str]:
    """What a version of the library lacks for a task: an old commit may.

    Args:
        vivit: The library.
        task: What is computed.

    Returns:
        Names within ``vivit``, such as ``GGN.eigh`` or ``GGN(subset)``.
    """
    of_task = {
        Computed.PAIRS: "eigh",
        Computed.NEWTON_STEP: "newton_step",
        Computed.GRAM: "gram",
        Computed.DERIVATIVES: "directional_derivatives",
    }
    if not hasattr(vivit, "GGN"):
        return ["GGN"]
    if task.computed.is_of_family:
        return missing_of_family(vivit, task.computed)
    method = of_task.get(task.computed, "eigvalsh")
    missing = [] if hasattr(vivit.GGN, method) else [f"GGN.{method}"]
    names = [
        *(["MonteCarlo"] if task.approximation is Approximation.MONTE_CARLO else []),
        *(["block_diagonal"] if task.grouping is not Grouping.NETWORK else []),
    ]
    missing += [name for name in names if not hasattr(vivit, name)]
    if task.subset is not Subset.WHOLE:
        missing += missing_options(vivit, ["subset"])
    return missing


def missing_options(vivit: Any, options: Sequence[str]) -> list[str]:
    """Arguments that ``vivit.GGN`` does not take.

    Args:
        vivit: The library.
        options: Names of arguments.

    Returns:
        Those that it lacks, such as ``GGN(memory)``.
    """
    known = inspect.signature(vivit.GGN).parameters
    return [f"GGN({option})" for option in options if option not in known]


def _options(vivit: Any, instance: Instance, task: Task) -> dict[str, Any]:
    """Approximation, subset and memory, as arguments of the library."""
    options: dict[str, Any] = {}
    if task.approximation is Approximation.MONTE_CARLO:
        options["approximation"] = vivit.MonteCarlo(samples=1, seed=0)
    if task.subset is Subset.EIGHTH:
        options["subset"] = range(task.num_samples(instance.num_samples))
    if instance.memory is not None:
        options["memory"] = instance.memory
    return options


def _compute(ggn: Any, task: Task) -> Outcome:
    details = {"num_columns": ggn.num_columns}
    if task.computed is Computed.EIGENVALUES:
        return Outcome(ggn.eigvalsh(), details=details)
    if task.computed is Computed.GRAM:
        return Outcome(ggn.gram(), details=details)
    if task.computed is Computed.NEWTON_STEP:
        return Outcome(_step(ggn), details=details)
    if task.computed is Computed.DENSITY:
        return Outcome(ggn.eigvalsh(), details=details)
    if task.computed is Computed.DERIVATIVES:
        found = ggn.directional_derivatives(k=task.k)
        both = torch.cat([found.gammas.flatten(), found.lambdas.flatten()])
        return Outcome(both, details=details)
    pairs = ggn.eigh(k=task.k)
    return Outcome(pairs.values, (flat_vectors(pairs.vectors.values()),), details=details)


def _step(ggn: Any) -> Tensor:
    """The damped Newton step of the network or of a block, flat."""
    step = ggn.newton_step(NEWTON_DAMPING, criterion=above_cutoff)
    return torch.cat([s.flatten() for s in step.values()])
