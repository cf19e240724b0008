"""Jacobian-vector products of a forward pass, and the ways to them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import jvp

from vivit.backprop.called import output_with
from vivit.backprop.checks import once_differentiable, same_output
from vivit.backprop.generic import GenericWay
from vivit.backprop.nodes import has_padding
from vivit.backprop.passes import Passes
from vivit.backprop.ranges import Scaled
from vivit.backprop.sample_order import PROBE_SEED
from vivit.dtypes import loosened
from vivit.errors import UnsupportedError, is_out_of_memory

MOST_NOISE = 1e-3
"""Share of rounding errors in a derivative up to which it can be used for a test."""

SMALLEST = 2.5
"""Power of the precision: derivatives below that share of the largest are not tested. They, or the
vectors that make up for them, are out of the range in which numbers have all their digits."""

NOISE_MARGIN = 10
"""How far products may be off, in units of the rounding errors that were seen."""


@dataclass(frozen=True)
class Pairing:
    """What the adjoint of a Jacobian-vector product has to agree with: ``<u, J v>``.

    Attributes:
        value: The inner product.
        tolerance: Of it, for rounding errors.
    """

    value: Tensor
    tolerance: Tensor

    @classmethod
    def of(cls, u: Tensor, pushed: Tensor, lowest: torch.dtype | None) -> Pairing:
        """Of a cotangent of the output and ``J v``, which are not needed any more.

        Args:
            u: Shape ``[N, *out]``.
            pushed: Of the same shape.
            lowest: As for `loosened`.
        """
        relative = loosened(torch.finfo(u.dtype).eps ** 0.5, lowest)
        tolerance = relative * u.norm() * pushed.norm()
        return cls(torch.dot(u.flatten(), pushed.flatten()), tolerance)

    def fits(self, pulled: dict[str, Tensor], v: dict[str, Tensor]) -> bool:
        """Whether ``<J^T u, v>`` is the same.

        Args:
            pulled: ``J^T u``, by parameter.
            v: Tangents, by parameter.
        """
        other = sum(torch.dot(pulled[name].flatten(), x.flatten()) for name, x in v.items())
        return bool((self.value - other).abs() <= self.tolerance)


@dataclass
class Ways:
    """What tests found of the ways to derivatives, for all passes over a batch.

    Attributes:
        refusal: Why `Pushforward.by_two_backward_passes` cannot be used, empty if it can; None
            before the test.
        forward_mode: Whether the forward mode fits; None before the test.
        carries_tangents: Whether a forward pass that makes a graph can carry tangents; it can
            until it is found not to.
        generic: The fastest way of the generic rule that is not known to fail.
        lowest: The lowest precision in which the model computes, where it is known to be lower
            than that of results.
    """

    refusal: str | None = None
    forward_mode: bool | None = None
    carries_tangents: bool = True
    generic: GenericWay = GenericWay.AT_ONCE
    lowest: torch.dtype | None = None


@dataclass(frozen=True)
class _Probe:
    """A cotangent ``u``, and ``v`` along ``J^T u`` with ``<u, J v>`` equal to its length.

    Attributes:
        u: Shape ``[N, *out]``.
        v: For those parameters whose derivative is more than rounding errors; scaled such that
            each contributes one to the product, however small its derivative is.
        tolerance: Of the product.
        is_linear: Whether derivatives scale with ``u``, up to rounding errors.
    """

    u: Tensor
    v: dict[str, Tensor]
    tolerance: float
    is_linear: bool

    def fits(self, pushed: Tensor) -> bool:
        """Whether a Jacobian-vector product with `v` is adjoint to the pullback of `u`."""
        return self.is_linear and bool(
            ((self.u * pushed).sum() - len(self.v)).abs() <= self.tolerance
        )


class Pushforward:
    """Maps tangents of parameters to tangents of the output: the adjoint of the pullback.

    There are two ways. Where both work, they agree.

    Attributes:
        has_multiplied: Whether a product has been made of it, of which there may be more.
    """

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
        self.has_multiplied = False
        self._parameters = parameters
        self._transposed: tuple[Tensor, dict[str, Tensor]] | None = None

    def by_two_backward_passes(self, v: dict[str, Tensor]) -> Tensor:
        """Jacobian-vector product ``J_n v``, by differentiating the pullback, which is linear.

        Args:
            v: Tensors of the parameters' shapes; zero for those that are left out.

        Returns:
            Shape ``[N, *out]``.

        Raises:
            UnsupportedError: An operation says that it cannot be differentiated twice. Some do
                not say so: see `refusal`.
        """
        if self._transposed is None:
            self._transposed = self._differentiable_pullback()
        u, pulled = self._transposed
        names = [name for name in v if name in pulled]
        if not names:
            return self._zeros()
        outputs = [pulled[name] for name in names]
        scaled = Scaled.of([v[name] for name in names], self._passes.lowest)
        directions = [x.to(g.dtype) for x, g in zip(scaled.tensors, outputs, strict=True)]
        try:
            with self._passes.differentiating():
                (result,) = torch.autograd.grad(
                    outputs, u, directions, retain_graph=True, allow_unused=True
                )
        except RuntimeError as error:
            if any(word in str(error) for word in ("derivative", "differentiate")):
                raise once_differentiable(str(error)) from error
            raise
        return self._zeros() if result is None else scaled.restored(result)

    def in_forward_mode(self, v: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """A forward pass with tangents.

        It also moves what has no gradient, such as the padding vector of an embedding.

        Args:
            v: Tensors of the parameters' shapes; zero for those that are left out.

        Returns:
            The output, and ``J_n v``; any error, if an operation has no forward mode.
        """

        def forward(values: dict[str, Tensor]) -> Tensor:
            return output_with(self._model, values, self._x)

        values = {name: self._parameters[name].detach() for name in v}
        scaled, tangents = self._passes.tangents(v, values)
        with torch.no_grad():
            output, tangent, *_ = self._passes.run(lambda: jvp(forward, (values,), (tangents,)))
        return output, scaled.restored(tangent)

    def with_graph(self, v: dict[str, Tensor]) -> Tensor | None:
        """A forward pass with tangents that also makes the graph, which must not be there yet.

        Args:
            v: Tensors of the parameters' shapes.

        Returns:
            ``J_n v``; None if an operation cannot do it.
        """
        try:
            return self._passes.push(v, self._parameters)
        except Exception as error:  # operations without a forward mode say so in any way
            if is_out_of_memory(error):
                raise
            return None

    def refusal(self) -> str:
        """Why `by_two_backward_passes` cannot be used; empty if it can.

        An operation whose backward pass autograd cannot differentiate drops out of ``J v``, in
        some cases without an error.
        """
        probe = self._probe
        try:
            pushed = self.by_two_backward_passes(probe.v)
        except UnsupportedError as error:
            return str(error)
        if probe.fits(pushed):
            return ""
        return str(
            once_differentiable("its backward pass is constant or not linear for autograd.")
        )

    def forward_mode_fits(self) -> bool:
        """Whether the forward mode works, and gives the adjoint of the pullback."""
        root = self._passes.output.grad_fn
        if root is None or has_padding(root):
            return False
        probe = self._probe
        if not probe.v:  # nothing but rounding errors, which tell nothing
            return False
        try:
            output, tangent = self.in_forward_mode(probe.v)
        except Exception as error:  # operations without a forward mode say so in any way
            if is_out_of_memory(error):
                raise
            return False
        expected, lowest = self._passes.output.detach(), self._passes.lowest
        return same_output(output, expected, lowest) and probe.fits(tangent)

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

    @cached_property
    def _probe(self) -> _Probe:
        """What products are tested with.

        A derivative may be zero in exact arithmetic, as that of the bias of attention's keys, and
        rounding errors in ours. These change with the scale of ``u``, but not with a power of two,
        by which a backward pass changes only if it is not linear, and so none of a derivative.
        """
        output = self._passes.output.detach()
        generator = torch.Generator().manual_seed(PROBE_SEED)
        u = torch.randn(output.shape, generator=generator).to(output)
        whole, third = self._pulled(u), self._pulled(u / 3)
        noise = {name: _norm(x - 3 * third.pop(name)) for name, x in whole.items()}
        sizes = {name: _norm(x) for name, x in whole.items()}
        largest, eps = max(sizes.values(), default=0.0), torch.finfo(u.dtype).eps
        lowest, v, squares, noisy = self._passes.lowest, {}, 0.0, []
        for name, size in sizes.items():
            if not size > eps**SMALLEST * largest:
                continue
            if noise[name] <= loosened(MOST_NOISE, lowest) * size:
                v[name] = whole[name] / size / size
                rounding = loosened(eps**0.5, lowest)
                squares += (rounding + NOISE_MARGIN * noise[name] / size) ** 2
            else:
                noisy.append(name)
        linear = self._scale(u, {n: whole[n] for n in noisy}, largest)
        return _Probe(u, v, squares**0.5, linear)

    def _scale(self, u: Tensor, noisy: dict[str, Tensor], largest: float) -> bool:
        """Whether derivatives that seem to be rounding errors scale with a power of two.

        Args:
            u: The cotangent.
            noisy: Its derivatives.
            largest: Norm of the largest of all.
        """
        if not noisy:
            return True
        quarter = self._pulled(u / 4)
        exact = u.device.type == "cpu"  # elsewhere, sums may have another order each time
        return all(
            _norm(x - 4 * quarter[name]) <= MOST_NOISE * (_norm(x) if exact else largest)
            for name, x in noisy.items()
        )

    def _pulled(self, u: Tensor) -> dict[str, Tensor]:
        derivatives = self._passes.pull(u, list(self._parameters.values()))
        return dict(zip(self._parameters, derivatives, strict=True))


def _norm(x: Tensor) -> float:
    """In double precision, in which squares of small numbers are none."""
    return float(torch.linalg.vector_norm(x, dtype=torch.float64))
