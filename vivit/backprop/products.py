"""Products with the Jacobian of a model at one batch, each by the way that costs least."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from torch import Tensor

from vivit.backprop.checks import once_differentiable
from vivit.backprop.passes import Passes
from vivit.backprop.pushforward import Pairing, Pushforward, Ways
from vivit.errors import UnsupportedError, is_out_of_memory

LARGE_GRAPH = 2**25
"""Bytes of all operations' outputs beyond which a forward pass with tangents takes the place of
differentiating the pullback, which keeps a graph of its own that is about as large.
"""

FEW_VECTORS = 2
"""Vectors that each have a forward pass with tangents; more share a graph of the pullback."""


class Source(Protocol):
    """What products have to know of the forward pass that they start from."""

    @property
    def graph_bytes(self) -> int:
        """Of all operations' outputs."""

    @property
    def tested(self) -> Pushforward:
        """Of few samples, on which ways are tested."""

    def check_fresh(self) -> None:
        """Refuse to go on if parameters or inputs are not those of the forward pass."""


class Products:
    """Products with the Jacobian ``J`` of the outputs, and with its transpose.

    All start from the same forward pass, so they agree on dropout masks.
    """

    def __init__(
        self,
        passes: Passes,
        push: Pushforward,
        parameters: dict[str, Tensor],
        ways: Ways,
        source: Source,
    ) -> None:
        """Nothing is computed before the first product.

        Args:
            passes: The forward pass.
            push: Ways to Jacobian-vector products from there.
            parameters: Those to differentiate by, by name.
            ways: What is known of these ways, and where to note it.
            source: Tests them, and knows how large the graph is.
        """
        self._passes, self._push, self._parameters = passes, push, parameters
        self._ways, self._source = ways, source

    def pullback(self, u: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """Vector-Jacobian product ``sum_n J_n^T u_n``.

        Args:
            u: Shape ``[N, *out]``.
            names: Parameters to differentiate by.

        Returns:
            A tensor of the parameter's shape for each name.
        """
        self._source.check_fresh()
        names = list(names)
        inputs = [self._parameters[name] for name in names]
        return dict(zip(names, self._passes.pull(u, inputs), strict=True))

    def sandwich(
        self, middle: Callable[[Tensor], Tensor], v: dict[str, Tensor], count: int = 1
    ) -> dict[str, Tensor]:
        """``sum_n J_n^T middle(J_n v)``: `pushforward`, and then `pullback`.

        A forward pass with tangents would also move what has no gradient; but then it is not the
        adjoint of the backward pass, and the product is made again, or refused if there is no
        other way.

        Args:
            middle: From ``[N, *out]`` to the same shape; what it is called with last is right.
            v: Tensors of the parameters' shapes.
            count: Vectors to which this is applied in turn. For few it is cheaper to make the
                graph again for each than to differentiate the pullback.

        Returns:
            A tensor of the parameter's shape for each name.

        Raises:
            UnsupportedError: An operation has neither a second derivative nor a forward mode that
                is the adjoint of the backward pass.
        """
        if self._carries_tangents(count):
            anew = self._makes_anew(count)
            pushed = self._push.with_graph(v) if anew else self._forward(v)
            if pushed is not None:
                u = middle(pushed)
                pairing = Pairing.of(u, pushed, self._passes.lowest)
                del pushed  # of a language model, it is as large as all activations
                pulled = self.pullback(u, v)
                if pairing.fits(pulled, v):
                    return pulled
            self._ways.carries_tangents = False
        pushed = self.pushforward(v)
        u = middle(pushed)
        pulled = self.pullback(u, v)
        if self._ways.refusal and not Pairing.of(u, pushed, self._passes.lowest).fits(pulled, v):
            raise once_differentiable("its forward mode moves what has no gradient, too.")
        return pulled

    def _forward(self, v: dict[str, Tensor]) -> Tensor | None:
        """In forward mode; None if it fails after all, for tangents that its test had not."""
        try:
            return self._push.in_forward_mode(v)[1]
        except Exception as error:  # an operation may refuse in any way
            if is_out_of_memory(error):
                raise
            self._ways.forward_mode = False
            return None

    def _makes_anew(self, count: int) -> bool:
        """Whether to make the graph by a forward pass with tangents: see `sandwich`."""
        passes = self._passes
        return not passes.has_graph or (passes.carried and count <= FEW_VECTORS)

    def _carries_tangents(self, count: int) -> bool:
        """Whether a forward pass with tangents is the way to the product that comes now.

        It is if a forward pass has to be run anyway. Where the graph is there, to differentiate
        the pullback is faster, but needs a graph that is larger than the model's. For a single
        product that does not pay, nor for large models.
        """
        self._source.check_fresh()
        is_first, self._push.has_multiplied = not self._push.has_multiplied, True
        if not self._ways.carries_tangents or not self.has_forward_mode:
            return False
        if self._makes_anew(count) or is_first:
            return True
        return self._source.graph_bytes > LARGE_GRAPH

    def pushforward(self, v: dict[str, Tensor]) -> Tensor:
        """Jacobian-vector product ``J_n v``.

        By differentiating `pullback` where every operation can be differentiated twice, else in
        forward mode.

        Args:
            v: Tensors of the parameters' shapes; zero for those that are left out.

        Returns:
            Shape ``[N, *out]``.

        Raises:
            UnsupportedError: An operation has neither a second derivative nor a forward mode.
        """
        self._source.check_fresh()
        if self._ways.refusal is None:  # what is refused once is refused always
            self._ways.refusal = self._source.tested.refusal()
        if not self._ways.refusal:
            return self._push.by_two_backward_passes(v)
        if self.has_forward_mode:
            return self._push.in_forward_mode(v)[1]
        raise UnsupportedError(self._ways.refusal)

    def pushforward_of_pulled(self, v: dict[str, Tensor]) -> Tensor:
        """`pushforward` of what `pullback` gave, in forward mode where that is possible.

        A forward pass with tangents is faster than differentiating `pullback`, whose double
        backward passes compute more than they are asked for. But it also moves what has no
        gradient, hence the restriction on ``v``.

        Args:
            v: What `pullback` gave, or a sum of such.

        Returns:
            Shape ``[N, *out]``.
        """
        self._source.check_fresh()
        if not self.has_forward_mode:
            return self.pushforward(v)
        pushed = None if self._passes.has_graph else self._push.with_graph(v)
        return self._push.in_forward_mode(v)[1] if pushed is None else pushed

    @property
    def has_forward_mode(self) -> bool:
        """Whether the forward mode works, and is the adjoint of `pullback`."""
        if self._ways.forward_mode is None:
            self._ways.forward_mode = self._source.tested.forward_mode_fits()
        return self._ways.forward_mode
