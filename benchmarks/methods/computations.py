"""The computations inside BackPACK's backward pass: ours, and what the original's share."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from backpack import backpack, extend
from torch import nn

from benchmarks.measure.accuracy import Check, Outcome, Reference, check_draws
from benchmarks.methods.backpack_form import backpack_form
from benchmarks.methods.base import (
    Method,
    NotApplicableError,
    refuse_combinations,
    refuse_nested_inputs,
)
from benchmarks.methods.conventions import above_cutoff, blocks, flat_vectors
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.tasks import (
    FAMILY,
    NEWTON_DAMPING,
    Approximation,
    Computed,
    Subset,
    Task,
)


class Computations(Method):
    """Eigenvalues, eigenpairs and Newton steps during BackPACK's backward pass."""

    tolerance = 1e-4

    @abstractmethod
    def package(self) -> Any:
        """The module with the computations."""

    @abstractmethod
    def details(self, notes: Sequence[str]) -> dict[str, Any]:
        """Facts for records.

        Args:
            notes: What the network needed to run in BackPACK.

        Returns:
            Plain JSON types.
        """

    def setting(self) -> AbstractContextManager[Any]:
        """In what to run; nothing by default."""
        return nullcontext()

    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Extend model and loss by BackPACK."""
        refuse_combinations(self, task)
        refuse_nested_inputs(self, instance)
        if task.computed in (Computed.GRAM, Computed.DENSITY, Computed.PRECONDITIONED, *FAMILY):
            raise NotApplicableError(f"The computations give no {task.title}.")
        package = self.package()
        torch.manual_seed(0)  # of the only generator that Monte-Carlo samples come from
        # of their own, for hooks stay: they are in the way of others that use the instance
        form, notes = backpack_form(copy.deepcopy(instance.model))
        model, loss_func = extend(form), extend(copy.deepcopy(instance.loss_func))
        details = self.details(notes)

        def run() -> Outcome:
            computation = _computation(package, task, instance.num_samples)
            groups = _groups(model, task)
            loss = loss_func(model(instance.inputs), instance.targets)
            hook = computation.get_extension_hook(groups)
            with self.setting(), backpack(*_extensions(computation), extension_hook=hook):
                loss.backward()
            model.zero_grad()
            return _outcome([computation.get_result(group) for group in groups], task, details)

        return run

    def check(
        self, outcome: Outcome, instance: Instance, task: Task, reference: Reference
    ) -> Check:
        """As for all, but for Monte-Carlo results, whose draws are others than the reference's."""
        if task.approximation is Approximation.MONTE_CARLO:
            return check_draws(outcome, task, reference)
        return super().check(outcome, instance, task, reference)


class DropIn(Computations):
    """Ours, under the original's interface."""

    name = "drop_in"
    label = Label("vivit in BackPACK")
    description = (
        "this library under the interface of vivit-for-pytorch 1.0.0, in BackPACK's backward pass"
    )

    def package(self) -> Any:
        """The library, as users import it."""
        import vivit  # here, since the name is the original's in the environment of peers

        return vivit

    def details(self, notes: Sequence[str]) -> dict[str, Any]:
        """What the network needed."""
        return {"notes": [*notes]}


def _computation(package: Any, task: Task, batch_size: int) -> Any:
    if task.computed is Computed.DERIVATIVES:
        return package.DirectionalDerivativesComputation(warn_small_eigvals=0.0)
    whole = task.subset is Subset.WHOLE
    options = {
        "subsampling": None if whole else list(range(task.num_samples(batch_size))),
        "mc_samples": int(task.approximation is Approximation.MONTE_CARLO),
    }
    if task.computed is Computed.NEWTON_STEP:
        of_ggn = {f"{name}_ggn": value for name, value in options.items()}
        return package.DirectionalDampedNewtonComputation(**of_ggn, warn_small_eigvals=0.0)
    if task.computed is Computed.PAIRS:
        return package.EighComputation(**options, warn_small_eigvals=0.0)
    return package.EigvalshComputation(**options)


def _extensions(computation: Any) -> list[Any]:
    if hasattr(computation, "get_extensions"):
        return computation.get_extensions()
    return [computation.get_extension()]


def _groups(model: nn.Module, task: Task) -> list[dict[str, Any]]:
    parameters = dict(model.named_parameters())
    options: dict[str, Any] = {}
    if task.computed.is_about_leading:
        options["criterion"] = lambda values: list(range(len(values)))[-(task.k or 0) :]
    if task.computed is Computed.NEWTON_STEP:
        options["criterion"] = lambda values: above_cutoff(values).nonzero().flatten().tolist()
        options["damping"] = lambda values, *_: torch.full_like(values, NEWTON_DAMPING)
    return [
        {"params": [parameters[name] for name in names], **options}
        for names in blocks(model, task.grouping)
    ]


def _outcome(results: list[Any], task: Task, details: dict[str, Any]) -> Outcome:
    if task.computed is Computed.NEWTON_STEP:
        step = torch.cat([s.flatten() for found in results for s in found])
        return Outcome(step, details=details)
    if task.computed is Computed.DERIVATIVES:
        return Outcome(torch.cat([x.flatten() for x in results[0]]), details=details)
    if task.computed is Computed.PAIRS:
        values = torch.cat([found for found, _ in results])
        directions = tuple(flat_vectors(vectors) for _, vectors in results)
        return Outcome(values, directions, tuple(map(len, directions)), details=details)
    return Outcome(torch.cat(results), blocks=tuple(map(len, results)), details=details)
