"""Torch's modules as affine layers, from the inputs and outputs that BackPACK keeps of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from vivit.drop_in.refused import INSTEAD
from vivit.errors import UnsupportedError
from vivit.layers.convolutions import ConvolutionUse, TransposedConvolutionUse
from vivit.layers.entrywise import BiasUse, ScaleUse, Span
from vivit.layers.layer import AffineLayer
from vivit.layers.uses import AffineUse, EmbeddingUse, LinearUse, SampleOrder


def layers_of(
    module: nn.Module, samples: Tensor | None, names: Mapping[str, str]
) -> list[AffineLayer]:
    """The affine layers that a module consists of.

    Args:
        module: One of `CAPTURED`, with its input and output as BackPACK stores them.
        samples: Indices of samples; None for all.
        names: Attribute of the module -> name, for those of its parameters that count.

    Returns:
        One layer, or two if its weight and its bias are served apart.
    """
    io: Any = module
    x = io.input0.detach() if samples is None else io.input0.detach()[samples]
    weight, bias = names.get("weight"), names.get("bias")
    if isinstance(module, nn.Linear):
        rows = x.reshape(-1, x.shape[-1])
        return [_layer(weight, bias, LinearUse(rows, module.out_features), x)]
    if isinstance(module, nn.Embedding):
        padding = -1 if module.padding_idx is None else module.padding_idx
        use = EmbeddingUse(x, tuple(module.weight.shape), padding)
        return [_layer(weight, None, use, x)]
    if isinstance(module, _ConvNd) and not isinstance(module, _ConvTransposeNd):
        return [_layer(weight, bias, _convolution(module, x, tuple(io.output.shape[2:])), x)]
    span = Span((len(x), *io.output.shape[1:]), (1,))
    layers = []
    if weight is not None:
        layers.append(_layer(weight, None, _weight_alone(module, x, span), x))
    if bias is not None:
        layers.append(_layer(None, bias, BiasUse(span, io.bias.detach()), x))
    return layers


def cotangents_of(layer: AffineLayer, s: Tensor) -> Tensor:
    """Cotangents of a module's output, ``[N, *]``, as the layer's ``[N, T, g, o]``."""
    (use,) = layer.uses
    return layer.cotangents([s.reshape(use.rows, -1) if isinstance(use, LinearUse) else s])


def _layer(weight: str | None, bias: str | None, use: AffineUse, x: Tensor) -> AffineLayer:
    return AffineLayer(weight, bias, (use,), (SampleOrder.SAMPLE_FIRST,), len(x))


def _convolution(module: _ConvNd, x: Tensor, size: tuple[int, ...]) -> ConvolutionUse:
    return ConvolutionUse(
        x,
        tuple(module.weight.shape),
        size,
        tuple(module.stride),
        _zeros_added(module),
        tuple(module.dilation),
        module.groups,
    )


def _zeros_added(module: _ConvNd) -> tuple[int, ...]:
    """Padding in numbers."""
    if not isinstance(module.padding, str):
        return tuple(int(size) for size in module.padding)
    if module.padding == "valid":
        return (0,) * len(module.kernel_size)
    extent = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    if any(e % 2 for e in extent):
        raise UnsupportedError(f"{module} pads more on one side than on the other. {INSTEAD}")
    return tuple(e // 2 for e in extent)


def _weight_alone(module: Any, x: Tensor, span: Span) -> AffineUse:
    """The weight of a module whose bias is a layer of its own."""
    if isinstance(module, _ConvTransposeNd):
        return TransposedConvolutionUse(
            x,
            tuple(module.weight.shape),
            tuple(module.stride),
            tuple(int(size) for size in module.padding),
            tuple(module.dilation),
            module.groups,
        )
    to_channels = (-1, *[1] * (x.ndim - 2))
    mean = module.running_mean.reshape(to_channels)
    rstd = (module.running_var + module.eps).rsqrt().reshape(to_channels)
    return ScaleUse(span, lambda: (x - mean) * rstd, x)
