"""The cost model: which of the affine kernel's evaluations is the cheapest for a layer.

Counts are those of the implementation in `vivit.layers.affine`, with its triangle taken as half.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

FLOPS_PER_BYTE = 16
"""Assumed number of operations that take as long as moving a byte.

It decides only between evaluations whose flops are close to each other.
"""


class Evaluation(Enum):
    """An order of contraction for the Gram matrix of an affine layer."""

    HADAMARD = "hadamard"
    DIRECT = "direct"
    PAIRWISE = "pairwise"


@dataclass(frozen=True)
class AffineShape:
    """Sizes of an affine layer's factors, per channel group.

    Attributes:
        samples: ``N``.
        columns: ``C``, columns per sample.
        positions: ``T``, shared positions per sample.
        inputs: ``i``, with the constant one of the bias if there is one.
        outputs: ``o``.
        groups: Channel groups, each an affine layer of its own.
        one_hot: Whether inputs are one-hot: their products are comparisons of indices.
    """

    samples: int
    columns: int
    positions: int
    inputs: int
    outputs: int
    groups: int = 1
    one_hot: bool = False

    @property
    def product(self) -> int:
        """Length of the inner product of two inputs."""
        return 1 if self.one_hot else self.inputs


@dataclass(frozen=True)
class Cost:
    """Work of an evaluation: floating-point operations and elements read or written."""

    flops: float
    elements: float

    def time(self, element_size: int) -> float:
        """Predicted time, in units of one floating-point operation.

        Args:
            element_size: Bytes of an element.

        Returns:
            Flops plus what the memory traffic is worth in flops.
        """
        return self.flops + FLOPS_PER_BYTE * element_size * self.elements


def evaluation_cost(evaluation: Evaluation, shape: AffineShape) -> Cost:
    """Cost of adding a layer's Gram matrix by one of the evaluations.

    Args:
        evaluation: The order of contraction.
        shape: Sizes of the layer.

    Returns:
        Flops and memory traffic, all channel groups together.

    Raises:
        ValueError: The Hadamard evaluation with more than one position.
    """
    cost = _COSTS[evaluation](shape)
    return Cost(shape.groups * cost.flops, shape.groups * cost.elements)


def cheapest_evaluation(shape: AffineShape, element_size: int) -> Evaluation:
    """The evaluation with the smallest predicted time.

    Args:
        shape: Sizes of the layer.
        element_size: Bytes of an element.

    Returns:
        The best of the evaluations that are possible.
    """
    return min(
        possible_evaluations(shape),
        key=lambda e: evaluation_cost(e, shape).time(element_size),
    )


def possible_evaluations(shape: AffineShape) -> list[Evaluation]:
    """Those that apply: the Hadamard evaluation is the pairwise one for a single position."""
    by_pairs = Evaluation.HADAMARD if shape.positions == 1 else Evaluation.PAIRWISE
    return [by_pairs, Evaluation.DIRECT]


def keeps_columns(shape: AffineShape, element_size: int) -> bool:
    """Whether a layer's columns are smaller than its factors, and of use for its Gram matrix.

    Args:
        shape: Sizes of the layer.
        element_size: Bytes of an element.

    Returns:
        Whether to keep them instead of the cotangents.
    """
    if shape.inputs > shape.positions:
        return False
    evaluation = cheapest_evaluation(shape, element_size)
    return evaluation is Evaluation.DIRECT or shape.inputs == 1


def _hadamard(x: AffineShape) -> Cost:
    if x.positions != 1:
        raise ValueError(f"The Hadamard evaluation needs one position, got {x.positions}.")
    total = x.samples * x.columns
    flops = total**2 * x.outputs + x.samples**2 * x.product + total**2
    return Cost(flops, 3 * total**2 / 2)


def _direct(x: AffineShape) -> Cost:
    total, size = x.samples * x.columns, x.inputs * x.outputs
    forming = 2 * total * x.positions * x.outputs * x.product
    return Cost(forming + total**2 * size, 2 * total * size + total**2)


def _pairwise(x: AffineShape) -> Cost:
    pairs = x.samples**2 / 2
    inner = x.positions**2 * x.product
    mixed = x.positions**2 * x.columns * x.outputs
    outer = x.columns**2 * x.positions * x.outputs
    traffic = x.positions * (2 * x.positions + x.columns * x.outputs) + x.columns**2
    return Cost(2 * pairs * (inner + mixed + outer), pairs * traffic)


_COSTS: dict[Evaluation, Callable[[AffineShape], Cost]] = {
    Evaluation.HADAMARD: _hadamard,
    Evaluation.DIRECT: _direct,
    Evaluation.PAIRWISE: _pairwise,
}
