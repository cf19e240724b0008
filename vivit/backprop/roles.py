"""What an autograd node does with a parameter: one entry per kind of node and input.

Anything that is not listed here is another role: a parameter may well be the input of a
convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor
from torch.autograd.graph import Node

from vivit.backprop.nodes import Consumers, dense, output_shape, saved
from vivit.errors import UnsupportedError
from vivit.layers.convolutions import ConvolutionUse, TransposedConvolutionUse
from vivit.layers.entrywise import BiasUse, ScaleUse, Span
from vivit.layers.uses import AffineUse, BilinearUse, EmbeddingUse, LinearUse, ProductUse

BILINEAR = [(1, 3), (0,), (1, 2), (2, 3)]
"""Axes that ``torch.nn.functional.bilinear`` gives to a trilinear product."""


class Kind(Enum):
    """How a parameter takes part in an operation."""

    WEIGHT = "a weight, beside which there may be a bias"
    LONE = "a weight that never shares its positions with a bias"
    BIAS = "a bias"


@dataclass(frozen=True)
class Role:
    """One use of a parameter.

    Attributes:
        kind: How it takes part.
        node: The operation.
        use: What the operation computes.
    """

    kind: Kind
    node: Node
    use: AffineUse


Rule = Callable[[Node, Tensor], Role | None]
"""Maps a node and a parameter that is one of its inputs to the role, if it is known."""


def find_roles(
    node: Node, index: int, parameter: Tensor, consumers: Consumers
) -> list[Role | None]:
    """What an operation does with a parameter.

    Args:
        node: The operation.
        index: Which of its inputs the parameter is.
        parameter: The parameter.
        consumers: Who uses the outputs of each node.

    Returns:
        Its roles: one, or as many as a transposed form of it has; None for one that is not known.
    """
    further = consumers.get((node, 0), [])
    if parameter.ndim == 2 and further and _is_transpose(node):
        return [_role(_OF_TRANSPOSED, use, i, parameter) for use, i in further]
    return [_role(_RULES, node, index, parameter)]


def _is_transpose(node: Node) -> bool:
    """Whether a node transposes a matrix: ``W.t()`` or ``W.T``."""
    if node.name() == "PermuteBackward0":
        return [dim % 2 for dim in saved(node, "dims")] == [1, 0]
    return node.name() == "TBackward0"


def _role(
    rules: dict[tuple[str, int], Rule], node: Node, index: int, parameter: Tensor
) -> Role | None:
    rule = rules.get((node.name(), index))
    return None if rule is None else rule(node, parameter)


def _linear(field: str, transposed: bool) -> Rule:
    def rule(node: Node, parameter: Tensor) -> Role | None:
        if not _is_plain(node):
            return None
        use = LinearUse(
            dense(saved(node, field).detach()), _columns(output_shape(node)), transposed
        )
        return Role(Kind.LONE if transposed else Kind.WEIGHT, node, use)

    return rule


def _columns(shape: tuple[int, ...]) -> int:
    """Of a matrix; a vector is a matrix with a single column."""
    return shape[1] if len(shape) > 1 else 1


def _product(field: str, transposed: bool) -> Rule:
    """A factor of a product of matrices, or of several in a batch."""

    def rule(node: Node, parameter: Tensor) -> Role | None:
        other = saved(node, field)
        if not _is_plain(node) or other is None:
            return None
        groups = other.detach().reshape(-1, *other.shape[-2:])
        out_features = output_shape(node)[-1 if transposed else -2]
        return Role(Kind.LONE, node, ProductUse(groups, out_features, transposed))

    return rule


def _bilinear(node: Node, parameter: Tensor) -> Role | None:
    axes = [tuple(saved(node, name)) for name in ("expand1", "expand2", "expand3", "sumdim")]
    x, z = saved(node, "i1"), saved(node, "i3")
    if axes != BILINEAR or x is None or z is None:
        return None
    return Role(Kind.LONE, node, BilinearUse(x.detach(), z.detach(), len(parameter)))


def _convolution(node: Node, parameter: Tensor) -> Role:
    settings = {name: tuple(saved(node, name)) for name in ("stride", "padding", "dilation")}
    x, groups = saved(node, "input").detach(), saved(node, "groups")
    shape = tuple(saved(node, "weight").shape)
    if saved(node, "transposed"):
        return Role(Kind.LONE, node, TransposedConvolutionUse(x, shape, **settings, groups=groups))
    size = output_shape(node)[2:]
    return Role(Kind.WEIGHT, node, ConvolutionUse(x, shape, size, **settings, groups=groups))


def _channel_bias(node: Node, parameter: Tensor) -> Role:
    return Role(Kind.BIAS, node, BiasUse(Span(output_shape(node), (1,)), parameter))


def _added(node: Node, parameter: Tensor, multiple: float = 1.0) -> Role | None:
    span = _span(tuple(parameter.shape), output_shape(node))
    return None if span is None else Role(Kind.BIAS, node, BiasUse(span, parameter, multiple))


def _added_times(field: str, sign: int = 1) -> Rule:
    """A summand with a number before it."""
    return lambda node, parameter: _added(node, parameter, sign * saved(node, field))


def _repeated(node: Node, parameter: Tensor) -> Role | None:
    """Copies of a parameter side by side: broadcast along axes before its own, then flattened."""
    repeats = saved(node, "repeats")
    sizes = (1,) * (len(repeats) - parameter.ndim) + tuple(parameter.shape)
    aligned = tuple(size for axis in sizes for size in (1, axis))
    shape = tuple(size for pair in zip(repeats, sizes, strict=True) for size in pair)
    span = _span(aligned, shape)
    return None if span is None else Role(Kind.BIAS, node, BiasUse(span, parameter))


def _multiplied(field: str) -> Rule:
    def rule(node: Node, parameter: Tensor) -> Role | None:
        return _scaled(node, parameter, saved(node, field), lambda other: other)

    return rule


def _divided(node: Node, parameter: Tensor) -> Role | None:
    return _scaled(node, parameter, saved(node, "other"), torch.reciprocal)


def _divisor(node: Node, parameter: Tensor) -> Role | None:
    """The derivative of ``x / p`` is that of ``p`` times ``-x / p^2``."""
    divisor = saved(node, "other").detach()
    return _scaled(node, parameter, saved(node, "self"), lambda x: -x / divisor.square())


def _scaled(
    node: Node, parameter: Tensor, other: object, derivative: Callable[[Tensor], Tensor]
) -> Role | None:
    """A parameter whose entries are multiplied with a function of another tensor."""
    shape = output_shape(node)
    span = _span(tuple(parameter.shape), shape)
    if span is None or not isinstance(other, Tensor) or other.dtype != parameter.dtype:
        return None
    x = other.detach()
    return Role(Kind.LONE, node, ScaleUse(span, lambda: derivative(x).expand(shape), x))


def _chosen(field: str, where: bool) -> Rule:
    """Entries of a parameter that are taken where a mask says so, in place of other ones."""

    def rule(node: Node, parameter: Tensor) -> Role | None:
        shape, mask = output_shape(node), saved(node, field).detach()
        span = _span(tuple(parameter.shape), shape)
        if span is None:
            return None

        def taken() -> Tensor:
            return (mask == where).to(parameter.dtype).expand(shape)

        return Role(Kind.LONE, node, ScaleUse(span, taken, mask))

    return rule


def _negative_slope(node: Node, parameter: Tensor) -> Role | None:
    """PReLU: its weight scales the negative part of its input."""
    span = _span(tuple(parameter.shape), output_shape(node))
    if span is None:
        return None
    x = saved(node, "self").detach()
    return Role(Kind.LONE, node, ScaleUse(span, lambda: x.clamp(max=0), x))


def _batch_norm(node: Node, parameter: Tensor) -> Role | None:
    if saved(node, "training"):
        return None
    x, shape = saved(node, "input").detach(), output_shape(node)
    mean, variance, eps = (saved(node, f) for f in ("running_mean", "running_var", "eps"))

    def normalized() -> Tensor:
        to_channels = (-1, *[1] * (len(shape) - 2))
        centred = x - mean.reshape(to_channels)
        return centred * (variance + eps).rsqrt().reshape(to_channels)

    return Role(Kind.LONE, node, ScaleUse(Span(shape, (1,)), normalized, x))


def _layer_norm(node: Node, parameter: Tensor) -> Role:
    x, shape = saved(node, "input").detach(), output_shape(node)
    mean, rstd = saved(node, "result1"), saved(node, "result2")
    span = Span(shape, tuple(range(len(shape)))[-parameter.ndim :])
    return Role(Kind.LONE, node, ScaleUse(span, lambda: (x - mean) * rstd, x))


def _layer_norm_bias(node: Node, parameter: Tensor) -> Role:
    shape = output_shape(node)
    span = Span(shape, tuple(range(len(shape)))[-parameter.ndim :])
    return Role(Kind.BIAS, node, BiasUse(span, parameter))


def _group_norm(node: Node, parameter: Tensor) -> Role:
    x, shape = saved(node, "input").detach(), output_shape(node)
    mean, rstd = saved(node, "result1"), saved(node, "result2")

    def normalized() -> Tensor:
        groups = x.reshape(*mean.shape, -1)
        return ((groups - mean.unsqueeze(-1)) * rstd.unsqueeze(-1)).reshape(shape)

    return Role(Kind.LONE, node, ScaleUse(Span(shape, (1,)), normalized, x))


def _embedding(node: Node, parameter: Tensor) -> Role | None:
    if saved(node, "scale_grad_by_freq"):
        raise UnsupportedError(
            "An embedding has scale_grad_by_freq=True: its gradients are not derivatives. Set it "
            "to False."
        )
    padding = saved(node, "padding_idx")
    indices = saved(node, "indices").detach()
    if not 0 <= padding < len(parameter):  # autograd keeps -1 as an unsigned number
        padding = -1
    return Role(Kind.LONE, node, EmbeddingUse(indices, tuple(parameter.shape), padding))


def _indexed(node: Node, parameter: Tensor) -> Role | None:
    """Entries along the first axis of a parameter itself, picked by a tensor of indices.

    Of a tensor made of it, which may be activations of all samples, there may be far too many.
    """
    first, *others = saved(node, "indices")
    is_leaf = hasattr(node.next_functions[0][0], "variable")
    if not is_leaf or others or first.dtype is not torch.int64:
        return None
    shape = len(parameter), parameter[0].numel()
    return Role(Kind.LONE, node, EmbeddingUse(first.detach() % shape[0], shape, padding_idx=-1))


_OF_TRANSPOSED: dict[tuple[str, int], Rule] = {
    ("AddmmBackward0", 2): _linear("mat1", transposed=False),
    ("MmBackward0", 1): _linear("self", transposed=False),
}
"""Roles of the transpose of a parameter."""

_RULES: dict[tuple[str, int], Rule] = {
    ("AddmmBackward0", 0): _added_times("beta"),
    ("AddmmBackward0", 1): _product("mat2", transposed=False),
    ("AddmmBackward0", 2): _linear("mat1", transposed=True),
    ("SparseAddmmBackward0", 2): _linear("mat1", transposed=True),
    ("MmBackward0", 0): _product("mat2", transposed=False),
    ("MmBackward0", 1): _linear("self", transposed=True),
    ("MvBackward0", 1): _linear("self", transposed=False),
    ("BmmBackward0", 0): _product("mat2", transposed=False),
    ("BmmBackward0", 1): _product("self", transposed=True),
    ("BaddbmmBackward0", 0): _added_times("beta"),
    ("BaddbmmBackward0", 1): _product("batch2", transposed=False),
    ("BaddbmmBackward0", 2): _product("batch1", transposed=True),
    ("TrilinearBackward0", 1): _bilinear,
    ("ConvolutionBackward0", 1): _convolution,
    ("ConvolutionBackward0", 2): _channel_bias,
    ("AddBackward0", 0): _added,
    ("AddBackward0", 1): _added_times("alpha"),
    ("SubBackward0", 0): _added,
    ("SubBackward0", 1): _added_times("alpha", sign=-1),
    ("ExpandBackward0", 0): _added,
    ("RepeatBackward0", 0): _repeated,
    ("MulBackward0", 0): _multiplied("other"),
    ("MulBackward0", 1): _multiplied("self"),
    ("DivBackward0", 0): _divided,
    ("DivBackward0", 1): _divisor,
    ("WhereBackward0", 0): _chosen("condition", where=True),
    ("WhereBackward0", 1): _chosen("condition", where=False),
    ("MaskedFillBackward0", 0): _chosen("mask", where=False),
    ("NativeBatchNormBackward0", 1): _batch_norm,
    ("NativeBatchNormBackward0", 2): _channel_bias,
    ("NativeLayerNormBackward0", 1): _layer_norm,
    ("NativeLayerNormBackward0", 2): _layer_norm_bias,
    ("NativeGroupNormBackward0", 1): _group_norm,
    ("NativeGroupNormBackward0", 2): _channel_bias,
    ("EmbeddingBackward0", 0): _embedding,
    ("IndexBackward0", 0): _indexed,
    ("PreluKernelBackward0", 1): _negative_slope,
}
"""Roles of a parameter, by kind of node and index of the input."""


def _is_plain(node: Node) -> bool:
    """Whether a product, and what is added to it, have no number before them."""
    if node.name().startswith("SparseAddmm"):  # a product alone adds zero times nothing
        return saved(node, "alpha") == 1
    if not node.name().startswith(("Addmm", "Baddbmm")):
        return True
    return saved(node, "alpha") == 1 and saved(node, "beta") == 1


def _span(parameter: tuple[int, ...], output: tuple[int, ...]) -> Span | None:
    """Where a parameter lies that is broadcast to the output; None if no axis is for samples."""
    if len(parameter) > len(output):
        return None
    aligned = (1,) * (len(output) - len(parameter)) + parameter
    span = Span(output, tuple(axis for axis, size in enumerate(aligned) if size > 1))
    rows, _ = span.axes
    return span if rows else None
