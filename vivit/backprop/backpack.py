"""The BackPACK driver: cotangents of each layer in one backward pass, together with gradients.

BackPACK carries the factor ``S`` of the loss Hessian back through the modules. What its rules for
parameters would do with it is left to the layer rules of this library: each module's input and
cotangents are handed over as `Captured`, from which `layers_of` makes affine layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from backpack.extensions.module_extension import ModuleExtension
from backpack.extensions.saved_quantities import SavedQuantities
from backpack.extensions.secondorder.sqrt_ggn import (
    SqrtGGN,
    batchnorm_nd,
    convnd,
    convtransposend,
    embedding,
    linear,
)
from backpack.extensions.secondorder.sqrt_ggn.base import SqrtGGNBaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from vivit.errors import InputError, UnsupportedError
from vivit.layers.convolutions import ConvolutionUse, TransposedConvolutionUse
from vivit.layers.entrywise import BiasUse, ScaleUse, Span
from vivit.layers.layer import AffineLayer
from vivit.layers.uses import AffineUse, EmbeddingUse, LinearUse, SampleOrder
from vivit.losses import LossHessian, loss_hessian
from vivit.options import Approximation

INSTEAD = "Use vivit.GGN(model, loss_func, (X, y)), which supports it."

CAPTURED: dict[type[nn.Module], SqrtGGNBaseModule] = {
    nn.Linear: linear.SqrtGGNLinear(),
    nn.Conv1d: convnd.SqrtGGNConv1d(),
    nn.Conv2d: convnd.SqrtGGNConv2d(),
    nn.Conv3d: convnd.SqrtGGNConv3d(),
    nn.ConvTranspose1d: convtransposend.SqrtGGNConvTranspose1d(),
    nn.ConvTranspose2d: convtransposend.SqrtGGNConvTranspose2d(),
    nn.ConvTranspose3d: convtransposend.SqrtGGNConvTranspose3d(),
    nn.BatchNorm1d: batchnorm_nd.SqrtGGNBatchNormNd(),
    nn.BatchNorm2d: batchnorm_nd.SqrtGGNBatchNormNd(),
    nn.BatchNorm3d: batchnorm_nd.SqrtGGNBatchNormNd(),
    nn.Embedding: embedding.SqrtGGNEmbedding(),
}
"""Modules with parameters that BackPACK can pass, and its rules for that."""

LOSSES = (nn.CrossEntropyLoss, nn.MSELoss, nn.BCEWithLogitsLoss)
"""Losses that BackPACK knows; their Hessians are the library's own."""


@dataclass(frozen=True)
class LossPass:
    """What is known when the backward pass has left the loss.

    Attributes:
        hessian: Of the loss by the model output.
        output: Model output, shape ``[N, *out]``.
        factor: Of the samples with curvature, shape ``[N_ggn, C, *out]``.
        samples: Their indices; None for all.
        gradient: Of the mini-batch loss by the output, shape ``[N, *out]``; None if the loss
            module is not all that the backward pass began with.
        has_reduced_columns: Whether there are as few columns as the loss Hessian's rank.
    """

    hessian: LossHessian
    output: Tensor
    factor: Tensor
    samples: Tensor | None
    gradient: Tensor | None
    has_reduced_columns: bool

    @property
    def is_exact(self) -> bool:
        """Whether the factor is that of the whole loss Hessian, so that it spans gradients."""
        return self.samples is None and self.has_reduced_columns

    @cached_property
    def coordinates(self) -> Tensor | None:
        """``w`` with ``g_n = V_n w_n``, shape ``[N, C]``, where gradients lie in the span."""
        if self.gradient is None or not self.is_exact:
            return None
        return self.hessian.coordinates(self.gradient)

    @property
    def num_columns(self) -> int:
        """``M``, columns of all samples with curvature."""
        return self.factor.shape[:2].numel()


@dataclass(frozen=True)
class Captured:
    """What a module leaves for its parameters.

    Attributes:
        loss: Where the backward pass came from.
        s: Cotangents of the module's output, shape ``[C, N_ggn, *]``.
        gradient: Derivative of the mini-batch loss by the module's output, shape ``[N, *]``.
    """

    loss: LossPass
    s: Tensor
    gradient: Tensor


