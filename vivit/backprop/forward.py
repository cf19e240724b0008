"""Circumstances of a forward pass: what is switched off or taken aside for its duration."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from vivit.devices import traits


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Attention without its fused kernels, which autograd can differentiate only once."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


@contextmanager
def unfused_recurrence(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Recurrent layers as products, one per weight and time step.

    The fused kernels of oneDNN and cuDNN hide how they use their weights, and can be
    differentiated only once. A model without recurrent layers keeps its kernels.
    """
    if not any(isinstance(module, nn.RNNBase) for module in modules):
        yield
        return
    # the flags of torch.backends.mkldnn and cudnn would touch unrelated settings, and warn
    mkldnn, cudnn = torch._C._get_mkldnn_enabled(), torch._C._get_cudnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    torch._C._set_cudnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(mkldnn)
        torch._C._set_cudnn_enabled(cudnn)


@contextmanager
def eager(modules: Iterable[nn.Module]) -> Iterator[None]:
    """What is compiled runs as it is written: compiled graphs tell nothing of layers."""
    if not any(_is_compiled(module) for module in modules):
        yield  # without torch's compiler, which takes seconds to import
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _is_compiled(module: nn.Module) -> bool:
    return module._compiled_call_impl is not None or hasattr(module, "_orig_mod")


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Convolutions on a GPU in float32, unless TF32 was asked for.

    By default torch computes them, but not matrix products, in TF32, whose precision is 1e-3. So
    matrix products tell what was asked for.

    Args:
        device: Of the model; nothing is switched for any but CUDA's.
    """
    if device.type != "cuda":
        yield
        return
    is_asked, backends, name, full = _precisions()
    before = [getattr(backend, name) for backend in backends]
    try:
        for backend in () if is_asked else backends:
            setattr(backend, name, full)
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            setattr(backend, name, precision)


def _precisions() -> tuple[bool, list[Any], str, Any]:
    """Whether TF32 was asked for; what else has a setting, its name, and its value without."""
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    if not hasattr(cudnn, "conv"):  # before torch 2.9
        return matmul.allow_tf32, [cudnn], "allow_tf32", False
    is_asked = matmul.fp32_precision == "tf32"
    return is_asked, [cudnn.conv, cudnn.rnn], "fp32_precision", "ieee"


@contextmanager
def untouched(modules: Iterable[nn.Module]) -> Iterator[list[Tensor]]:
    """Let a forward pass neither change buffers of modules nor run their backward hooks.

    The pass works on copies of the buffers, so that running statistics or the vectors of a
    spectral norm stay as they were.

    Args:
        modules: All of a model; as they were when the context ends.

    Yields:
        A list that receives those copies that the pass has changed, when the context ends.
    """
    changed: list[Tensor] = []
    copies: dict[int, Tensor] = {}
    kept = []
    for module in modules:
        if not (module._buffers or module._backward_hooks or module._backward_pre_hooks):
            continue
        hooks = module._backward_hooks, module._backward_pre_hooks
        kept.append((module, dict(module._buffers), hooks))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                copies.setdefault(id(buffer), buffer.clone())
                module._buffers[name] = copies[id(buffer)]
        module._backward_hooks, module._backward_pre_hooks = OrderedDict(), OrderedDict()
    try:
        yield changed
    finally:
        changed += [copy for copy in copies.values() if copy._version]
        for module, buffers, hooks in kept:
            module._buffers.update(buffers)
            module._backward_hooks, module._backward_pre_hooks = hooks


@contextmanager
def checked_indices(device: torch.device) -> Iterator[None]:
    """Let an operation with an index out of range raise before the device sees the index.

    It raises what it raises on a CPU, an IndexError or a RuntimeError. Kernels that torch does not
    dispatch are not covered.

    Args:
        device: Of the model.
    """
    if traits(device).raises_index_errors:
        yield
        return
    with _IndicesFirst():
        yield


class _IndicesFirst(TorchDispatchMode):
    """Tries operations that take integers on the CPU first.

    In place of floating-point tensors they get uninitialized ones of the same shape.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation."""
        kwargs = kwargs or {}
        if any(map(_is_index, tree_leaves((args, kwargs)))):
            with suppress(NotImplementedError):  # what has no kernel there is not tried
                func(*tree_map(_on_cpu, args), **tree_map(_on_cpu, kwargs))
        return func(*args, **kwargs)


def _is_index(x: Any) -> bool:
    return isinstance(x, Tensor) and not _has_shape_only(x) and x.dtype is not torch.bool


def _has_shape_only(x: Tensor) -> bool:
    """Whether the values of a tensor cannot be out of range."""
    return x.is_floating_point() or x.is_complex()


def _on_cpu(x: Any) -> Any:
    """A copy of an index or a mask, which may be on the CPU already; of others the shape."""
    if not isinstance(x, Tensor):
        return x
    if _has_shape_only(x):
        return torch.empty_like(x, device="cpu")
    return x.to("cpu", copy=True)
