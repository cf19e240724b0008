"""Any other convex loss, through the small Hessian of each sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vivit.errors import InputError, UnsupportedError
from vivit.losses.base import random_normal

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""Maps the model output and the targets to a scalar."""


@dataclass(frozen=True)
class ConvexHessian:
    """``H_n`` as a dense matrix over the outputs of a sample.

    Attributes:
        blocks: Shape ``[N, |out|, |out|]``.
        shape: Shape of the output, ``(N, *out)``.
        normalizer: What a mean over the batch was divided by; None for a sum.
    """

    blocks: Tensor
    shape: tuple[int, ...]
    normalizer: float | None

    @cached_property
    def _factors(self) -> Tensor:
        """``S_n`` with columns ``sqrt(lambda_c) e_c``, shape ``[N, c, |out|]``."""
        values, vectors = torch.linalg.eigh(self.blocks)
        scale = values.abs().amax(dim=1, keepdim=True)
        tolerance = 100 * torch.finfo(values.dtype).eps * values.shape[1] * scale
        if (values < -tolerance).any():
            n = int((values < -tolerance).any(dim=1).nonzero()[0])
            raise InputError(
                f"The loss is not convex in the model output: for sample {n} its Hessian has the "
                f"eigenvalue {float(values[n, 0]):.3g}. The GGN needs a positive semi-definite "
                "loss Hessian."
            )
        return (vectors * values.clamp(min=0).sqrt().unsqueeze(1)).transpose(1, 2)

    @property
    def num_columns(self) -> int:
        """``|out|``; columns of vanishing eigenvalues are zero."""
        return self.blocks.shape[1]

    def factor(self) -> Tensor:
        """``S_n`` from the eigendecomposition of ``H_n``."""
        return self._factors.reshape(self.shape[0], -1, *self.shape[1:])

    def sample(self, columns: int, generator: torch.Generator) -> Tensor:
        """``S_n`` times standard normal numbers, over ``sqrt(columns)``."""
        n, size = self.shape[0], self.num_columns
        noise = random_normal((n, columns, size), generator, self.blocks)
        return (noise @ self._factors / columns**0.5).reshape(n, columns, *self.shape[1:])

    def product(self, u: Tensor) -> Tensor:
        """``H_n u_n``."""
        return torch.einsum("nij,nj->ni", self.blocks, u.reshape(len(u), -1)).reshape(self.shape)

    def coordinates(self, gradient: Tensor) -> Tensor | None:
        """None: a gradient need not lie in the span."""
        return None


def convex_loss(loss_func: LossFunction, output: Tensor, target: Tensor) -> ConvexHessian:
    """The Hessian of a loss that is a sum or mean over samples of convex functions.

    Args:
        loss_func: Maps output and target to a scalar; an attribute ``reduction`` that is
            ``"sum"`` says that it is a sum, else it counts as a mean over the samples.
        output: Model output, shape ``[N, *out]``.
        target: As the loss takes it.

    Returns:
        The Hessian.

    Raises:
        InputError: The loss is not a scalar, not finite or not convex.
        UnsupportedError: The loss cannot be differentiated twice, or couples samples.
    """
    name = getattr(loss_func, "__name__", type(loss_func).__name__)
    with torch.enable_grad():
        f = output.detach().requires_grad_()
        loss = loss_func(f, target)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise InputError(
                f"The loss {name!r} must return a scalar, got "
                f"{list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__}."
            )
        blocks = _blocks(name, loss, f, lambda other: loss_func(other, target))
    normalizer = None if getattr(loss_func, "reduction", "mean") == "sum" else float(len(output))
    hessian = ConvexHessian(blocks, tuple(output.shape), normalizer)
    hessian.factor()  # refuses a loss that is not convex
    return hessian


def _couples_samples(row: Callable[[Tensor], Tensor], gradient: Tensor) -> bool:
    """Whether the Hessian has entries between samples.

    Any two samples differ in a binary digit of their indices: for each digit, a random combination
    of the gradients of those samples that have it may not depend on the others.
    """
    n, size = gradient.shape
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(n, size, generator=generator, dtype=gradient.dtype).to(gradient.device)
    index = torch.arange(n, device=gradient.device)
    for digit in range(max(n - 1, 0).bit_length()):
        has = (index >> digit) % 2 == 1
        if (row((weights * gradient)[has]).reshape(n, size)[~has] != 0).any():
            return True
    return False


def _blocks(name: str, loss: Tensor, f: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
    """Hessian of each sample, one backward pass per output; samples must not be coupled."""
    n, size = len(f), f[0].numel()
    try:
        (gradient,) = torch.autograd.grad(loss, f, create_graph=True)
    except RuntimeError as error:
        raise UnsupportedError(f"The loss {name!r} cannot be differentiated: {error}") from error
    if not gradient.requires_grad:
        other = (2 * f.detach() + 1).requires_grad_()
        if not torch.equal(torch.autograd.grad(of(other), other)[0], gradient):
            raise UnsupportedError(f"The loss {name!r} cannot be differentiated twice.")
        return f.new_zeros(n, size, size)  # it is linear
    gradient = gradient.reshape(n, size)

    def row(entries: Tensor) -> Tensor:
        try:
            (h,) = torch.autograd.grad(entries.sum(), f, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            raise UnsupportedError(
                f"The loss {name!r} cannot be differentiated twice: {error}"
            ) from error
        if h is None:  # the backward pass of an operation cannot be differentiated
            raise UnsupportedError(f"The loss {name!r} cannot be differentiated twice.")
        if not h.isfinite().all():
            raise InputError(f"The Hessian of the loss {name!r} is NaN or infinite.")
        return h.detach().flatten()

    if _couples_samples(row, gradient):
        raise UnsupportedError(
            f"The loss {name!r} couples the samples of a batch: it is not a sum or mean over "
            "them, so that its Hessian is not described by per-sample ones."
        )
    return torch.stack([row(gradient[:, i]).reshape(n, size) for i in range(size)], dim=1)


def check_union_of_batches(loss_func: LossFunction, output: Tensor, target: Tensor) -> None:
    """Refuse a loss of several batches that is not what its name for a reduction says.

    Args:
        loss_func: A loss without a closed form.
        output: Output of one of the batches.
        target: Its targets.

    Raises:
        UnsupportedError: The loss of the batch is not the mean (or sum) of those of its parts.
    """
    n, half = len(output), len(output) // 2
    if not half:
        return
    parts = [slice(0, half), slice(half, n)]
    losses = [float(loss_func(output[part], target[part])) for part in parts]
    is_sum = getattr(loss_func, "reduction", "mean") == "sum"
    shares = [1.0, 1.0] if is_sum else [half / n, (n - half) / n]
    expected = sum(share * loss for share, loss in zip(shares, losses, strict=True))
    difference = abs(float(loss_func(output, target)) - expected)
    if not difference <= 1e-4 * max(abs(expected), *map(abs, losses)):
        name = getattr(loss_func, "__name__", type(loss_func).__name__)
        raise UnsupportedError(
            f"The loss {name!r} of a batch is not the {'sum' if is_sum else 'mean'} of those of "
            "its samples, so that the loss of several batches is not known. Give it an attribute "
            "reduction = 'sum' if it is a sum, or all samples as one batch."
        )