class CotangentExtension(SqrtGGN):
    """Carries ``S`` back and leaves `Captured` at every parameter, under its `savefield`."""

    def __init__(
        self,
        savefield: str,
        approximation: Callable[[], Approximation],
        subsampling: list[int] | None,
        forget: Callable[[], None],
    ) -> None:
        """Choose the factor.

        Args:
            savefield: Name of the attribute of parameters.
            approximation: Says for each backward pass how the loss Hessian is factored.
            subsampling: Indices of the samples that carry curvature; None for all.
            forget: Called when a backward pass fails, whose results are none.
        """
        super().__init__("exact", savefield, subsampling)
        self._approximation, self._forget = approximation, forget
        self._loss: LossPass | None = None
        self._is_at_output = False
        for module, rules in CAPTURED.items():
            names = ["weight"] if module is nn.Embedding else ["weight", "bias"]
            self.set_module_extension(module, _Capture(rules, names), overwrite=True)
        for loss in LOSSES:
            self.set_module_extension(loss, _Begin(), overwrite=True)

    def __call__(
        self, module: nn.Module, g_inp: tuple[Tensor, ...], g_out: tuple[Tensor, ...]
    ) -> None:
        """Pass a module.

        Raises:
            UnsupportedError: BackPACK cannot, or would do something else than the module does.
        """
        try:
            self._pass(module, g_inp, g_out)
        except Exception:
            for parameter in module.parameters(recurse=False):
                if hasattr(parameter, self.savefield):
                    delattr(parameter, self.savefield)
            self._forget()
            raise

    def _pass(
        self, module: nn.Module, g_inp: tuple[Tensor, ...], g_out: tuple[Tensor, ...]
    ) -> None:
        if not hasattr(module, "output"):
            raise UnsupportedError(
                f"BackPACK knows nothing of the forward pass of {_shown(module)}: either it comes "
                "by a second time in one backward pass, of which BackPACK knows the last use "
                "only, or in a second backward pass without retain_graph=True, or its forward "
                f"pass ran inside backpack's disable(). {INSTEAD}"
            )
        _check_rules_fit(module)
        if self._is_at_output and type(module) not in LOSSES:
            self._compare_with_output(g_out[0])
        try:
            super().__call__(module, g_inp, g_out)
        except UnsupportedError:
            raise
        except NotImplementedError as error:
            raise UnsupportedError(
                f"BackPACK has no second-order rule for {_shown(module)} ({error}). {INSTEAD}"
            ) from error

    def _compare_with_output(self, gradient: Tensor) -> None:
        """Forget the loss module's gradient if it is only a part: if there is a penalty, say."""
        self._is_at_output = False
        assert self._loss is not None
        assert self._loss.gradient is not None
        own = self._loss.gradient
        if gradient.shape != own.shape or not torch.equal(gradient, own):
            self._loss = replace(self._loss, gradient=None)

    def begin(self, loss_func: nn.Module, gradient: Tensor) -> Tensor:
        """Factor the loss Hessian.

        Args:
            loss_func: The loss, with its inputs as BackPACK stores them.
            gradient: Of the loss by the model output.

        Returns:
            ``S``, shape ``[C, N_ggn, *out]``.

        Raises:
            UnsupportedError: The loss is not a mean.
            InputError: A sample does not exist.
        """
        if loss_func.reduction != "mean":
            raise UnsupportedError(
                f"{loss_func} has reduction={loss_func.reduction!r}, but eigenvalues and steps "
                f"are defined here for a mean over samples. Use reduction='mean', or {INSTEAD[4:]}"
            )
        inputs: Any = loss_func
        output, target = inputs.input0.detach(), inputs.input1
        hessian = loss_hessian(loss_func, output, target)
        approximation = self._approximation()
        factor = approximation.factor(hessian, 0)
        samples = None
        if self.get_subsampling() is not None:
            samples = sample_index(self.get_subsampling(), output)
            factor = factor[samples] * (len(output) / len(samples)) ** 0.5
        reduced = approximation.spans_gradients
        self.saved_quantities = SavedQuantities()  # of a pass that did not reach its end
        self._is_at_output = True
        self._loss = LossPass(hessian, output, factor, samples, gradient, reduced)
        return factor.transpose(0, 1)

    def capture(self, module: nn.Module, s: Tensor, gradient: Tensor) -> Captured:
        """What a module leaves.

        Raises:
            UnsupportedError: The cotangents are those of another tensor than its output.
        """
        assert self._loss is not None
        output: Tensor = module.output  # type: ignore[assignment]
        expected = [len(self._loss.factor), *output.shape[1:]]
        if list(s.shape[1:]) != expected:
            raise UnsupportedError(
                f"Behind {_shown(module)}, the model changes its output of shape {expected} in a "
                f"way that BackPACK does not see: cotangents of shape {list(s.shape[1:])} came "
                f"back. {INSTEAD}"
            )
        return Captured(self._loss, s, gradient)


