"""Any other convex loss, through the small Hessian of each sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vivit.errors import (
    InputError,
    InsufficientMemoryError,
    UnsupportedError,
    is_out_of_memory,
)
from vivit.losses.base import loss_gradient, name_of, random_normal, scalar_loss
from vivit.losses.factor import DenseFactor
from vivit.losses.known import mean_size
from vivit.memory import available_bytes, human_bytes

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""Maps the model output and the targets to a scalar."""


OUTPUT_SCALES = (1e-2, 1.0, 1e2)
"""Of random outputs at which curvature is looked for."""

FIRST_STEP = 1e-4
"""And of the first step downhill."""

COPIES = 4
"""Of the Hessians that are made on the way to their factors: rows, vectors and a workspace."""

STEPS = 100
"""Doublings and halvings on the way to where the slope vanishes."""


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

    def factor(self) -> DenseFactor:
        """``S_n`` from the eigendecomposition of ``H_n``."""
        return DenseFactor(self._factors.reshape(self.shape[0], -1, *self.shape[1:]))

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
        loss_func: Maps output and target to a scalar; a `reduction_of` ``"sum"`` says that it is
            a sum, else it counts as a mean over the samples.
        output: Model output, shape ``[N, *out]``.
        target: As the loss takes it.

    Returns:
        The Hessian.

    Raises:
        InputError: The loss is not a scalar, not finite or not convex.
        UnsupportedError: The loss cannot be differentiated twice, has no curvature anywhere, or
            couples samples.
        InsufficientMemoryError: The Hessians would not fit.
    """
    name = name_of(loss_func)
    _check_fits(name, output)
    with torch.enable_grad():
        f = output.detach().requires_grad_()
        blocks = _blocks(name, loss_func, f, target)
        if not blocks.any():
            _refuse_vanishing(name, loss_func, f, target)
    hessian = ConvexHessian(blocks, tuple(output.shape), mean_size(loss_func, output))
    hessian.factor()  # refuses a loss that is not convex
    return hessian


def _check_fits(name: str, output: Tensor) -> None:
    """Refuse to make Hessians of many outputs that cannot fit, before any of them is made."""
    size, available = output[0].numel(), available_bytes(output.device)
    needed = COPIES * len(output) * size**2 * output.element_size()
    if available is not None and needed > available:
        raise InsufficientMemoryError(
            f"The Hessians of the loss {name!r} by {size} outputs of {len(output)} samples need "
            f"{human_bytes(needed)}, but {human_bytes(available)} are available. Use fewer "
            "samples at a time; or a loss whose Hessian is known, such as CrossEntropyLoss, "
            "MSELoss or BCEWithLogitsLoss, for which no such matrix is made."
        )


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


def _refuse_vanishing(name: str, loss_func: LossFunction, f: Tensor, target: Tensor) -> None:
    """Refuse a loss that has no curvature anywhere, though it has a slope.

    One that is merely flat here, such as a Huber loss far from its targets, is curved elsewhere.
    """
    slope = loss_gradient(loss_func, f, target)
    if not slope.any():
        return
    generator = torch.Generator().manual_seed(0)
    for at in _elsewhere(loss_func, f, target, slope, generator):
        if _is_curved(loss_func, at, target, generator):
            return
    raise UnsupportedError(
        f"The loss {name!r} is linear in the model output, or made of linear pieces: its second "
        "derivative is zero at this output and wherever else it was tried, its gradient is not. "
        "The GGN would be zero. Use a curved loss, such as MSELoss or HuberLoss in place of "
        "L1Loss; or let what turns logits into log-probabilities be part of the loss, not of the "
        "model, as in CrossEntropyLoss."
    )


def _elsewhere(
    loss_func: LossFunction, f: Tensor, target: Tensor, slope: Tensor, generator: torch.Generator
) -> Iterator[Tensor]:
    """Random outputs, and then those on the way to where the slope vanishes."""
    for scale in OUTPUT_SCALES:
        noise = scale * _noise_like(f, generator)
        yield noise
        yield f + noise
    step, low = torch.full_like(f, FIRST_STEP), torch.zeros_like(f)
    high = torch.full_like(f, torch.inf)
    for _ in range(STEPS):  # each output downhill, and in halves where its slope has turned
        at = f - step * slope.sign()
        yield at
        turned = loss_gradient(loss_func, at, target) * slope < 0
        low, high = torch.where(turned, low, step), torch.where(turned, step, high)
        step = torch.where(high.isinf(), 2 * step, (low + high) / 2)


def _is_curved(
    loss_func: LossFunction, at: Tensor, target: Tensor, generator: torch.Generator
) -> bool:
    """Whether a random combination of rows of the Hessian is not zero."""
    at = at.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_func(at, target), at, create_graph=True)
    if not gradient.requires_grad:
        return False
    weights = _noise_like(at, generator)
    (row,) = torch.autograd.grad((gradient * weights).sum(), at, allow_unused=True)
    return row is not None and bool(row.any() and row.isfinite().all())


def _noise_like(f: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(f.shape, generator=generator, dtype=f.dtype).to(f.device)


def _blocks(name: str, loss_func: LossFunction, f: Tensor, target: Tensor) -> Tensor:
    """Hessian of each sample, one backward pass per output; samples must not be coupled."""
    n, size = len(f), f[0].numel()
    gradient = _differentiable_gradient(name, loss_func, f, target)
    if not gradient.requires_grad:
        near = f.detach() + torch.finfo(f.dtype).eps ** 0.5 * (1 + f.detach().abs())
        if not torch.equal(loss_gradient(loss_func, near, target), gradient):
            raise UnsupportedError(f"The loss {name!r} cannot be differentiated twice.")
        return f.new_zeros(n, size, size)  # it is linear around here
    gradient = gradient.reshape(n, size)

    def row(entries: Tensor) -> Tensor:
        return _hessian_row(name, entries, f)

    if _couples_samples(row, gradient):
        raise UnsupportedError(
            f"The loss {name!r} couples the samples of a batch: it is not a sum or mean over "
            "them, so that its Hessian is not described by per-sample ones."
        )
    return torch.stack([row(gradient[:, i]).reshape(n, size) for i in range(size)], dim=1)


def _differentiable_gradient(
    name: str, loss_func: LossFunction, f: Tensor, target: Tensor
) -> Tensor:
    """Gradient of the loss by the output, with its graph."""
    loss = scalar_loss(loss_func, f, target)
    try:
        (gradient,) = torch.autograd.grad(loss, f, create_graph=True)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise UnsupportedError(f"The loss {name!r} cannot be differentiated: {error}") from error
    return gradient


def _hessian_row(name: str, entries: Tensor, f: Tensor) -> Tensor:
    """Derivative of the sum of some entries of the gradient, one row of numbers."""
    try:
        (h,) = torch.autograd.grad(entries.sum(), f, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise UnsupportedError(
            f"The loss {name!r} cannot be differentiated twice: {error}"
        ) from error
    if h is None:  # the backward pass of an operation cannot be differentiated
        raise UnsupportedError(f"The loss {name!r} cannot be differentiated twice.")
    if not h.isfinite().all():
        raise InputError(f"The Hessian of the loss {name!r} is NaN or infinite.")
    return h.detach().flatten()
