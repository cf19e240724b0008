"""What an autograd node does with a parameter: one entry per kind of node and input.

Anything that is not listed here is another role: a parameter may well be the input of a
convolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from torch import Tensor
from torch.autograd.graph import Node

from vivit.backprop.nodes import Consumers, output_shape, saved
from vivit.errors import UnsupportedError
from vivit.layers.convolutions import ConvolutionUse, TransposedConvolutionUse
from vivit.layers.entrywise import BiasUse, ScaleUse, Span
from vivit.layers.uses import AffineUse, EmbeddingUse, LinearUse


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
        Its roles: one, or as many as a transposed or repeated form of it has; None for one that
        is not known.
    """
    further = consumers.get((node, 0), [])
    if parameter.ndim == 2 and further and _is_transpose(node):
        return [_role(_OF_TRANSPOSED, use, i, parameter) for use, i in further]
    if node.name() == "RepeatBackward0" and parameter.ndim == 1 and further:
        return [_role(_OF_REPEATED, use, i, parameter) for use, i in further]
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
        use = LinearUse(saved(node, field).detach(), output_shape(node)[1], transposed)
        return Role(Kind.LONE if transposed else Kind.WEIGHT, node, use)

    return rule


def _convolution(node: Node, parameter: Tensor) -> Role:
    settings = {name: tuple(saved(node, name)) for name in ("stride", "padding", "dilation")}
    x, groups = saved(node, "input").detach(), saved(node, "groups")
    shape = tuple(saved(node, "weight").shape)
    if saved(node, "transposed"):
        return Role(Kind.LONE, node, TransposedConvolutionUse(x, shape, **settings, groups=groups))
    size = output_shape(node)[2:]
    return Role(Kind.WEIGHT, node, ConvolutionUse(x, shape, size, **settings, groups=groups))


def _channel_bias(node: Node, parameter: Tensor) -> Role:
    return Role(Kind.BIAS, node, BiasUse(Span(output_shape(node), 1, 2), parameter))


def _matrix_bias(node: Node, parameter: Tensor) -> Role | None:
    return _added(node, parameter) if _is_plain(node) and parameter.ndim == 1 else None


def _added(node: Node, parameter: Tensor) -> Role | None:
    span = _span(tuple(parameter.shape), output_shape(node))
    return None if span is None else Role(Kind.BIAS, node, BiasUse(span, parameter))


def _added_second(node: Node, parameter: Tensor) -> Role | None:
    return _added(node, parameter) if saved(node, "alpha") == 1 else None


def _multiplied(field: str) -> Rule:
    def rule(node: Node, parameter: Tensor) -> Role | None:
        shape, other = output_shape(node), saved(node, field)
        span = _span(tuple(parameter.shape), shape)
        if span is None or not isinstance(other, Tensor) or other.dtype != parameter.dtype:
            return None
        factor = other.detach()
        return Role(Kind.LONE, node, ScaleUse(span, lambda: factor.expand(shape), factor))

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

    return Role(Kind.LONE, node, ScaleUse(Span(shape, 1, 2), normalized, x))


def _instance_norm(node: Node, parameter: Tensor) -> Role | None:
    span = _instances(node, parameter)
    if span is None:
        return None
    x = saved(node, "input").detach()
    if saved(node, "training"):
        mean, rstd = saved(node, "result1"), saved(node, "result2")
    else:
        mean = saved(node, "running_mean")
        rstd = (saved(node, "running_var") + saved(node, "eps")).rsqrt()

    def normalized() -> Tensor:
        channels = x.reshape(len(mean), -1)
        return ((channels - mean[:, None]) * rstd[:, None]).reshape(span.shape)

    return Role(Kind.LONE, node, ScaleUse(span, normalized, x))


def _instance_norm_bias(node: Node, parameter: Tensor) -> Role | None:
    span = _instances(node, parameter)
    return None if span is None else Role(Kind.BIAS, node, BiasUse(span, parameter))


