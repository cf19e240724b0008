"""Operations that keep samples apart, as their autograd nodes tell: nothing has to be probed.

Samples lie along the first axis of the model output. Most operations map rows to rows: what they
compute of the rows of a sample depends on its rows only, and these lie at the same place of their
input. Where all ways from the output to an operation lead through such, its rows are those of the
samples, in order. Nothing is said of any other operation.
"""

from __future__ import annotations

from collections.abc import Callable

from torch.autograd.graph import Node

from vivit.backprop.nodes import output_shape, reachable, saved

ENTRYWISE = (
    "Abs Acos Add Asin Atan Celu Clamp ClampMax ClampMin Clone Cos Cosh Div Elu Erf Exp Expm1 "
    "Gelu Hardsigmoid Hardswish Hardtanh LeakyRelu Log Log1P Logaddexp Logit LogSigmoid "
    "MaskedFill Maximum Minimum Mish Mul NativeDropout Neg Pow PreluKernel Reciprocal Relu Rsqrt "
    "Rsub Selu Sigmoid Sign Silu Sin Sinh Softplus Softshrink Sqrt Sub Tan Tanh Threshold ToCopy "
    "Where Xlogy"
)
"""Each entry is of the entries at its place, of operands that may be broadcast."""

IMAGEWISE = (
    "AdaptiveAvgPool2D AdaptiveAvgPool3D AdaptiveMaxPool2D AdaptiveMaxPool3D AvgPool2D AvgPool3D "
    "MaxPool2DWithIndices MaxPool3DWithIndices NativeGroupNorm ReflectionPad1D ReflectionPad2D "
    "ReplicationPad1D ReplicationPad2D UpsampleBicubic2D UpsampleBilinear2D UpsampleNearest1D "
    "UpsampleNearest2D PixelShuffle PixelUnshuffle"
)
"""Each image is of its own; where there is no axis of images, each channel."""

ALONG = (
    "Amax Amin Cat Cumsum Glu LinalgVectorNorm LogSoftmax Max Mean Min Select Softmax Split "
    "Std Stack Sum Unbind Unsqueeze Var"
)
"""Something is done along axes, which are saved: not along the first."""

Shape = tuple[int, ...]

Rule = Callable[[Node, int, Shape, Shape], bool]
"""Of a node, the number of one of its inputs, and the shapes of its output and of that input."""


def rows_kept_apart(root: Node, num_samples: int) -> frozenset[Node]:
    """Nodes whose outputs have the rows of the first sample, then of the second, and so on.

    Args:
        root: Of the model output, samples along its first axis.
        num_samples: ``N``.

    Returns:
        Those of which that is sure.
    """
    todo, seen = [root], {root}
    elsewhere: set[Node] = set()
    while todo:
        node = todo.pop()
        for index, (child, output) in enumerate(node.next_functions):
            if child is None:
                continue
            if not _carries_rows(node, index, child, output, num_samples):
                elsewhere.add(child)
            elif child not in seen:
                seen.add(child)
                todo.append(child)
    return frozenset(seen - reachable(elsewhere))


def _carries_rows(node: Node, index: int, child: Node, output: int, num_samples: int) -> bool:
    """Whether the rows of a node's output are of the same samples' rows of one of its inputs."""
    name = node.name()
    shape, inner = output_shape(node), tuple(child._input_metadata[output].shape)
    if not shape or not inner or shape[0] % num_samples or inner[0] % num_samples:
        return False
    rule = _RULES.get(name)
    return rule is not None and rule(node, index, shape, inner)


def _entrywise(node: Node, index: int, shape: Shape, inner: Shape) -> bool:
    return len(inner) == len(shape) and inner[0] == shape[0]


def _of_first(node: Node, index: int, shape: Shape, inner: Shape) -> bool:
    """Only the first input carries rows."""
    return index == 0 and inner[0] == shape[0]


def _of_several(axes: int) -> Rule:
    """As `_of_first`, of an input with so many axes at least."""
    return lambda node, index, shape, inner: (
        index == 0 and len(inner) >= axes and inner[0] == shape[0]
    )


def _reshaped(node: Node, index: int, shape: Shape, inner: Shape) -> bool:
    """The entries of a sample stay together, and in order."""
    return True


def _along(field: str) -> Rule:
    """Something is done along axes other than the first, of all inputs."""

    def rule(node: Node, index: int, shape: Shape, inner: Shape) -> bool:
        axes = saved(node, field)
        found = axes if isinstance(axes, tuple) else (axes,)
        return bool(found) and all(_is_inner(axis, inner, shape) for axis in found)

    return rule


def _is_inner(axis: int | None, inner: Shape, shape: Shape) -> bool:
    """Whether an axis of the larger one of two shapes is not the first."""
    if axis is None:
        return False
    return _signed(axis) > 0 or -max(len(inner), len(shape)) < _signed(axis) < 0


def _signed(axis: int) -> int:
    """An axis that may be counted from the last, which autograd keeps as an unsigned number."""
    return axis - 2**64 if axis >= 2**63 else axis


def _permuted(node: Node, index: int, shape: Shape, inner: Shape) -> bool:
    return _signed(saved(node, "dims")[0]) % len(inner) == 0


def _transposed(node: Node, index: int, shape: Shape, inner: Shape) -> bool:
    axes = (saved(node, "dim0"), saved(node, "dim1"))
    return all(_is_inner(axis, inner, inner) for axis in axes)


def _padded(node: Node, index: int, shape: Shape, inner: Shape) -> bool:
    return len(saved(node, "pad")) < 2 * len(inner)


def _batch_norm(node: Node, index: int, shape: Shape, inner: Shape) -> bool:
    return not saved(node, "training") and _of_first(node, index, shape, inner)


def _layer_norm(node: Node, index: int, shape: Shape, inner: Shape) -> bool:
    fewer = len(saved(node, "normalized_shape")) < len(inner)
    return fewer and _of_first(node, index, shape, inner)


def _affine(node: Node, index: int, shape: Shape, inner: Shape) -> bool:
    """A summand, which may be broadcast, and the left one of two factors."""
    return (index == 1 and inner[0] == shape[0]) or (
        index == 0 and _entrywise(node, index, shape, inner)
    )


def _of_both(node: Node, index: int, shape: Shape, inner: Shape) -> bool:
    """Products of many matrices, each of a row of both factors."""
    return inner[0] == shape[0]


_RULES: dict[str, Rule] = {
    **{f"{name}Backward{i}": _entrywise for name in ENTRYWISE.split() for i in (0, 1, 2)},
    **{f"{name}Backward0": _of_several(3) for name in IMAGEWISE.split()},
    **{f"{name}Backward{i}": _along("dim") for name in ALONG.split() for i in (0, 1)},
    **{f"{name}Backward0": _reshaped for name in ("View", "UnsafeView", "ReshapeAlias", "Alias")},
    "SqueezeBackward1": _along("dim"),
    "PermuteBackward0": _permuted,
    "TransposeBackward0": _transposed,
    "ExpandBackward0": _entrywise,
    "SliceBackward0": _entrywise,  # as many rows are all of them
    "ConstantPadNdBackward0": _padded,
    "AddmmBackward0": _affine,
    "MmBackward0": _of_first,
    "MvBackward0": _of_first,
    "BmmBackward0": _of_both,
    "ConvolutionBackward0": _of_several(3),
    "NativeBatchNormBackward0": _batch_norm,
    "NativeLayerNormBackward0": _layer_norm,
}
"""By kind of node: whether an input carries rows."""