class _Begin(ModuleExtension):
    """The first module of a backward pass: the loss."""

    def backpropagate(
        self,
        extension: CotangentExtension,
        module: nn.Module,
        g_inp: tuple[Tensor, ...],
        g_out: tuple[Tensor, ...],
        bpQuantities: None,  # noqa: N803 - BackPACK's name
    ) -> Tensor:
        return extension.begin(module, g_inp[0])


class _Capture(SqrtGGNBaseModule):
    """A module with parameters, which leaves its cotangents instead of columns of ``V``."""

    def __init__(self, rules: SqrtGGNBaseModule, names: list[str]) -> None:
        super().__init__(rules.derivatives, names)

    def weight(
        self,
        extension: CotangentExtension,
        module: nn.Module,
        g_inp: tuple[Tensor, ...],
        g_out: tuple[Tensor, ...],
        backproped: Tensor,
    ) -> Captured:
        """The same for all parameters of a module."""
        return extension.capture(module, backproped, g_out[0])

    bias = weight


def _check_rules_fit(module: Any) -> None:
    """Refuse modules that BackPACK passes, but as if they were others.

    Raises:
        UnsupportedError: It is such a module.
    """
    if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
        statistics = module.running_mean is None
        what = "Use track_running_stats=True." if statistics else "Call model.eval()."
        raise UnsupportedError(
            f"{module} uses the statistics of the batch, so samples have no curvature of their "
            f"own. {what}"
        )
    if isinstance(module, _ConvNd) and module.padding_mode != "zeros":
        raise UnsupportedError(
            f"{module} pads with {module.padding_mode!r}, BackPACK knows zeros only. {INSTEAD}"
        )
    passes_on = getattr(module, "input0", None) is not None and module.input0.requires_grad
    if isinstance(module, _ConvNd) and isinstance(module.padding, str) and passes_on:
        raise UnsupportedError(
            f"{module} has padding={module.padding!r}, BackPACK knows numbers only: give the "
            f"number of zeros on each side. Or {INSTEAD[0].lower()}{INSTEAD[1:]}"
        )
    if getattr(module, "divisor_override", None) is not None:
        raise UnsupportedError(
            f"{module} has a divisor_override, which BackPACK does not know. {INSTEAD}"
        )


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
    span = Span((len(x), *io.output.shape[1:]), 1, 2)
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


def _shown(module: nn.Module) -> str:
    """A layer in a line."""
    text = repr(module)
    return type(module).__name__ if "\n" in text else text


def sample_index(subsampling: list[int], output: Tensor) -> Tensor:
    """Indices of samples, in the order given.

    Raises:
        InputError: A sample does not exist.
    """
    index = torch.tensor(subsampling, device=output.device)
    outside = (index < -len(output)) | (index >= len(output))
    if outside.any():
        raise InputError(
            f"The subsampling has sample {int(index[outside][0])}, but the batch has "
            f"{len(output)} samples."
        )
    index = index % len(output)  # negative ones count from the end
    values, counts = index.unique(return_counts=True)
    if (counts > 1).any():
        raise InputError(f"The subsampling has duplicate samples: {values[counts > 1].tolist()}.")
    return index
