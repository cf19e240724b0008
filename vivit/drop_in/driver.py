"""The BackPACK driver: cotangents of each layer in one backward pass, together with gradients.

BackPACK carries the factor ``S`` of the loss Hessian back through the modules. What its rules for
parameters would do with it is left to the layer rules of this library: each module's cotangents
are handed over as `Captured`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from backpack.extensions.module_extension import ModuleExtension
from backpack.extensions.saved_quantities import SavedQuantities
from backpack.extensions.secondorder.sqrt_ggn import (
    SqrtGGN,
    activations,
    batchnorm_nd,
    convnd,
    convtransposend,
    embedding,
    linear,
)
from backpack.extensions.secondorder.sqrt_ggn.base import SqrtGGNBaseModule
from backpack.utils.subsampling import subsample
from torch import Tensor, nn

from vivit.drop_in.captured import Captured, LossPass
from vivit.drop_in.refused import INSTEAD, check_rules_fit, shown
from vivit.dtypes import HALF
from vivit.errors import UnsupportedError
from vivit.losses import all_columns, loss_hessian
from vivit.options import Approximation, subset_index

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
        self.set_module_extension(nn.ReLU, _Relu(), overwrite=True)
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
                f"BackPACK knows nothing of the forward pass of {shown(module)}: either it comes "
                "by a second time in one backward pass, of which BackPACK knows the last use "
                "only, or in a second backward pass without retain_graph=True, or its forward "
                f"pass ran inside backpack's disable(). {INSTEAD}"
            )
        check_rules_fit(module)
        if self._is_at_output and type(module) not in LOSSES:
            self._compare_with_output(g_out[0])
        try:
            super().__call__(module, g_inp, g_out)
        except UnsupportedError:
            raise
        except NotImplementedError as error:
            raise UnsupportedError(
                f"BackPACK has no second-order rule for {shown(module)} ({error}). {INSTEAD}"
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
        factor = all_columns(approximation.factor(hessian, 0))
        samples = None
        if self.get_subsampling() is not None:
            index = subset_index(self.get_subsampling(), len(output))
            samples = index.to(output.device)
            factor = factor[samples] * (len(output) / len(samples)) ** 0.5
        reduced = approximation.spans_gradients
        self.saved_quantities = SavedQuantities()  # of a pass that did not reach its end
        self._is_at_output = True
        self._loss = LossPass(hessian, output, factor, samples, gradient, reduced)
        return factor.transpose(0, 1)

    def capture(self, module: nn.Module, s: Tensor, gradient: Tensor) -> Captured:
        """What a module leaves.

        Raises:
            UnsupportedError: The cotangents are those of another tensor than its output, or the
                module ran in another precision than that of its parameters.
        """
        assert self._loss is not None
        output: Tensor = module.output  # type: ignore[assignment]
        for parameter in module.parameters(recurse=False):
            if parameter.dtype in HALF:
                raise UnsupportedError(
                    f"{shown(module)} has parameters of {parameter.dtype}, in which nothing can "
                    f"be decomposed. Convert the model with model.float(). {INSTEAD}"
                )
            if not parameter.dtype == output.dtype == s.dtype:
                raise UnsupportedError(
                    f"{shown(module)} gave an output of {output.dtype} and got cotangents of "
                    f"{s.dtype}, but its parameters are {parameter.dtype}: the curvature would be "
                    "as inaccurate as the lower precision. Run forward and backward passes "
                    "without torch.autocast."
                )
        expected = [len(self._loss.factor), *output.shape[1:]]
        if list(s.shape[1:]) != expected:
            raise UnsupportedError(
                f"Behind {shown(module)}, the model changes its output of shape {expected} in a "
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


class _Relu(activations.SqrtGGNReLU):
    """Passes ``S`` where the output is positive.

    BackPACK would make a mask in the dtype of ``S`` and multiply. Where inputs are large, a mask
    that is as large as they are decides how much memory the whole backward pass takes.
    """

    def backpropagate(
        self,
        extension: CotangentExtension,
        module: nn.Module,
        g_inp: tuple[Tensor, ...],
        g_out: tuple[Tensor, ...],
        backproped: Tensor,
    ) -> Tensor:
        output: Tensor = module.output  # type: ignore[assignment]
        passed = subsample(output.detach(), subsampling=extension.get_subsampling()) > 0
        return torch.where(passed, backproped, 0.0)


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
