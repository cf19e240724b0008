"""The block diagonal of the GGN."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from vivit.curvature import Curvature
from vivit.ggn import EXACT, GGN
from vivit.gram.blocks import BlockMatrices
from vivit.gram.memory import Room
from vivit.kinds import GaussNewton
from vivit.options import Approximation, Subset
from vivit.parameters import Selector, group_parameters, select_parameters
from vivit.progress import Progress


class BlockDiagonal(Mapping[str, GGN]):
    """Diagonal blocks of the GGN by group name; they share their forward and backward passes."""

    def __init__(self, matrices: BlockMatrices) -> None:
        """Wrap the blocks that some matrices are of."""
        self._blocks = {group: GGN.of_block(matrices, group) for group in matrices.groups}

    def __getitem__(self, group: str) -> GGN:
        """The block of a group."""
        return self._blocks[group]

    def __iter__(self) -> Iterator[str]:
        """Group names, in the model's order."""
        return iter(self._blocks)

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self._blocks)

    def __repr__(self) -> str:
        """Group names and sizes, for interactive use."""
        sizes = ", ".join(f"{name!r}: {block.shape}" for name, block in self._blocks.items())
        return f"BlockDiagonal({{{sizes}}})"


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
) -> BlockDiagonal:
    """The diagonal blocks of the GGN for groups of parameters.

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

    Returns:
        A mapping from group names to `GGN` blocks.

    Raises:
        InputError: As `GGN`; or groups are unknown, overlap, or leave parameters out.
        UnsupportedError: As `GGN`.
    """
    parameters = select_parameters(model, params)
    members = group_parameters(model, parameters, groups)
    room = Room.of(parameters, workspace, memory)
    shown = Progress(progress)
    kind = GaussNewton(loss_func, approximation)
    curvature = Curvature(model, kind, data, parameters, subset, shown)
    return BlockDiagonal(BlockMatrices(curvature, members, room))
