"""Whether a loss is the mean over samples that it is taken for, or the sum."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from vivit.errors import UnsupportedError, is_out_of_memory
from vivit.losses.base import loss_gradient, name_of
from vivit.losses.convex import LossFunction
from vivit.losses.known import reduction_of

TOLERANCE = 1e-4
"""Of gradients, relative to their largest entry."""


def check_reduction(
    loss_func: LossFunction,
    output: Tensor,
    target: Any,
    *,
    alone: bool,
    of_samples: bool = False,
) -> None:
    """Make sure that a loss is the mean over samples that it is taken for, or the sum.

    The gradients of two halves of the batch must be rows of that of the whole, but for the share
    of the half.

    Args:
        loss_func: A loss without a closed form.
        output: Output of a batch.
        target: Its targets.
        alone: Whether this is the only batch, so that all but per-sample derivatives is right for
            any loss.
        of_samples: Whether these derivatives are what is needed.

    Raises:
        UnsupportedError: The loss is a sum that does not say so, or a mean that says so; or
            neither, and there are several batches or derivatives of samples are needed.
    """
    fitting = _fitting_reductions(loss_func, output, target)
    said, other = ("sum", "mean") if reduction_of(loss_func) == "sum" else ("mean", "sum")
    if fitting is None or said in fitting:
        return
    name, of_other = name_of(loss_func), other in fitting
    if alone and not of_other and not of_samples:
        warnings.warn(
            f"The loss {name!r} of a batch is neither the mean nor the sum of those of its "
            f"samples. It counts as a {said}: the GGN of this one batch is right, but derivatives "
            "of single samples (gammas, lambdas) carry the factor of a mean over samples.",
            stacklevel=2,
        )
        return
    hint = (
        f"It is a {other}: give it an attribute reduction = {other!r}."
        if of_other
        else "Use one that is, or say what each sample adds to it."
        if of_samples
        else "Give all samples as one batch."
    )
    raise UnsupportedError(
        f"The loss {name!r} of a batch is not the {said} of those of its samples, as which it "
        f"counts, so that the derivatives of single samples and the loss of several batches are "
        f"not known. {hint}"
    )


def _fitting_reductions(loss_func: LossFunction, output: Tensor, target: Any) -> set[str] | None:
    """What the gradient of a batch is of those of its halves; None if that cannot be told."""
    n, half = len(output), len(output) // 2
    parts = [slice(0, half), slice(half, n)]
    if not half or not any(_has_samples(leaf, n) for leaf in tree_leaves(target)):
        return None
    try:
        whole = loss_gradient(loss_func, output, target)
        halves = [loss_gradient(loss_func, output[x], _part(target, n, x)) for x in parts]
    except Exception as error:  # a loss that was made for its batch size may say so in any way
        if is_out_of_memory(error):
            raise
        return None
    scale = max(float(x.abs().max()) for x in (whole, *halves))
    if not 0 < scale < float("inf"):
        return None  # all is constant, or half of the targets do not count
    shares = {"sum": (1.0, 1.0), "mean": (half / n, (n - half) / n)}
    expected = {
        reduction: torch.cat([share * x for share, x in zip(of_halves, halves, strict=True)])
        for reduction, of_halves in shares.items()
    }
    return {
        reduction
        for reduction, gradient in expected.items()
        if (whole - gradient).abs().max() <= TOLERANCE * scale
    }


def _has_samples(leaf: object, n: int) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and len(leaf) == n


def _part(target: Any, n: int, rows: slice) -> Any:
    """Those of some samples, of any nest of targets."""
    return tree_map(lambda leaf: leaf[rows] if _has_samples(leaf, n) else leaf, target)
