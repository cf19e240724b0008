"""Models that are refused, and why."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from vivit.backprop.autocast import is_mixed
from vivit.backprop.graph import ParameterUses
from vivit.backprop.lower_precision import LowerPrecision
from vivit.dtypes import loosened, working
from vivit.errors import InputError, StaleError, UnsupportedError

SHARDING_WRAPPERS = ("FullyShardedDataParallel", "DeepSpeedEngine", "TensorParallel")
"""Classes of modules that leave each process a part of the parameters."""

SHOWN = 5
"""Names that a message lists."""


def refuse_batch_statistics(model: nn.Module) -> None:
    """Refuse BatchNorm modules that would mix samples, before they update their statistics."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            raise UnsupportedError(
                f"{type(module).__name__} {name!r} uses the statistics of the batch, so that the "
                "samples depend on each other and per-sample Jacobians do not describe the model. "
                "Call model.eval() (with track_running_stats=True), or use GroupNorm; or say "
                "mixing='allow', if the statistics are meant."
            )


def refuse_renormalized_embeddings(model: nn.Module) -> None:
    """Refuse embeddings that change their weights in the forward pass."""
    for name, module in model.named_modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.max_norm is not None:
            raise UnsupportedError(
                f"{type(module).__name__} {name!r} has max_norm={module.max_norm}: its forward "
                "pass changes its weights. Renormalise them before, and set max_norm to None."
            )


def refuse_shards(model: nn.Module, parameters: Mapping[str, Tensor]) -> None:
    """Refuse models of which each process holds a part: what is here is not all of them.

    Args:
        model: The model.
        parameters: Those that count.

    Raises:
        UnsupportedError: It is sharded.
    """
    for name, module in model.named_modules():
        if type(module).__name__ in SHARDING_WRAPPERS:
            raise _sharded(f"{type(module).__name__} {name!r}")
    for name, p in parameters.items():
        if type(p.data).__name__ == "DTensor" or hasattr(p, "ds_id"):
            raise _sharded(f"parameter {name!r}")


def _sharded(what: str) -> UnsupportedError:
    return UnsupportedError(
        f"The model is sharded over processes ({what}): autograd sees pieces of its parameters, "
        "and the curvature would be zero or that of a piece. Use the model before it is wrapped, "
        "or gather its parameters into a plain copy."
    )


class Findings:
    """What graphs of all batches tell of how parameters reach the output, or do not.

    Attributes:
        lower_precision: What computes in a lower precision than that of results.
    """

    def __init__(self, parameters: list[str]) -> None:
        """Nothing is known before the first batch.

        Args:
            parameters: Names of those that count.
        """
        self._parameters = parameters
        self._used: set[str] = set()
        self._custom_function: str | None = None
        self.lower_precision: LowerPrecision | None = None

    def add(self, uses: ParameterUses) -> None:
        """Take how a batch uses them: what some batch needs is used."""
        self._used |= uses.names
        self._custom_function = self._custom_function or uses.custom_function
        found = [x for x in (self.lower_precision, uses.lower_precision) if x is not None]
        self.lower_precision = max(found, key=lambda x: torch.finfo(x.dtype).eps, default=None)

    def tell(self) -> None:
        """Warn of what is seldom meant.

        Raises:
            InputError: No parameter reaches the output, so that all curvature would be zero.
        """
        unused = [name for name in self._parameters if name not in self._used]
        if len(unused) == len(self._parameters):
            raise InputError(
                "No selected parameter influences the model output as autograd sees it, so that "
                f"all curvature would be zero: {self._shown(unused)}"
            )
        if unused:
            warnings.warn(
                "These parameters do not influence the model output as autograd sees it, and "
                f"count as unused, without curvature: {self._shown(unused)}",
                stacklevel=2,
            )
        if self.lower_precision is not None:
            warnings.warn(self.lower_precision.warning, stacklevel=2)

    def _shown(self, names: list[str]) -> str:
        """Names, and what may be the reason."""
        some = ", ".join(names[:SHOWN])
        more = f" and {len(names) - SHOWN} more" if names[SHOWN:] else ""
        if self._custom_function is not None:
            return (
                f"{some}{more}. The model has a custom autograd function "
                f"({self._custom_function}) that may hide them: if so, replace it by plain tensor "
                "operations."
            )
        return (
            f"{some}{more}. Look for torch.no_grad, detach, .data, numpy or .item() in its "
            "forward pass, and for adapters that are disabled or merged; or another output of the "
            "model is meant: say so with forward=."
        )


def once_differentiable(reason: str) -> UnsupportedError:
    """The error for a Jacobian-vector product that autograd cannot form."""
    return UnsupportedError(
        "Products with the GGN need second derivatives of every operation, or its forward mode, "
        f"but one can be differentiated only once: {reason} The Gram matrix, eigenvalues and "
        "eigenvectors do not need them."
    )


def refuse_gradient_hooks(parameters: Mapping[str, Tensor]) -> None:
    """Hooks on parameters run in every backward pass and may change the derivatives."""
    for name, p in parameters.items():
        if p._backward_hooks:
            raise UnsupportedError(
                f"Parameter {name!r} has gradient hooks (register_hook), which would change what "
                "is computed here. Remove them first."
            )


