"""Ours beyond eigenpairs and steps of the GGN: kernel, Fisher, solve, trace, product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.measure.accuracy import Outcome
from benchmarks.measure.vectors import fixed_vector
from benchmarks.problems.problem import Instance
from benchmarks.records.tasks import SOLVE_DAMPING, Computed

NEEDED = {
    Computed.NTK: "ntk",
    Computed.FISHER: "EmpiricalFisher",
    Computed.SOLVE: "GGN.solve",
    Computed.TRACE: "GGN.trace",
    Computed.PRODUCT: "GGN.__matmul__",
}
"""Of the library: an old commit lacks some."""


def family_run(
    vivit: Any, instance: Instance, computed: Computed, data: Any, options: dict[str, Any]
) -> Callable[[], Outcome]:
    """What is to be measured.

    Args:
        vivit: The library.
        instance: The problem.
        computed: Which of `FAMILY`.
        data: As the library takes it.
        options: Of the matrices, such as memory.

    Returns:
        A function that starts from the network and the batch.
    """
    model, loss_func = instance.model, instance.loss_func
    if computed is Computed.NTK:
        return lambda: Outcome(vivit.ntk(model, instance.inputs))
    if computed is Computed.FISHER:

        def eigenvalues() -> Outcome:
            fisher = vivit.EmpiricalFisher(model, loss_func, data, **options)
            return Outcome(fisher.eigvalsh(), details={"num_columns": fisher.num_columns})

        return eigenvalues
    vector = fixed_vector(instance.num_parameters).to(instance.like)
    results: dict[Computed, Callable[[Any], Any]] = {
        Computed.SOLVE: lambda ggn: ggn.solve(vector, SOLVE_DAMPING),
        Computed.TRACE: lambda ggn: vector.new_tensor([float(ggn.trace())]),
        Computed.PRODUCT: lambda ggn: ggn @ vector,
    }
    return lambda: Outcome(results[computed](vivit.GGN(model, loss_func, data, **options)))


def missing_of_family(vivit: Any, computed: Computed) -> list[str]:
    """What a version of the library lacks for a task.

    Args:
        vivit: The library.
        computed: Which of `FAMILY`.

    Returns:
        A name within ``vivit``, or none.
    """
    owner, _, name = NEEDED[computed].rpartition(".")
    place = getattr(vivit, owner) if owner else vivit
    return [] if hasattr(place, name) else [NEEDED[computed]]
