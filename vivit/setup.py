"""From what a user gives to the matrices of all blocks, of which none is made yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from vivit.backprop.autocast import without_autocast
from vivit.backprop.called import Forward, called, one_unit, unwrapped
from vivit.curvature import Curvature
from vivit.data import Batches, Target
from vivit.gram.blocks import BlockMatrices
from vivit.gram.memory import Room
from vivit.kinds import Kind
from vivit.options import Subset
from vivit.parameters import Selector, group_parameters, select_parameters
from vivit.progress import Progress
from vivit.ranks import NO_GROUP, Ranks, ranks_of
from vivit.ranks.agreement import Names, described
from vivit.sampling import Sampling

ALL = ""
"""Name of the group of all parameters."""


def block_matrices(
    model: nn.Module,
    kind: Kind,
    data: Any,
    groups: str | Mapping[str, Iterable[Selector]] | None,
    params: Iterable[Selector] | None,
    subset: Subset | None,
    workspace: int | None,
    memory: int | None,
    progress: bool,
    forward: Forward | None = None,
    target: Target | None = None,
    samples: str = "sequence",
    mixing: str = "refuse",
    process_group: Any = NO_GROUP,
) -> BlockMatrices:
    """The matrices of all blocks of a kind of curvature, of which none is made yet.

    Args:
        model: As for `GGN`.
        kind: Of the curvature.
        data: As for `GGN`.
        groups: As for `block_diagonal`; None for one block of all parameters.
        params: As for `GGN`, as are the others.
        subset: Samples that carry curvature.
        workspace: Bytes for temporaries.
        memory: Bytes to get by with.
        progress: Whether bars are shown.
        forward: Calls the model.
        target: Gives the targets of a batch.
        samples: What counts as one.
        mixing: Whether they may depend on each other.
        process_group: Of those that have other samples; `NO_GROUP` for none.

    Returns:
        The matrices.
    """
    model = unwrapped(model)
    parameters = select_parameters(model, params)
    ranks = ranks_of(process_group, next(iter(parameters.values())).device)
    with ranks.telling("setting up"):
        return _block_matrices(
            model,
            kind,
            Batches(data, target, may_be_empty=ranks.size > 1),
            groups,
            parameters,
            subset,
            Room.of(parameters, workspace, memory),
            progress,
            forward,
            Sampling.of(samples, mixing, subset),
            ranks,
        )


def _block_matrices(
    model: nn.Module,
    kind: Kind,
    batches: Batches,
    groups: str | Mapping[str, Iterable[Selector]] | None,
    parameters: dict[str, Tensor],
    subset: Subset | None,
    room: Room,
    progress: bool,
    forward: Forward | None,
    sampling: Sampling,
    ranks: Ranks,
) -> BlockMatrices:
    """The same, of what has been read; an error of one rank is told to all."""
    members = {ALL: [*parameters]}
    if groups is not None:
        members = group_parameters(model, parameters, groups)
    model, shown = called(model, forward), Progress(progress)
    if sampling.whole:
        model = one_unit(model, sampling.mixing)

    def alike() -> Names:
        """What all ranks must have alike beside the model."""
        return {
            "the kind of curvature and its loss": described([type(kind), *vars(kind).items()]),
            "the groups of parameters": members,
            "what a sample is": described(sampling),
            "the kind of device": room.device.type,
        }

    with without_autocast():
        curvature = Curvature(
            model, kind, batches, parameters, subset, shown, sampling, ranks, alike
        )
    return BlockMatrices(curvature, members, room.shared(ranks))