def _instances(node: Node, parameter: Tensor) -> Span | None:
    """InstanceNorm is a batch norm of one sample that has the channels of all samples."""
    one, channels, *spatial = output_shape(node)
    if one != 1 or channels % len(parameter):
        return None
    return Span((channels // len(parameter), len(parameter), *spatial), 1, 2)


def _layer_norm(node: Node, parameter: Tensor) -> Role:
    x, shape = saved(node, "input").detach(), output_shape(node)
    mean, rstd = saved(node, "result1"), saved(node, "result2")
    span = Span(shape, len(shape) - parameter.ndim, len(shape))
    return Role(Kind.LONE, node, ScaleUse(span, lambda: (x - mean) * rstd, x))


def _layer_norm_bias(node: Node, parameter: Tensor) -> Role:
    shape = output_shape(node)
    span = Span(shape, len(shape) - parameter.ndim, len(shape))
    return Role(Kind.BIAS, node, BiasUse(span, parameter))


def _group_norm(node: Node, parameter: Tensor) -> Role:
    x, shape = saved(node, "input").detach(), output_shape(node)
    mean, rstd = saved(node, "result1"), saved(node, "result2")

    def normalized() -> Tensor:
        groups = x.reshape(*mean.shape, -1)
        return ((groups - mean.unsqueeze(-1)) * rstd.unsqueeze(-1)).reshape(shape)

    return Role(Kind.LONE, node, ScaleUse(Span(shape, 1, 2), normalized, x))


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


_OF_TRANSPOSED: dict[tuple[str, int], Rule] = {
    ("AddmmBackward0", 2): _linear("mat1", transposed=False),
    ("MmBackward0", 1): _linear("self", transposed=False),
}
"""Roles of the transpose of a parameter."""

_OF_REPEATED: dict[tuple[str, int], Rule] = {
    ("NativeBatchNormBackward0", 1): _instance_norm,
    ("NativeBatchNormBackward0", 2): _instance_norm_bias,
}
"""Roles of a parameter that was repeated for every sample."""

_RULES: dict[tuple[str, int], Rule] = {
    ("AddmmBackward0", 0): _matrix_bias,
    ("AddmmBackward0", 2): _linear("mat1", transposed=True),
    ("MmBackward0", 1): _linear("self", transposed=True),
    ("ConvolutionBackward0", 1): _convolution,
    ("ConvolutionBackward0", 2): _channel_bias,
    ("AddBackward0", 0): _added,
    ("AddBackward0", 1): _added_second,
    ("MulBackward0", 0): _multiplied("other"),
    ("MulBackward0", 1): _multiplied("self"),
    ("NativeBatchNormBackward0", 1): _batch_norm,
    ("NativeBatchNormBackward0", 2): _channel_bias,
    ("NativeLayerNormBackward0", 1): _layer_norm,
    ("NativeLayerNormBackward0", 2): _layer_norm_bias,
    ("NativeGroupNormBackward0", 1): _group_norm,
    ("NativeGroupNormBackward0", 2): _channel_bias,
    ("EmbeddingBackward0", 0): _embedding,
    ("PreluKernelBackward0", 1): _negative_slope,
}
"""Roles of a parameter, by kind of node and index of the input."""


def _is_plain(node: Node) -> bool:
    if node.name() == "MmBackward0":
        return True
    return saved(node, "alpha") == 1 and saved(node, "beta") == 1


def _span(parameter: tuple[int, ...], output: tuple[int, ...]) -> Span | None:
    """Where a parameter lies that is broadcast to the output; None if not in adjacent axes.

    The first axis of the output is that of samples, which the parameter may not have.
    """
    if len(parameter) > len(output):
        return None
    aligned = (1,) * (len(output) - len(parameter)) + parameter
    own = [axis for axis, size in enumerate(aligned) if size > 1]
    start, stop = (own[0], own[-1] + 1) if own else (1, 1)
    covered = math.prod(output[start:stop]) == math.prod(parameter)
    if start == 0 or stop > len(output) or not covered:
        return None
    return Span(output, start, stop)
