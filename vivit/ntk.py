"""The front door of the neural tangent kernel of a finite network.

``Theta[n, m] = J_n J_m^T``, the inner products of gradients of the outputs by the parameters:

1. One forward pass of each set; the unit vectors of the outputs are sent back.
2. Each layer adds inner products of what it keeps, as for the Gram matrix of the GGN. No Jacobian
   is formed.

Source: Novak, Sohl-Dickstein, Schoenholz, "Fast finite width neural tangent kernel", ICML 2022.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, chain, pairwise
from typing import Any, Literal

from torch import Tensor, nn

from vivit.backprop.autocast import without_autocast
from vivit.backprop.autograd import Linearization
from vivit.backprop.called import Forward, called, one_unit, unwrapped
from vivit.backprop.pushforward import Ways
from vivit.backprop.random_state import RandomState
from vivit.batches import Batch
from vivit.curvature import Curvature
from vivit.data import check_inputs
from vivit.errors import InputError, is_out_of_memory
from vivit.gram.kernel import Kernel, Side
from vivit.gram.memory import Room
from vivit.gram.prediction import make_plan
from vivit.gram.shared_kernel import SharedKernel
from vivit.kinds import Outputs
from vivit.parameters import Selector, select_parameters
from vivit.progress import Progress
from vivit.ranks import NO_GROUP, Ranks, ranks_of
from vivit.ranks.agreement import Names, described
from vivit.sampling import Sampling

PROBED = 4
"""Samples whose graph tells what one of all samples will take."""


def ntk(
    model: nn.Module,
    X: Any,  # noqa: N803, names of the tutorial
    X2: Any = None,  # noqa: N803
    *,
    params: Iterable[Selector] | None = None,
    forward: Forward | None = None,
    mixing: str = "refuse",
    outputs: Literal["full", "trace"] = "full",
    batch_size: int | None = None,
    workspace: int | None = None,
    memory: int | None = None,
    progress: bool = False,
    process_group: Any = NO_GROUP,
) -> Tensor:
    """The neural tangent kernel within a set of inputs, or between two sets.

    Args:
        model: Maps inputs to a tensor of shape ``[N, *out]``, samples first.
        X: Inputs of ``N`` samples.
        X2: Inputs of ``N2`` others; by default the kernel is that within ``X``, of which half is
            computed.
        params: As for `GGN`: by whose parameters gradients are.
        forward: Maps model and inputs to that tensor; by default the model is called.
        mixing: As for `GGN`: with ``"allow"``, a set of inputs is taken whole, as one batch, and
            the trace needs the memory of the full kernel.
        outputs: ``"full"``, or ``"trace"`` for the sum over the outputs of a sample, which
            takes a ``C^2``-th of the memory.
        batch_size: Samples of each block of a tensor of inputs, whose graph and what is kept of
            it live at once, in pairs. By default as many as fit into memory, as all do mostly;
            several blocks of equal size take about half as many times the backward passes as
            there are blocks. Other inputs than tensors are taken whole.
        workspace: As for `GGN`, as are the others.
        memory: Bytes to get by with, forward passes and kernel among them.
        progress: Whether a bar shows how many pairs of blocks are done.
        process_group: As for `GGN`. Each rank gives its share of ``X`` and ``X2``, and has the
            rows of its own samples, with the columns of all, in the order of ranks. A rank
            without samples gives an empty tensor. What is kept of all samples of a rank lives at
            once, whatever the size of blocks.

    Returns:
        Shape ``[N, N2, C, C2]`` with ``C`` outputs of each sample, in units of outputs squared per
        squared parameter, where those of the other set may have another length, ``C2``;
        ``[N, N2]`` for the trace. Of several ranks, ``N`` are the samples of this one.

    Raises:
        InputError: A set is empty (of several ranks, on all), outputs within a set, or of both
            for the trace, differ in shape, or an argument has a wrong value.
        UnsupportedError: As for `GGN`.
        InsufficientMemoryError: The kernel would not fit.
    """
    model = unwrapped(model)
    parameters = select_parameters(model, params)
    ranks = ranks_of(process_group, next(iter(parameters.values())).device)
    with ranks.telling("ntk"):
        _check(X, X2, outputs, batch_size, may_be_empty=ranks.size > 1)
        sampling = Sampling.of("sequence", mixing, None)
        if sampling.whole and batch_size is not None:
            raise InputError("With mixing='allow', a set is one batch: batch_size must be None.")
        model = called(model, forward)
        room, folded = Room.of(parameters, workspace, memory), outputs == "trace"
        with without_autocast():
            if sampling.whole:
                model, size = one_unit(model, sampling.mixing), None
            elif ranks.size > 1:
                size = batch_size
            else:
                size = batch_size or _fitting_size(model, X, X2, parameters, room, folded)
            sets = [_blocks(x, size) for x in ((X,) if X2 is None else (X, X2))]
            return _kernel(model, parameters, sets, sampling, room, folded, progress, ranks)


def _kernel(
    model: nn.Module,
    parameters: dict[str, Tensor],
    sets: Sequence[list[Any]],
    sampling: Sampling,
    room: Room,
    folded: bool,
    progress: bool,
    ranks: Ranks,
) -> Tensor:
    """The kernel within a set in blocks, or between two."""
    data = [(x, None) for blocks in sets for x in blocks]

    def alike() -> Names:
        """What all ranks must have alike beside the model."""
        return {
            "the kernel": f"{'trace' if folded else 'full'}, sets: {len(sets)}",
            "what a sample is": described(sampling),
            "the kind of device": room.device.type,
        }

    bar = Progress(progress)
    curvature = Curvature(model, Outputs(), data, parameters, None, bar, sampling, ranks, alike)
    kernel = (Kernel if ranks.size == 1 else SharedKernel)(curvature, room, folded)
    sides = _sides(curvature, kernel, [len(blocks) for blocks in sets], folded)
    return kernel.within(*sides) if len(sides) == 1 else kernel.between(*sides)


def _sides(
    curvature: Curvature, kernel: Kernel, counts: Sequence[int], folded: bool
) -> list[Side]:
    """The sets as all ranks have them.

    Args:
        curvature: Of the blocks of all sets, as batches.
        kernel: That is wanted.
        counts: Blocks of each set in this process.
        folded: Whether sets, too, must agree in the shape of their outputs.

    Raises:
        InputError: One has no samples, or outputs differ in shape.
    """
    ends = [0, *accumulate(counts)]
    places = [range(start, stop) for start, stop in pairwise(ends)]
    own = [[_facts_of(curvature.batches[i]) for i in blocks] for blocks in places]
    of_sets = [*zip(*curvature.ranks.facts(own, "the sets of all ranks"), strict=True)]
    known = [[batch for of_rank in of_set for batch in of_rank] for of_set in of_sets]
    for name, batches in zip(("X", "X2"), known, strict=False):
        if not batches:
            raise InputError(f"The set {name} is empty on all ranks.")
    shapes = [[shape for _, _, shape in batches] for batches in known]
    for compared in [[*chain.from_iterable(shapes)]] if folded else shapes:
        _check_shapes(compared)
    return [
        kernel.side(blocks, [sum(n for n, _, _ in x) for x in of_ranks], batches[0][1])
        for blocks, of_ranks, batches in zip(places, of_sets, known, strict=True)
    ]


def _facts_of(batch: Batch) -> list[Any]:
    """Samples, columns of each, and shape of the output of a sample."""
    return [batch.size, batch.columns, [*batch.output_shape]]


def _check(
    x: Any, x2: Any, outputs: str, batch_size: int | None, may_be_empty: bool = False
) -> None:
    if outputs not in ("full", "trace"):
        raise InputError(f"outputs must be 'full' or 'trace', got {outputs!r}.")
    is_number = isinstance(batch_size, int) and not isinstance(batch_size, bool)
    if batch_size is not None and not (is_number and batch_size >= 1):
        raise InputError(f"batch_size must be a whole number, at least 1, got {batch_size!r}.")
    for name, of_set in (("X", x), ("X2", x2)):
        check_inputs(name, of_set)
        if not isinstance(of_set, Tensor) or (may_be_empty and of_set.ndim):
            continue
        if of_set.ndim == 0 or len(of_set) == 0:
            raise InputError(
                f"The set {name} is empty: it has shape {[*of_set.shape]}, expected samples along "
                "the first axis."
            )


def _check_shapes(shapes: Sequence[Sequence[int]]) -> None:
    """Refuse outputs that have no common axes in the kernel."""
    for shape in shapes:
        if shape != shapes[0]:
            raise InputError(
                f"The outputs need one shape, for each sample: got {[*shapes[0]]} and then "
                f"{[*shape]}. Two sets X and X2 may differ with outputs='full'; else pad the "
                "inputs, or call ntk for each length."
            )


def _blocks(x: Any, size: int | None) -> list[Any]:
    """Inputs in blocks; those that are no tensor as they are, and no samples as none."""
    if not isinstance(x, Tensor):
        return [x]
    if not len(x):
        return []
    return [x] if size is None else [*x.split(size)]


def _fitting_size(
    model: nn.Module,
    x: Any,
    x2: Any,
    parameters: dict[str, Tensor],
    room: Room,
    folded: bool,
) -> int | None:
    """Samples of a block, such that what lives at once fits; None for all.

    Graphs and what is kept grow as the samples, which a few of them tell.
    """
    lengths = [len(of_set) for of_set in (x, x2) if isinstance(of_set, Tensor)]
    if room.available is None or not isinstance(x, Tensor) or max(lengths) <= PROBED:
        return None
    try:
        state = RandomState.current(model)
        probes = [
            Linearization(model, x[:count], parameters, state, frozenset(), Ways())
            for count in (PROBED // 2, PROBED)
        ]
        sizes, (fewer, more) = probes[1].sizes, [probe.graph_bytes for probe in probes]
    except Exception as error:  # a model may need its batch size, and say so in any way
        if is_out_of_memory(error):
            raise
        return None
    graph = max(more - fewer, 0) / (PROBED - PROBED // 2)  # of a sample; the rest is weights
    constant = max(more - PROBED * graph, 0)
    element, columns = probes[1].output.element_size(), sizes.output
    kernel = lengths[0] * lengths[-1] * element * (1 if folded else columns**2)
    entries = {"": {name: p.numel() for name, p in parameters.items()}}

    def needed(samples: int) -> float:
        sides = 1 if lengths == [samples] else 2
        some = sizes.of_samples(samples).with_columns(columns)
        plan = make_plan([some], entries, element, room.workspace, 0, whole=True)
        passing = max(plan.passing_bytes)
        return sides * (constant + samples * graph + plan.kept_bytes) + passing + kernel

    size = max(lengths)
    while size > 1 and needed(size) > room.available:
        size = -(-size // 2)
    return size
