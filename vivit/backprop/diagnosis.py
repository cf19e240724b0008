"""Why a model could not be run: what torch says of it, in words of who called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from vivit.backprop.called import Called
from vivit.data import tensors_in
from vivit.errors import InputError, VivitError, is_out_of_memory


@contextmanager
def explained(model: nn.Module, x: Any, parameters: Mapping[str, Tensor]) -> Iterator[None]:
    """Say what to do where a forward pass fails for a known reason.

    Args:
        model: The model.
        x: Its inputs.
        parameters: Those that count.

    Raises:
        InputError: The reason is known; else what the model raised.
    """
    try:
        yield
    except VivitError:
        raise
    except Exception as error:  # a model may fail in any way
        like = next(iter(parameters.values()))
        found = None if is_out_of_memory(error) else reason(model, x, like, str(error))
        if found is None:
            raise
        raise InputError(f"{found} (The model raised: {error})") from error


def reason(model: nn.Module, x: Any, like: Tensor, said: str = "") -> str | None:
    """What is wrong with the inputs of a model.

    Args:
        model: The model.
        x: Its inputs.
        like: A tensor of its device and dtype.
        said: What the model raised.

    Returns:
        In words; None if nothing is seen.
    """
    if any(isinstance(leaf, np.ndarray) for leaf in tree_leaves(x)):
        return "The inputs are numpy arrays: give tensors, torch.as_tensor(X)."
    tensors = [*tensors_in(x)]
    if any(tensor.is_nested for tensor in tensors):
        return "The inputs are nested tensors: pad them, or give samples of one size as a batch."
    devices = {tensor.device for tensor in tensors} - {like.device}
    if devices:
        return (
            f"Inputs are on {', '.join(sorted(map(str, devices)))}, the parameters on "
            f"{like.device}: move the inputs with X.to({str(like.device)!r})."
        )
    kinds = {tensor.dtype for tensor in tensors if tensor.is_floating_point()} - {like.dtype}
    if not any(tensor.is_floating_point() for tensor in tensors) and "dtype" in said:
        kinds = {tensor.dtype for tensor in tensors}
    if kinds:
        return (
            f"Inputs have dtype {', '.join(sorted(map(str, kinds)))}, the parameters "
            f"{like.dtype}: convert one of them, X.to({like.dtype})."
        )
    return None if isinstance(model, Called) else _call(model, x)


def _call(model: nn.Module, x: Any) -> str | None:
    """What is wrong with how a model is called."""
    takes = signature(model.forward)
    if isinstance(x, Mapping):
        extra = [name for name in x if name not in takes.parameters]
        named = ", ".join(map(repr, extra or x))
        what = f"has {named}, which it does not take" if extra else f"has {named}"
        return (
            f"The model's forward takes {takes}, and the batch {what}: say how, "
            "forward=lambda model, X: model(X['...'])."
        )
    if isinstance(x, Tensor):
        if _takes_one(model):
            return None
        return f"The model's forward takes {takes}, but X is a single tensor."
    how = "model(X[0])" if _takes_one(model) else "model(*X)"
    return (
        f"The model's forward takes {takes}, but is called with X alone, a {type(x).__name__}: "
        f"say how, forward=lambda model, X: {how}."
    )


def _takes_one(model: nn.Module) -> bool:
    """Whether a model can be called with a single argument."""
    try:
        signature(model.forward).bind(None)
    except TypeError:
        return False
    return True