def check_output(output: object, parameters: Mapping[str, Tensor]) -> None:
    """Refuse anything but a finite tensor in the precision of results, samples first."""
    if not isinstance(output, Tensor):
        raise InputError(
            f"The model must return one tensor, got {_shown(output)}. Say which of it goes into "
            "the loss: forward=lambda model, X: model(X)..., or model(**X)... for a mapping."
        )
    if output.is_nested:
        raise InputError(
            "The model output is a nested tensor, expected [N, ...], samples of one shape. Pad "
            "the inputs, or the output: forward=lambda model, X: model(X).to_padded_tensor(0.0)."
        )
    if output.ndim == 0 or output.numel() == 0:
        raise InputError(
            f"The model output has shape {list(output.shape)}, expected [N, ...] with N >= 1 "
            "samples along the first axis. "
            + (
                "Is it a loss? Say where the output is: forward=lambda model, X: model(**X)[1]."
                if output.ndim == 0
                else "Is the batch empty?"
            )
        )
    dtype = next(iter(parameters.values())).dtype
    if output.dtype != working(dtype):
        raise UnsupportedError(
            f"The model output has dtype {output.dtype}, the parameters have {dtype}: it has to "
            f"be {working(dtype)}, or half precision beside single precision. Convert it in "
            "forward=, or the model."
        )
    if not output.isfinite().all():
        bad = (~output.isfinite()).flatten(1).any(1) if output.ndim > 1 else ~output.isfinite()
        rows = bad.nonzero().flatten().tolist()
        raise InputError(
            f"The model output is NaN or infinite for {len(rows)} of {len(output)} samples, the "
            f"first at index {rows[0]}. Check the inputs and the parameters."
        )


def refuse_single_sample(output: Tensor, x: Any) -> None:
    """Refuse a vector of features in place of a batch, where lengths tell.

    Args:
        output: Of the model.
        x: What it is called with.

    Raises:
        InputError: Its entries are no samples.
    """
    if isinstance(x, Tensor) and x.ndim == 1 and len(x) != len(output):
        raise InputError(
            f"X has shape {list(x.shape)}, and the model output {list(output.shape)}, expected "
            "samples along the first axis of both. Is it a single sample? Give a batch of it, "
            "X[None] and y[None]. If it is not: forward=lambda model, X: model(X)."
        )


def refuse_contexts() -> None:
    """Refuse to compute in mixed precision, or where nothing can be differentiated."""
    if torch.is_inference_mode_enabled():
        raise UnsupportedError(
            "Nothing can be differentiated in torch.inference_mode. Leave it, or use "
            "torch.no_grad."
        )
    if is_mixed():
        raise UnsupportedError(
            "Curvature is not computed in mixed precision; only forward passes are, as under the "
            "torch.autocast in which it was built. Leave the context before you ask for more."
        )


def _shown(output: object) -> str:
    """A type, and the names of what is in it."""
    names = f" of {', '.join(map(repr, output))}" if isinstance(output, Mapping) else ""
    return f"{type(output).__name__}{names}"


class Versions:
    """Tensors that may not change after the forward pass, and what they were then.

    A change through ``.data`` goes unnoticed, as in autograd itself.
    """

    def __init__(self) -> None:
        """Watch nothing yet."""
        self._parameters: dict[str, tuple[Tensor, int, int]] = {}
        self._inputs: list[tuple[Tensor, int]] = []
        self._others: list[tuple[str, Tensor, int]] = []
        self._modes: list[tuple[nn.Module, bool]] = []

    @classmethod
    def of(cls, parameters: Mapping[str, Tensor], x: Any) -> Versions:
        """Watch parameters and the tensors among the inputs."""
        versions = cls()
        versions._parameters = {
            name: (p, p._version, p.data_ptr()) for name, p in parameters.items()
        }
        versions.watch([leaf for leaf in tree_leaves(x) if isinstance(leaf, Tensor)])
        return versions

    def watch_model(self, model: nn.Module) -> None:
        """Watch what else the outputs depend on: other parameters, buffers, and the mode."""
        found = [*model.named_parameters(), *model.named_buffers()]
        self._others = [
            (name, x, x._version)
            for name, x in found
            if name not in self._parameters and not x.is_inference()
        ]
        self._modes = [(module, module.training) for module in model.modules()]

    def watch(self, inputs: Iterable[Tensor]) -> None:
        """Watch further tensors, which are not parameters."""
        self._inputs += [(x, x._version) for x in inputs if not x.is_inference()]

    def check(self) -> None:
        """Refuse to go on with other values than those of the forward pass.

        Raises:
            StaleError: A tensor has changed.
        """
        for name, (p, version, address) in self._parameters.items():
            if (p._version, p.data_ptr()) != (version, address):
                raise StaleError(
                    f"Parameter {name!r} was changed after the forward pass of this GGN. Build a "
                    "new one after each update of the parameters."
                )
        for name, x, version in self._others:
            if x._version != version:
                raise StaleError(
                    f"{name!r} of the model was changed after the forward pass of this GGN, which "
                    "depends on it. Build a new one."
                )
        if any(module.training != mode for module, mode in self._modes):
            raise StaleError(
                "The mode of the model (train or eval) was changed after the forward pass of this "
                "GGN. Build a new one, or use it before."
            )
        if any(x._version != version for x, version in self._inputs):
            raise StaleError(
                "Inputs or targets were changed in place after the forward pass of this GGN. "
                "Build a new one for each batch, or give it a copy."
            )


def same_output(output: Tensor, expected: Tensor, lowest: torch.dtype | None) -> bool:
    """Whether two outputs are the same but for rounding errors.

    Args:
        output: Of the model.
        expected: Another one.
        lowest: As for `loosened`.
    """
    if output.shape != expected.shape:
        return False
    relative = loosened(1e3 * torch.finfo(expected.dtype).eps, lowest)
    tolerance = relative * expected.abs().max()
    return bool((output - expected).abs().max() <= tolerance)
