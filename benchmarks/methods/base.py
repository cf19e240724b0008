"""What a method is: one small object that prepares a problem and then runs on it."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor

from benchmarks.measure.accuracy import Check, Outcome, Reference, check
from benchmarks.measure.time_and_memory import peak_bytes
from benchmarks.problems.problem import Instance
from benchmarks.records.label import Label
from benchmarks.records.names import unknown
from benchmarks.records.settings import method_text
from benchmarks.records.tasks import Computed, Grouping, Task


class NotApplicableError(Exception):
    """The method does not do this task."""


class Method(ABC):
    """A way to compute curvature, or a yardstick.

    Attributes:
        name: Short name, which records have.
        label: Its name in reports.
        description: One line for people: what it computes, and how.
        tolerance: Largest relative error of eigenvalues in single precision at which its time
            counts.
        is_peer: Whether it runs in the environment of the original package.
        takes_batches: Whether it takes samples in several batches.
        has_processes: Whether others do its work, so that tensors of this process tell nothing of
            its memory.
        settings: A frozen dataclass of positive numbers with defaults; None if there are none.
    """

    name: str
    label: Label
    description: str
    tolerance: float
    is_peer: bool = False
    takes_batches: bool = False
    has_processes: bool = False
    settings: Any = None

    @property
    def changed(self) -> dict[str, Any]:
        """Settings that are not the method's own, by name."""
        if self.settings is None:
            return {}
        own, here = asdict(type(self.settings)()), asdict(self.settings)
        return {name: value for name, value in here.items() if value != own[name]}

    @property
    def text(self) -> str:
        """Name, and settings that are not its own, as users write them."""
        return method_text(self.name, self.changed)

    def with_settings(self, values: Mapping[str, str]) -> Method:
        """The same method with other settings, where what is inaccurate is a result.

        Args:
            values: By name, as users write them.

        Returns:
            A method of the same name.

        Raises:
            ValueError: It has no such setting, or the value is no positive number.
        """
        own = {} if self.settings is None else asdict(self.settings)
        for name in values:
            if not own:
                raise ValueError(f"{self.name} has no settings, got {name!r}")
            if name not in own:
                raise ValueError(unknown(f"setting of {self.name}", name, own))
        given = {name: _number(name, text, type(own[name])) for name, text in values.items()}
        chosen = copy.copy(self)
        if given:
            chosen.settings = replace(self.settings, **given)
        if chosen.changed:
            chosen.tolerance = math.inf
        return chosen

    @abstractmethod
    def prepare(self, instance: Instance, task: Task) -> Callable[[], Outcome]:
        """Do everything that is not to be measured.

        Args:
            instance: The problem.
            task: What to compute.

        Returns:
            The function to be measured; it can be called many times.

        Raises:
            NotApplicableError: The method does not do this task.
        """

    def peak(self, run: Callable[[], Outcome], device: str) -> int:
        """Peak memory of a run above what is allocated before it.

        Args:
            run: What `prepare` gave.
            device: As torch names it.

        Returns:
            Bytes.
        """
        return peak_bytes(run, device)

    def check(
        self, outcome: Outcome, instance: Instance, task: Task, reference: Reference
    ) -> Check:
        """Compare a result with the reference.

        Args:
            outcome: What a run gave.
            instance: The problem that it ran on.
            task: What it was to compute.
            reference: The result in float64.

        Returns:
            The error, and how large it may be.
        """
        return check(outcome, task, reference, self.tolerance)


def _number(name: str, text: str, kind: type) -> Any:
    try:
        value = kind(float(text)) if float(text) == kind(float(text)) else math.nan
    except (ValueError, OverflowError):
        value = math.nan
    if not 0 < value < math.inf:
        what = "whole number" if kind is int else "number"
        raise ValueError(f"{name} must be a positive {what}, got {text!r}")
    return value


def refuse_others(
    method: Method, task: Task, computed: tuple[Computed, ...], in_blocks: bool = False
) -> None:
    """Refuse all tasks but some quantities of the exact GGN.

    Args:
        method: Who refuses.
        task: What is asked for.
        computed: What the method is measured for.
        in_blocks: Whether also for blocks of the GGN.

    Raises:
        NotApplicableError: The task is another one.
    """
    whole = replace(task, grouping=Grouping.NETWORK) if in_blocks else task
    if task.computed not in computed or not whole.is_plain:
        choices = " and ".join(c.value for c in computed)
        of = "" if in_blocks else " and the whole network"
        raise NotApplicableError(
            f"{method.name} is measured for {choices} of the exact GGN of all samples{of}, not "
            f"for: {task.title}."
        )


def refuse_batches(method: Method, instance: Instance) -> None:
    """Refuse samples in several batches where a method would take them as one.

    Args:
        method: Who refuses.
        instance: The problem.

    Raises:
        NotApplicableError: There are several.
    """
    if instance.pieces > 1 and not method.takes_batches:
        raise NotApplicableError(
            f"{method.name} takes the samples in a single batch, not in {instance.pieces}."
        )


def refuse_processes(method: Method, figure: str) -> None:
    """Refuse figures of this process where others do the work.

    Args:
        method: Who refuses.
        figure: What is asked for, in words.

    Raises:
        NotApplicableError: The method has processes of its own.
    """
    if method.has_processes:
        raise NotApplicableError(
            f"{method.name} computes in processes of its own, of which {figure} is not measured."
        )


def refuse_nested_inputs(method: Method, instance: Instance) -> None:
    """Refuse inputs other than a tensor, which BackPACK's modules do not take.

    Args:
        method: Who refuses.
        instance: The problem.

    Raises:
        NotApplicableError: They are something else.
    """
    if not isinstance(instance.inputs, Tensor):
        raise NotApplicableError(
            f"{method.name} runs inside BackPACK, whose modules take a single tensor, not a "
            f"{type(instance.inputs).__name__}."
        )


def refuse_combinations(method: Method, task: Task) -> None:
    """Refuse variants and blocks of anything but a spectrum or a step.

    Args:
        method: Who refuses.
        task: What is asked for.

    Raises:
        NotApplicableError: The task is such a combination.
    """
    of_blocks = (Computed.EIGENVALUES, Computed.PAIRS, Computed.NEWTON_STEP)
    variant = task.computed not in (*of_blocks, Computed.GRAM) and not task.is_plain
    in_blocks = task.grouping is not Grouping.NETWORK and task.computed not in of_blocks
    if variant or in_blocks:
        raise NotApplicableError(
            f"{method.name} is measured for eigenvalues, leading pairs and steps of blocks, and "
            "for all else of the network without approximation, not for: "
            f"{task.title}."
        )
