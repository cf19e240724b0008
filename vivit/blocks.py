"""The block diagonal of a curvature matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from vivit.backprop.called import Forward
from vivit.data import Target
from vivit.errors import InputError
from vivit.fisher import EmpiricalFisher
from vivit.ggn import EXACT, GGN
from vivit.gram.blocks import BlockMatrices
from vivit.kinds import GaussNewton, Gradients, Kind
from vivit.low_rank import LowRankCurvature
from vivit.options import Approximation, Subset
from vivit.parameters import Selector
from vivit.ranks import NO_GROUP
from vivit.setup import block_matrices
from vivit.shown import Shown, counted

MATRICES = ("ggn", "empirical_fisher", "gradient_covariance")
"""Whose blocks there are."""


class BlockDiagonal(Shown, Mapping[str, LowRankCurvature]):
    """Diagonal blocks by group name; they share their forward and backward passes."""

    def __init__(self, matrices: BlockMatrices, kind: type[LowRankCurvature] = GGN) -> None:
        """Wrap the blocks that some matrices are of.

        Args:
            matrices: Of all blocks.
            kind: What a block is.
        """
        self._blocks = {group: kind.of_block(matrices, group) for group in matrices.groups}

    def __getitem__(self, group: str) -> LowRankCurvature:
        """The block of a group."""
        return self._blocks[group]

    def __iter__(self) -> Iterator[str]:
        """Group names, in the model's order."""
        return iter(self._blocks)

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self._blocks)

    @property
    def _parts(self) -> dict[str, str]:
        sizes = [f"{name!r}: {block.shape}" for name, block in self._blocks.items()]
        return {"blocks": counted(sizes, what="")}


def block_diagonal(
    model: nn.Module,
    loss_func: Any,
    data: Any,
    groups: str | Mapping[str, Iterable[Selector]] = "layer",
    params: Iterable[Selector] | None = None,
    approximation: Approximation = EXACT,
    subset: Subset | None = None,
    workspace: int | None = None,
    memory: int | None = None,
    progress: bool = False,
    matrix: str = "ggn",
    forward: Forward | None = None,
    target: Target | None = None,
    samples: str = "sequence",
    mixing: str = "refuse",
    process_group: Any = NO_GROUP,
) -> BlockDiagonal:
    """The diagonal blocks of the GGN, or of another matrix, for groups of parameters.

    The Gram matrices of all blocks come from common sweeps of backward passes, made when the first
    of them is asked for.

    Args:
        model: As for `GGN`, as are the next two.
        loss_func: The loss.
        data: A batch ``(X, y)``, or an iterable of batches.
        groups: ``"layer"`` (one block per module that owns parameters, named after it),
            ``"parameter"``, or ``{name: [parameter names, globs or parameters]}``.
        params: The parameters to be grouped; by default all that require gradients.
        approximation: As for `GGN`, as is the next.
        subset: Samples that carry the curvature.
        workspace: As for `GGN`.
        memory: Bytes to get by with beyond the forward pass.
        progress: As for `GGN`.
        matrix: ``"ggn"``, ``"empirical_fisher"``, or ``"gradient_covariance"`` for a centred
            `EmpiricalFisher`.
        forward: As for `GGN`, as is the next.
        target: Maps a batch to its targets.
        samples: As for `GGN`, as is the next.
        mixing: Whether samples may depend on each other.
        process_group: As for `GGN`.

    Returns:
        A mapping from group names to `GGN` or `EmpiricalFisher` blocks.

    Raises:
        InputError: As `GGN`; or groups are unknown, overlap, or leave parameters out, or the
            matrix is unknown, or has no such approximation.
        UnsupportedError: As `GGN`.
    """
    if matrix not in MATRICES:
        raise InputError(
            f"matrix must be one of {', '.join(map(repr, MATRICES))}, got {matrix!r}."
        )
    kind: Kind
    if matrix == "ggn":
        kind = GaussNewton(loss_func, approximation)
    elif approximation == EXACT:
        kind = Gradients(loss_func, centered=matrix == "gradient_covariance")
    else:
        raise InputError(
            f"{matrix!r} has one column per sample already; got approximation={approximation!r}, "
            "which is for matrix='ggn'."
        )
    matrices = block_matrices(
        model,
        kind,
        data,
        groups,
        params,
        subset,
        workspace,
        memory,
        progress,
        forward,
        target,
        samples,
        mixing,
        process_group,
    )
    return BlockDiagonal(matrices, GGN if matrix == "ggn" else EmpiricalFisher)
