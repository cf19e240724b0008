"""The front door of the neural tangent kernel of a finite network.

``Theta[n, m] = J_n J_m^T``, the inner products of gradients of the outputs by the parameters:

1. One forward pass of each set; the unit vectors of the outputs are sent back.
2. Each layer adds inner products of what it keeps, as for the Gram matrix of the GGN. No Jacobian
   is formed.

Source: Novak, Sohl-Dickstein, Schoenholz, "Fast finite width neural tangent kernel", ICML 2022.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vivit.backprop.autocast import without_autocast
from vivit.backprop.autograd import Linearization
from vivit.backprop.called import Forward, called, one_unit, unwrapped
from vivit.backprop.pushforward import Ways
from vivit.backprop.random_state import RandomState
from vivit.curvature import Curvature
from vivit.data import check_inputs
from vivit.dtypes import is_finite
from vivit.errors import InputError, InsufficientMemoryError, is_out_of_memory
from vivit.gram.costs import Costs
from vivit.gram.cross import Columns
from vivit.gram.memory import Room
from vivit.gram.prediction import make_plan
from vivit.gram.spectrum import NOT_FINITE
from vivit.kinds import Outputs
from vivit.layers.affine import Workspace, mirror
from vivit.memory import human_bytes
from vivit.parameters import Selector, select_parameters
from vivit.progress import Progress
from vivit.sampling import Sampling

PROBED = 4
"""Samples whose graph tells what one of all samples will take."""

PAIR = " pairs of blocks"
"""What a bar counts."""


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

    Returns:
        Shape ``[N, N2, C, C2]`` with ``C`` outputs of each sample, in units of outputs squared per
        squared parameter, where those of the other set may have another length, ``C2``;
        ``[N, N2]`` for the trace.

    Raises:
        InputError: A set is empty, outputs within a set, or of both for the trace, differ in
            shape, or an argument has a wrong value.
        UnsupportedError: As for `GGN`.
        InsufficientMemoryError: The kernel would not fit.
    """
    _check(X, X2, outputs, batch_size)
    sampling, model = Sampling.of("sequence", mixing, None), unwrapped(model)
    if sampling.whole and batch_size is not None:
        raise InputError("With mixing='allow', a set is one batch: batch_size must be None.")
    parameters = select_parameters(model, params)
    model = called(model, forward)
    room, folded = Room.of(parameters, workspace, memory), outputs == "trace"
    with without_autocast():
        if sampling.whole:
            model, size = one_unit(model, sampling.mixing), None
        else:
            size = batch_size or _fitting_size(model, X, X2, parameters, room, folded)
        blocks = [_blocks(x, size) for x in (X, X2)]
        return _kernel(model, parameters, blocks, sampling, room, folded, Progress(progress))


def _kernel(
    model: nn.Module,
    parameters: dict[str, Tensor],
    blocks: Sequence[list[Any]],
    sampling: Sampling,
    room: Room,
    folded: bool,
    bar: Progress,
) -> Tensor:
    """The kernel between two sets in blocks; within the first, if the second is empty."""
    data = [(x, None) for of_set in blocks for x in of_set]
    curvature = Curvature(model, Outputs(), data, parameters, None, bar, sampling)
    kernel = _Kernel(curvature, room, folded)
    rows, cols = range(len(blocks[0])), range(len(blocks[0]), len(data))
    for compared in [[*rows, *cols]] if folded else [rows, cols]:
        _check_shapes([curvature.batches[i].output_shape for i in compared])
    pairs = len(rows) * len(cols) if cols else len(rows) * (len(rows) + 1) // 2
    with torch.no_grad(), bar.stage("kernel", unit=PAIR, total=pairs):
        return kernel.between(rows, cols) if cols else kernel.within(rows)


