"""The ratios that the library is to reach, from which the engine suite's grid is made.

Critical batch sizes, which are no ratios of two methods at one batch size, have targets of their
own.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.records.tasks import Approximation, Computed, Grouping, Subset, Task

ORIGINAL = ("original", "original_lean")
"""The settings of the original; the better one counts, for each figure by itself."""


@dataclass(frozen=True)
class Target:
    """What the library is to reach on one problem and task.

    Attributes:
        problem: Name of the problem.
        batch_size: ``N``.
        task: What is computed.
        rivals: Methods to compare with: the best of them, for each figure by itself.
        speed: The rival's time over ours, at least; None if time does not matter.
        memory: The rival's peak memory over ours, at least; None if memory does not matter.
        others: Methods that are measured beside, for orientation.
    """

    problem: str
    batch_size: int
    task: Task
    rivals: tuple[str, ...]
    speed: float | None
    memory: float | None = None
    others: tuple[str, ...] = ()


MONTE_CARLO = Approximation.MONTE_CARLO
LEADING = Task.leading(10)
NEWTON = Task(Computed.NEWTON_STEP)

TARGETS = (
    Target("cifar10_3c3d", 128, Task(), ORIGINAL, 3.0, 4.0, ("naive_gram", "gradient")),
    Target("fmnist_2c2d", 128, Task(), ORIGINAL, 2.5, 4.0, ("gradient",)),
    Target("cifar10_resnet32", 128, Task(), ORIGINAL, 2.5, 4.0, ("gradient",)),
    Target("cifar100_allcnnc", 16, Task(), ORIGINAL, 2.5, 4.0, ("gradient",)),
    Target("cifar10_3c3d", 128, Task(grouping=Grouping.LAYER), ORIGINAL, 2.0, 2.0),
    Target("cifar10_3c3d", 128, Task(approximation=MONTE_CARLO), ORIGINAL, 1.0),
    Target("cifar10_3c3d", 128, Task(subset=Subset.EIGHTH), ORIGINAL, 1.0),
    Target(
        "cifar10_3c3d",
        128,
        Task(approximation=MONTE_CARLO, subset=Subset.EIGHTH),
        ORIGINAL,
        1.0,
    ),
    Target("cifar10_3c3d", 128, LEADING, ("power_iteration",), 30.0),
    Target("cifar10_3c3d", 128, LEADING, ("lanczos",), 3.0),
    Target("fmnist_2c2d", 128, LEADING, ("power_iteration",), 30.0),
    Target("fmnist_2c2d", 128, LEADING, ("lanczos",), 3.0),
    Target("cifar100_allcnnc", 64, LEADING, ("lanczos",), 1.5),
    Target("cifar10_3c3d", 128, NEWTON, ORIGINAL, 5.0, 8.0),
    # "Close to" the yardstick means at most twice its time.
    Target(
        "mlp_linear", 128, Task(Computed.GRAM), ("backpropagation",), 0.5, None, ("naive_gram",)
    ),
    # Shares of the roofline: flops of the cheapest contractions at the rate of matrix products.
    Target("cifar10_3c3d", 128, Task(Computed.GRAM), ("matrix_product",), 0.5),
    Target("fmnist_2c2d", 128, Task(Computed.GRAM), ("matrix_product",), 0.6),
    Target("cifar10_resnet32", 128, Task(Computed.GRAM), ("matrix_product",), 0.5),
)


@dataclass(frozen=True)
class CriticalTarget:
    """What the critical batch size of the library is to reach.

    Attributes:
        problem: Name of the problem.
        task: What is computed.
        budget: Bytes.
        rivals: Methods to compare with: the best of them.
        ratio: Ours over the rival's, at least.
    """

    problem: str
    task: Task
    budget: int
    rivals: tuple[str, ...]
    ratio: float


FOUR_GIB = 4 * 2**30

CRITICAL_TARGETS = (
    CriticalTarget("cifar10_3c3d", Task(), FOUR_GIB, ORIGINAL, 4.0),
    CriticalTarget("cifar10_3c3d", NEWTON, FOUR_GIB, ORIGINAL, 10.0),
    # The limit that the Gram matrix and its eigensolver set by themselves.
    CriticalTarget("cifar10_3c3d", Task(), FOUR_GIB, ("matrix_memory",), 0.6),
)


def critical_methods_by_cell() -> dict[tuple[str, Task, int], tuple[str, ...]]:
    """What has to be searched for all targets of critical batch sizes.

    Returns:
        Problem, task and budget -> names of methods, ours first, each once.
    """
    found: dict[tuple[str, Task, int], tuple[str, ...]] = {}
    for target in CRITICAL_TARGETS:
        cell = (target.problem, target.task, target.budget)
        names = (*found.get(cell, ("gram",)), *target.rivals)
        found[cell] = tuple(dict.fromkeys(names))
    return found


def methods_by_cell() -> dict[tuple[str, int, Task], tuple[str, ...]]:
    """What has to be measured for all targets.

    Returns:
        Problem, batch size and task -> names of methods, ours first, each once.
    """
    found: dict[tuple[str, int, Task], tuple[str, ...]] = {}
    for target in TARGETS:
        cell = (target.problem, target.batch_size, target.task)
        names = (*found.get(cell, ("gram",)), *target.rivals, *target.others)
        found[cell] = tuple(dict.fromkeys(names))
    return found
