"""Jacobian-vector products of a forward pass, and the ways to them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

from vivit.backprop.checks import once_differentiable
from vivit.backprop.graph import has_padding
from vivit.backprop.passes import Passes
from vivit.backprop.sample_order import PROBE_SEED


def same_output(output: Tensor, expected: Tensor) -> bool:
    """Whether two outputs are the same but for rounding errors."""
    if output.shape != expected.shape:
        return False
    tolerance = 1e3 * torch.finfo(expected.dtype).eps * expected.abs().max()
    return bool((output - expected).abs().max() <= tolerance)


class Pushforward:
    """Maps tangents of parameters to tangents of the output: the adjoint of the pullback."""

    def __init__(
        self, passes: Passes, model: nn.Module, x: Any, parameters: dict[str, Tensor]
    ) -> None:
        """Nothing is computed before the first product.

        Args:
            passes: The forward pass.
            model: Its model.
            x: Its input batch.
            parameters: Those to differentiate by, by name.
        """
        self._passes, self._model, self._x = passes, model, x
        self._parameters = parameters
        self._transposed: tuple[Tensor, dict[str, Tensor]] | None = None

    def __call__(self, v: dict[str, Tensor]) -> Tensor:
        """Jacobian-vector product ``J_n v``, by differentiating the pullback, which is linear.

        Args:
            v: Tensors of the parameters' shapes; zero for those that are left out.

        Returns:
            Shape ``[N, *out]``.

        Raises:
            UnsupportedError: An operation cannot be differentiated twice.
        """
        if self._transposed is None:
            self._transposed = self._differentiable_pullback()
            self._check_adjoint()
        u, pulled = self._transposed
        names = [name for name in v if name in pulled]
        if not names:
            return self._zeros()
        outputs, directions = [pulled[name] for name in names], [v[name] for name in names]
        with self._passes.differentiating():
            (result,) = torch.autograd.grad(
                outputs, u, directions, retain_graph=True, allow_unused=True
            )
        return self._zeros() if result is None else result

    def in_forward_mode(self, v: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """A forward pass with tangents.

        It also moves what has no gradient, such as the padding vector of an embedding.

        Args:
            v: Tensors of the parameters' shapes; zero for those that are left out.

        Returns:
            The output, and what a call gives; any error, if an operation has no forward mode.
        """

        def forward(values: dict[str, Tensor]) -> Tensor:
            return functional_call(self._model, values, (self._x,))

        values = {name: self._parameters[name].detach() for name in v}
        with torch.no_grad():
            output, tangent, *_ = self._passes.run(lambda: jvp(forward, (values,), (v,)))
        return output, tangent

    @property
    def may_have_forward_mode(self) -> bool:
        """Whether the graph has nothing that the forward mode would treat differently."""
        root = self._passes.output.grad_fn
        return root is not None and not has_padding(root)

    def agrees_in_forward_mode(self) -> bool:
        """Whether the forward mode works, and gives what a call gives."""
        v = self._probing_vector()[1]
        expected = self(v)
        self._transposed = None  # it is of no use for products in forward mode
        try:
            output, tangent = self.in_forward_mode(v)
        except Exception:  # operations without a forward mode say so in any way
            return False
        error = (tangent - expected).norm()
        small = error <= torch.finfo(expected.dtype).eps ** 0.5 * expected.norm()
        return same_output(output, self._passes.output.detach()) and bool(small)

    def _zeros(self) -> Tensor:
        return torch.zeros_like(self._passes.output.detach())

    def _differentiable_pullback(self) -> tuple[Tensor, dict[str, Tensor]]:
        output = self._passes.output
        u = self._zeros().requires_grad_()
        if not output.requires_grad:
            return u, {}
        with self._passes.differentiating(), torch.enable_grad():
            grads = torch.autograd.grad(
                output,
                list(self._parameters.values()),
                u,
                create_graph=True,
                allow_unused=True,
            )
        named = zip(self._parameters, grads, strict=True)
        return u, {name: g for name, g in named if g is not None and g.requires_grad}

    def _check_adjoint(self) -> None:
        """Verify that a call is the adjoint of the pullback.

        An operation whose backward pass autograd cannot differentiate drops out of ``J v``, in
        some cases without an error.
        """
        u, v = self._probing_vector()
        try:
            pushed = self(v)
        except RuntimeError as error:
            if any(word in str(error) for word in ("derivative", "differentiate")):
                raise once_differentiable(str(error)) from error
            raise
        tolerance = torch.finfo(u.dtype).eps ** 0.5 * len(v)
        if not ((u * pushed).sum() - len(v)).abs() <= tolerance:
            raise once_differentiable("its backward pass is constant or not linear for autograd.")

    def _probing_vector(self) -> tuple[Tensor, dict[str, Tensor]]:
        """A random ``u``, and ``v`` along ``J^T u`` with ``<u, J v>`` equal to its length.

        ``v`` is scaled such that every parameter contributes one to the product, also if its
        derivative is small.
        """
        output = self._passes.output.detach()
        generator = torch.Generator().manual_seed(PROBE_SEED)
        u = torch.randn(output.shape, generator=generator).to(output)
        derivatives = self._passes.pull(u, list(self._parameters.values()))
        pulled = dict(zip(self._parameters, derivatives, strict=True))
        squares = {name: x.double().square().sum() for name, x in pulled.items()}
        v = {n: (pulled[n] / x).to(u.dtype) for n, x in squares.items() if x > 0 and x.isfinite()}
        return u, v
