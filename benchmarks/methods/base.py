"""What a method is: one small object that prepares a problem and then runs on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from benchmarks.measure.accuracy import Check, Outcome, Reference, check
from benchmarks.problems.problem import Instance
from benchmarks.records.tasks import Computed, Grouping, Task


class NotApplicableError(Exception):
    """The method does not do this task."""


class Method(ABC):
    """A way to compute curvature, or a yardstick.

    Attributes:
        name: Short name.
        description: One line for people: what it computes, and how.
        tolerance: Largest relative error of eigenvalues in single precision at which its time
            counts.
        is_peer: Whether it runs in the environment of the original package.
    """

    name: str
    description: str
    tolerance: float
    is_peer: bool = False

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
    """Refuse what has no reference: variants and blocks of anything but a spectrum.

    Args:
        method: Who refuses.
        task: What is asked for.

    Raises:
        NotApplicableError: The task is such a combination.
    """
    with_variants = (Computed.EIGENVALUES, Computed.PAIRS, Computed.GRAM)
    variant = task.computed not in with_variants and not task.is_plain
    of_blocks = (Computed.EIGENVALUES, Computed.PAIRS)
    in_blocks = task.grouping is not Grouping.NETWORK and task.computed not in of_blocks
    if variant or in_blocks:
        raise NotApplicableError(
            f"{method.name} is measured for eigenvalues and leading pairs of blocks, and for "
            "steps, derivatives and densities of the network without approximation, not for: "
            f"{task.title}."
        )
