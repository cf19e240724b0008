"""Why a model could not be run: what torch says of it, in words of who called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter, signature
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from vivit.backprop.called import Called, arguments
from vivit.data import tensors_in
from vivit.errors import InputError, VivitError, is_out_of_memory

SHOWN = 5
"""Arguments that a message lists."""


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
    leaves, tensors = tree_leaves(x), [*tensors_in(x)]
    if any(isinstance(leaf, np.ndarray) for leaf in leaves):
        return "The inputs are numpy arrays: give tensors, torch.as_tensor(X)."
    if leaves and all(isinstance(leaf, (int, float)) for leaf in leaves):
        return "The inputs are numbers without a tensor: give one, torch.as_tensor(X)."
    if any(tensor.is_nested for tensor in tensors):
        return "The inputs are nested tensors: pad them, or give samples of one size as a batch."
    devices = {tensor.device for tensor in tensors} - {like.device}
    if devices:
        return (
            f"Inputs are on {_listed(devices)}, the parameters on {like.device}: move the inputs "
            f"with X.to({str(like.device)!r})."
        )
    found = _dtypes(tensors, like, said)
    if found is not None or isinstance(model, Called):
        return found
    return _call(model, x)


def _dtypes(tensors: list[Tensor], like: Tensor, said: str) -> str | None:
    """What is wrong with the dtypes of inputs."""
    floating = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    if floating and "indices" in said:
        return (
            f"The model looks up its inputs in a table, but they have dtype {_listed(floating)}: "
            "give indices, X.long()."
        )
    kinds = floating - {like.dtype}
    if not floating and "dtype" in said:
        kinds = {tensor.dtype for tensor in tensors}
    if not kinds:
        return None
    return (
        f"Inputs have dtype {_listed(kinds)}, the parameters {like.dtype}: convert one of them, "
        f"X.to({like.dtype})."
    )


def _listed(found: set[Any]) -> str:
    return ", ".join(sorted(map(str, found)))


def _call(model: nn.Module, x: Any) -> str | None:
    """What is wrong with how a model is called."""
    takes = _taken(model)
    if isinstance(x, Mapping):
        if arguments(model, x)[1]:  # called as it is to be
            return None
        return (
            f"The model's forward takes {takes}, and the batch {_unfit(model, x)}: say how, "
            "forward=lambda model, X: model(X['...'])."
        )
    if isinstance(x, Tensor):
        if _takes_one(model):
            return None
        return (
            f"The model's forward takes {takes}, but X is a single tensor: give all in a tuple, "
            "and forward=lambda model, X: model(*X)."
        )
    how = "model(X[0])" if _takes_one(model) else "model(*X)"
    return (
        f"The model's forward takes {takes}, but is called with X alone, a {type(x).__name__}: "
        f"say how, forward=lambda model, X: {how}."
    )


def _unfit(model: nn.Module, x: Mapping[str, Any]) -> str:
    """What of a mapping does not fit the arguments of a model."""
    takes = signature(model.forward).parameters
    is_open = any(argument.kind is Parameter.VAR_KEYWORD for argument in takes.values())
    extra = [] if is_open else [name for name in x if name not in takes]
    if extra:
        return f"has {', '.join(map(repr, extra))}, which it does not take"
    needed = [
        name
        for name, argument in takes.items()
        if argument.default is Parameter.empty
        and argument.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
    ]
    missing = [name for name in needed if name not in x]
    if missing:
        return f"lacks {', '.join(map(repr, missing))}"
    return f"has {', '.join(map(repr, x))}"


def _taken(model: nn.Module) -> str:
    """What a model's forward takes, without annotations, and without the end of a long list."""
    takes = signature(model.forward)
    plain = [x.replace(annotation=Parameter.empty) for x in takes.parameters.values()]
    names = [str(x) for x in plain[:SHOWN]] + ["..."] * (len(plain) > SHOWN)
    return f"({', '.join(names)})"


def _takes_one(model: nn.Module) -> bool:
    """Whether a model can be called with a single argument."""
    try:
        signature(model.forward).bind(None)
    except TypeError:
        return False
    return True
