"""From what a user gives to the matrices of all blocks, of which none is made yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

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

    Returns:
        The matrices.
    """
    sampling, model = Sampling.of(samples, mixing, subset), unwrapped(model)
    parameters = select_parameters(model, params)
    members = {ALL: [*parameters]}
    if groups is not None:
        members = group_parameters(model, parameters, groups)
    room = Room.of(parameters, workspace, memory)
    model, shown = called(model, forward), Progress(progress)
    if sampling.whole:
        model = one_unit(model, sampling.mixing)
    batches = Batches(data, target)
    with without_autocast():
        curvature = Curvature(model, kind, batches, parameters, subset, shown, sampling)
    return BlockMatrices(curvature, members, room)
