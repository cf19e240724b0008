"""The autograd driver: any model with any ``forward``, by walking its autograd graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map

from vivit.backprop.graph import Operation, find_operations, zeros_at
from vivit.errors import InputError, StaleError, UnsupportedError
from vivit.layers.layer import AffineLayer
from vivit.layers.uses import SampleOrder

PROBE_SEED = 0
"""Seed of the random cotangents with which the sample axis of a tensor is found."""

ADJOINT_TOLERANCE = 1e-4
"""Of the adjoint test, relative to the norms of the vectors."""


class Linearization:
    """A model at its parameters and one batch, ready to be differentiated many times.

    Holds the autograd graph of one forward pass. All products below start from it, so they agree
    on dropout masks and need no further forward pass.

    Attributes:
        output: Model output, shape ``[N, *out]``, without gradient.
        parameters: The selected parameters, by name.
        layers: Affine layers, in the order in which `cotangents` yields them.
        generic: Names of the parameters that need the generic rule.
    """

    def __init__(self, model: nn.Module, x: Any, parameters: dict[str, Tensor]) -> None:
        """Run the forward pass and find how the parameters are used.

        Args:
            model: Maps ``x`` to a tensor of shape ``[N, *out]``.
            x: Input batch.
            parameters: The selected parameters of ``model``, by name.

        Raises:
            InputError: The output is not a finite tensor, or has no samples.
            UnsupportedError: The model mixes samples or cannot be differentiated correctly.
        """
        _refuse_batch_statistics(model)
        _refuse_gradient_hooks(parameters)
        self._model, self._x = model, x
        self._output = self._forward(x)
        _check_output(self._output)
        self.output = self._output.detach()
        self.parameters = parameters
        self._versions = {name: _version(p) for name, p in parameters.items()}
        self._transposed: tuple[Tensor, dict[str, Tensor]] | None = None
        self.layers, self._edges, self.generic = self._find_layers()

    def _forward(self, x: Any) -> Tensor:
        """The model output, with a graph of operations that can be differentiated twice.

        The random state is put back, so that every call draws the same dropout masks.
        """
        devices = {p.device for p in self._model.parameters() if p.is_cuda}
        with torch.random.fork_rng(devices=list(devices)), sdpa_kernel(SDPBackend.MATH):
            with torch.enable_grad():
                return self._model(x)

    def _find_layers(self) -> tuple[list[AffineLayer], list[list[GradientEdge]], list[str]]:
        if self._output.grad_fn is None:
            return [], [], []
        operations, generic = find_operations(self._output.grad_fn, self.parameters)
        layers, edges = [], []
        for operation, orders in zip(operations, self._sample_orders(operations), strict=True):
            if orders is None:
                generic += operation.parameters
                continue
            layers.append(
                AffineLayer(
                    operation.weight, operation.bias, operation.uses, orders, len(self.output)
                )
            )
            edges.append(operation.edges)
        return layers, edges, generic

    def _sample_orders(
        self, operations: list[Operation]
    ) -> Iterator[tuple[SampleOrder, ...] | None]:
        """Find how each operation lays out samples, by backpropagating from some of them.

        The samples are split in two at random. The cotangents that one half gives at an operation
        must vanish in the rows of the other half: that identifies the rows of each sample, and
        shows that the later part of the model does not mix samples.
        """
        edges = [edge for operation in operations for edge in operation.edges]
        if not edges:
            return
        generator = torch.Generator().manual_seed(PROBE_SEED)
        half = torch.rand(len(self.output), generator=generator).argsort() % 2 == 0
        halves = (half, ~half)
        noise = torch.randn(self.output.shape, generator=generator).to(self.output)
        probes = [self._pull(noise * _rows_of(mask, noise), edges) for mask in halves]
        supports = iter(zip(*probes, strict=True))
        for operation in operations:
            orders = []
            for use in operation.uses:
                rows = [_support(use.cotangents(s), operation) for s in next(supports)]
                orders.append(_sample_order(rows, halves))
            if None in orders:
                self._refuse_mixing(half, operation)
                yield None
            else:
                yield tuple(order for order in orders if order is not None)

    def _refuse_mixing(self, half: Tensor, operation: Operation) -> None:
        """Tell a model that mixes samples from one with an unusual layout of its tensors.

        Replace the samples of one half by samples of the other: the output for the other may
        not change.
        """
        keep, replace = (mask.nonzero().flatten() for mask in (half, ~half))
        index = torch.arange(len(half))
        index[replace] = keep[torch.arange(len(replace)) % len(keep)]

        def swap(x: Any) -> Any:
            batched = isinstance(x, Tensor) and x.ndim > 0 and len(x) == len(half)
            return x[index.to(x.device)] if batched else x

        keep = keep.to(self.output.device)
        before, after = self.output[keep], self._forward(tree_map(swap, self._x)).detach()[keep]
        tolerance = 1e3 * torch.finfo(before.dtype).eps * before.abs().max()
        if (before - after).abs().max() > tolerance:
            raise UnsupportedError(
                "The model mixes samples: the output for one sample depends on others in the "
                f"batch, somewhere after {operation.parameters[0]!r}. Per-sample Jacobians do not "
                "describe such a model. Use running instead of batch statistics "
                "(model.eval()), or a normalization that treats samples separately."
            )

    def cotangents(self, factor: Tensor) -> Iterator[list[Tensor]]:
        """Backpropagate the columns of a loss-Hessian factor to the affine layers.

        Args:
            factor: Shape ``[N, C, *out]``.

        Yields:
            For each column, one tensor ``[N, T, g, o]`` per layer of `layers`.
        """
        self._check_fresh()
        flat = [edge for edges in self._edges for edge in edges]
        if not flat:
            return
        for column in factor.unbind(1):
            s = iter(self._pull(column, flat))
            yield [
                layer.cotangents([next(s) for _ in edges])
                for layer, edges in zip(self.layers, self._edges, strict=True)
            ]

    def sample_columns(self, factor: Tensor) -> Iterator[tuple[int, int, dict[str, Tensor]]]:
        """The generic rule: one vector-Jacobian product per sample and column.

        Args:
            factor: Shape ``[N, C, *out]``.

        Yields:
            Sample ``n``, column ``c`` and ``J_n^T s_nc`` for the parameters in `generic`.
        """
        self._check_fresh()
        inputs = [self.parameters[name] for name in self.generic]
        if not inputs:
            return
        cotangent = torch.zeros_like(self.output)
        for n in range(factor.shape[0]):
            for c in range(factor.shape[1]):
                cotangent[n] = factor[n, c]
                yield n, c, dict(zip(self.generic, self._pull(cotangent, inputs), strict=True))
            cotangent[n] = 0

    def pullback(self, u: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """Vector-Jacobian product ``sum_n J_n^T u_n``.

        Args:
            u: Shape ``[N, *out]``.
            names: Parameters to differentiate by.

        Returns:
            A tensor of the parameter's shape for each name.
        """
        self._check_fresh()
        names = list(names)
        inputs = [self.parameters[name] for name in names]
        return dict(zip(names, self._pull(u, inputs), strict=True))

    def pushforward(self, v: dict[str, Tensor]) -> Tensor:
        """Jacobian-vector product ``J_n v``, by differentiating the linear map `pullback`.

        Args:
            v: Tensors of the parameters' shapes; zero for those that are left out.

        Returns:
            Shape ``[N, *out]``.
        """
        self._check_fresh()
        if self._transposed is None:
            self._transposed = self._differentiable_pullback()
            self._check_adjoint()
        u, pulled = self._transposed
        names = [name for name in v if name in pulled]
        if not names:
            return torch.zeros_like(self.output)
        outputs, directions = [pulled[name] for name in names], [v[name] for name in names]
        (result,) = torch.autograd.grad(
            outputs, u, directions, retain_graph=True, allow_unused=True
        )
        return torch.zeros_like(self.output) if result is None else result

    def _differentiable_pullback(self) -> tuple[Tensor, dict[str, Tensor]]:
        u = torch.zeros_like(self.output, requires_grad=True)
        if not self._output.requires_grad:
            return u, {}
        grads = torch.autograd.grad(
            self._output,
            list(self.parameters.values()),
            u,
            create_graph=True,
            allow_unused=True,
        )
        named = zip(self.parameters, grads, strict=True)
        return u, {name: g for name, g in named if g is not None and g.requires_grad}

    def _check_adjoint(self) -> None:
        """Verify ``<u, J v> = <J^T u, v>`` for random vectors.

        An operation whose backward pass autograd cannot differentiate drops out of ``J v``, in
        some cases without an error.
        """
        generator = torch.Generator().manual_seed(PROBE_SEED)
        u = torch.randn(self.output.shape, generator=generator).to(self.output)
        v = {
            n: torch.randn(p.shape, generator=generator).to(p) for n, p in self.parameters.items()
        }
        try:
            pushed = self.pushforward(v)
        except RuntimeError as error:
            raise _once_differentiable(str(error)) from error
        pulled = self.pullback(u, v)
        expected = torch.stack([(pulled[name] * v[name]).sum() for name in v]).sum()
        scale = torch.stack([(pulled[name].norm() * v[name].norm()) for name in v]).sum()
        if ((u * pushed).sum() - expected).abs() > ADJOINT_TOLERANCE * scale:
            raise _once_differentiable("a backward pass is not linear in its input for autograd.")

    def _pull(self, u: Tensor, inputs: list[Tensor] | list[GradientEdge]) -> list[Tensor]:
        """Derivatives at tensors or edges of the graph, zeros where there is no path."""
        if not self._output.requires_grad:
            return [zeros_at(x) for x in inputs]
        grads = torch.autograd.grad(self._output, inputs, u, retain_graph=True, allow_unused=True)
        return [zeros_at(x) if g is None else g for g, x in zip(grads, inputs, strict=True)]

    def _check_fresh(self) -> None:
        for name, p in self.parameters.items():
            if _version(p) != self._versions[name]:
                raise StaleError(
                    f"Parameter {name!r} was changed after the forward pass of this GGN. Build a "
                    "new one after each update of the parameters."
                )


def _refuse_batch_statistics(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
            raise UnsupportedError(
                f"{type(module).__name__} {name!r} uses the statistics of the batch, so that the "
                "samples depend on each other and per-sample Jacobians do not describe the model. "
                "Call model.eval() (with track_running_stats=True), or use GroupNorm."
            )


def _once_differentiable(reason: str) -> UnsupportedError:
    return UnsupportedError(
        "Products with the GGN need second derivatives of every operation, but one can be "
        f"differentiated only once: {reason} The Gram matrix, eigenvalues and eigenvectors do "
        "not need them."
    )


def _refuse_gradient_hooks(parameters: dict[str, Tensor]) -> None:
    """Hooks on parameters run in every backward pass and may change the derivatives."""
    for name, p in parameters.items():
        if p._backward_hooks:
            raise UnsupportedError(
                f"Parameter {name!r} has gradient hooks (register_hook), which would change what "
                "is computed here. Remove them first."
            )


def _version(p: Tensor) -> tuple[int, int]:
    return p._version, p.data_ptr()


def _check_output(output: object) -> None:
    if not isinstance(output, Tensor):
        raise InputError(
            f"The model must return one tensor, got {type(output).__name__}. Wrap it in a module "
            "that returns the tensor which goes into the loss."
        )
    if output.ndim == 0 or output.numel() == 0:
        raise InputError(
            f"The model output has shape {list(output.shape)}, expected [N, ...] with N >= 1 "
            "samples along the first axis. Is the batch empty?"
        )
    if not output.isfinite().all():
        bad = (~output.isfinite()).flatten(1).any(1) if output.ndim > 1 else ~output.isfinite()
        rows = bad.nonzero().flatten().tolist()
        raise InputError(
            f"The model output is NaN or infinite for {len(rows)} of {len(output)} samples, the "
            f"first at index {rows[0]}. Check the inputs and the parameters."
        )


def _rows_of(mask: Tensor, like: Tensor) -> Tensor:
    """A mask over samples, to be multiplied with a tensor of shape ``[N, ...]``."""
    return mask.to(like).reshape(-1, *[1] * (like.ndim - 1))


def _support(s: Tensor, operation: Operation) -> Tensor:
    """Which rows of a cotangent ``[rows, positions, g, o]`` are not all zero."""
    if not s.isfinite().all():
        raise InputError(
            "The derivative of the model output is NaN or infinite at the operation that uses "
            f"{operation.parameters[0]!r}. Look for square roots, norms or divisions at zero."
        )
    return (s != 0).flatten(start_dim=1).any(dim=1).cpu()


def _sample_order(rows: list[Tensor], halves: tuple[Tensor, Tensor]) -> SampleOrder | None:
    """The order of samples in which each half of them is supported on its own rows."""
    num_samples = len(halves[0])
    if len(rows[0]) % num_samples:
        return None
    for order in SampleOrder:
        split = [order.split(support, num_samples).any(dim=1) for support in rows]
        if not any((s & ~half).any() for s, half in zip(split, halves, strict=True)):
            return order
    return None