class _Kernel:
    """The kernel between blocks of samples."""

    def __init__(self, curvature: Curvature, room: Room, folded: bool) -> None:
        self._curvature, self._room, self._traced = curvature, room, folded
        self._folded = folded and not curvature.sampling.whole
        self._names = {*curvature.parameters}
        self._plan = Costs(curvature, {"": [*self._names]}, room).plan(whole="")

    def within(self, blocks: range) -> Tensor:
        """Of one set: the lower half is computed."""
        places, size = self._places(blocks)
        matrix = self._empty(size, size)
        for i, rows in enumerate(places):
            columns = self._columns(blocks[i])
            columns.add_own(matrix[rows, rows])
            self._curvature.progress.advance(PAIR)
            self._add(matrix[rows], columns, blocks[:i], places)
            del columns  # before those of the next
        mirror(matrix)
        return self._shaped(matrix, blocks, blocks)

    def between(self, rows: range, cols: range) -> Tensor:
        """Of two sets."""
        (heights, height), (widths, width) = self._places(rows), self._places(cols)
        matrix = self._empty(height, width)
        for i, place in zip(rows, heights, strict=True):
            columns = self._columns(i)
            self._add(matrix[place], columns, cols, widths)
            del columns
        return self._shaped(matrix, rows, cols)

    def _add(self, rows: Tensor, columns: Columns, blocks: range, places: list[slice]) -> None:
        for j, cols in zip(blocks, places, strict=False):
            columns.add_products(rows[:, cols], self._curvature.carrying([j]))
            self._curvature.progress.advance(PAIR)

    def _columns(self, block: int) -> Columns:
        memory = Workspace(self._room.workspace, self._curvature.like)
        per_pass, at_once = self._plan.columns_per_pass, self._plan.columns_at_once
        carrying = self._curvature.carrying([block])
        return Columns(carrying, self._names, memory, per_pass, at_once, self._folded)

    def _per_sample(self, block: int) -> int:
        return 1 if self._folded else self._curvature.batches[block].columns

    def _places(self, blocks: range) -> tuple[list[slice], int]:
        """Where the columns of some blocks stand, and how many there are."""
        sizes = [self._curvature.batches[i].size * self._per_sample(i) for i in blocks]
        ends = [*accumulate(sizes)]
        return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)], ends[-1]

    def _empty(self, height: int, width: int) -> Tensor:
        like, available = self._curvature.like, self._room.available
        size = height * width * like.element_size()
        if available is not None and size > available:
            trace = "" if self._traced else "outputs='trace', "
            raise InsufficientMemoryError(
                f"The kernel of {height} by {width} outputs has {human_bytes(size)}, but "
                f"{human_bytes(available)} are available. Use {trace}or fewer samples at a time."
            )
        return like.new_zeros(height, width)

    def _shaped(self, matrix: Tensor, rows: range, cols: range) -> Tensor:
        if not is_finite(matrix):
            raise InputError(NOT_FINITE)
        if self._folded:
            return matrix
        height, width = self._per_sample(rows[0]), self._per_sample(cols[0])
        full = matrix.unflatten(1, (-1, width)).unflatten(0, (-1, height)).transpose(1, 2)
        return full.diagonal(dim1=2, dim2=3).sum(dim=2) if self._traced else full


def _check(x: Any, x2: Any, outputs: str, batch_size: int | None) -> None:
    if outputs not in ("full", "trace"):
        raise InputError(f"outputs must be 'full' or 'trace', got {outputs!r}.")
    is_number = isinstance(batch_size, int) and not isinstance(batch_size, bool)
    if batch_size is not None and not (is_number and batch_size >= 1):
        raise InputError(f"batch_size must be a whole number, at least 1, got {batch_size!r}.")
    for name, of_set in (("X", x), ("X2", x2)):
        check_inputs(name, of_set)
        if isinstance(of_set, Tensor) and (of_set.ndim == 0 or len(of_set) == 0):
            raise InputError(
                f"The set {name} is empty: it has shape {[*of_set.shape]}, expected samples along "
                "the first axis."
            )


def _check_shapes(shapes: Sequence[torch.Size]) -> None:
    """Refuse outputs that have no common axes in the kernel."""
    for shape in shapes:
        if shape != shapes[0]:
            raise InputError(
                f"The outputs need one shape, for each sample: got {[*shapes[0]]} and then "
                f"{[*shape]}. Two sets X and X2 may differ with outputs='full'; else pad the "
                "inputs, or call ntk for each length."
            )


def _blocks(x: Any, size: int | None) -> list[Any]:
    """Inputs in blocks; those that are no tensor as they are, and nothing as none."""
    if x is None:
        return []
    return [x] if size is None or not isinstance(x, Tensor) else [*x.split(size)]


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
