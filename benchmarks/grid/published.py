"""What the paper measured: problems, batch sizes, variants and budgets of its grids."""

from __future__ import annotations

from typing import Any

from benchmarks.records.tasks import Approximation, Grouping, Subset, Task

SIZES = {
    "fmnist_2c2d": 128,
    "cifar10_3c3d": 128,
    "cifar10_resnet32": 128,
    "cifar10_resnet56": 128,
    "cifar100_allcnnc": 64,
}
"""Problems, and the batch sizes of their run times."""

BUDGET = 11_264 * 2**20
"""Memory of the published card, an RTX 2080 Ti."""

GROUPINGS = (Grouping.NETWORK, Grouping.LAYER)


def variants(*groupings: Grouping) -> list[dict[str, Any]]:
    """Approximation, subset and blocks, as the published experiments combine them.

    Args:
        *groupings: The blocks; by default the whole network alone.

    Returns:
        Arguments of a task, by name.
    """
    return [
        {"approximation": approximation, "subset": subset, "grouping": grouping}
        for grouping in groupings or (Grouping.NETWORK,)
        for approximation in Approximation
        for subset in Subset
    ]


def is_exact(task: Task) -> bool:
    """Whether power iteration on the matrix itself computes the same."""
    return task.approximation is Approximation.EXACT and task.subset is Subset.WHOLE
