"""Models that are called in another way than with a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from vivit.backprop.autocast import in_this_autocast, is_mixed
from vivit.dtypes import in_working
from vivit.errors import InputError

Forward = Callable[[nn.Module, Any], Tensor]
"""Maps a model and a batch of inputs to the model output, shape ``[N, *out]``."""


class Called(nn.Module):
    """A model and how it is called, as a module that maps a batch to outputs.

    Attributes:
        model: The model.
        may_mix: Whether its outputs may depend on statistics of the batch.
    """

    def __init__(self, model: nn.Module, forward: Forward, may_mix: bool = False) -> None:
        """Wrap a model, which stays as it is.

        Args:
            model: The model.
            forward: Calls it.
            may_mix: Whether its outputs may depend on statistics of the batch.
        """
        super().__init__()
        self.model, self._forward, self.may_mix = model, forward, may_mix
        self.training = model.training

    def forward(self, x: Any) -> Tensor:
        """The model output."""
        return self._forward(self.model, x)


def called(model: nn.Module, forward: Forward | None) -> nn.Module:
    """A model that maps a batch to outputs, always in the autocast that is on now, if one is.

    Args:
        model: The model.
        forward: Calls it; None if it is called with the batch.

    Returns:
        The model, or a `Called` one.

    Raises:
        InputError: It cannot be called so.
    """
    if forward is None and not is_mixed():
        return model
    if forward is not None and not callable(forward):
        raise InputError(
            "forward must map the model and a batch of inputs to the output, such as "
            f"lambda model, X: model(**X).logits, got {type(forward).__name__}."
        )
    return Called(model, forward_here(forward) or output_of)


def forward_here(forward: Forward | None) -> Forward | None:
    """How a model is called, in the autocast that is on now.

    Args:
        forward: Calls it; None if it is called with the batch.

    Returns:
        The same, if no autocast is on.
    """
    return in_this_autocast(forward or output_of) if is_mixed() else forward


def one_unit(model: nn.Module, may_mix: bool) -> Called:
    """A model whose outputs are those of one sample, the whole batch: ``[1, N, *out]``.

    So all that keeps samples apart keeps batches apart.

    Args:
        model: As `called` gives it.
        may_mix: Whether its outputs may depend on statistics of the batch.
    """
    call = model._forward if isinstance(model, Called) else output_of

    def forward(own: nn.Module, x: Any) -> Any:
        found = output_tensor(call(own, x))
        return found[None] if isinstance(found, Tensor) and found.ndim else found

    return Called(plain(model), forward, may_mix)


def unwrapped(model: nn.Module) -> nn.Module:
    """A model without what makes it run on several devices or processes, or compiled.

    The forward pass of `DistributedDataParallel` talks to the other processes, that of
    `DataParallel` copies the parameters, and a compiled one has names of its own.

    Args:
        model: The model.

    Returns:
        The module within, which has the same parameters under its own names; the model itself, if
        it is plain.
    """
    parallel = nn.parallel.DistributedDataParallel, nn.DataParallel
    while True:
        if isinstance(model, parallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):  # torch.compile's
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model


def plain(model: nn.Module) -> nn.Module:
    """The model itself, whose names are its own."""
    return model.model if isinstance(model, Called) else model


def output_with(model: nn.Module, parameters: Mapping[str, Tensor], x: Any) -> Any:
    """The output with other tensors in place of parameters.

    Args:
        model: Maps ``x`` to a tensor.
        parameters: By the names of the model itself.
        x: Inputs.
    """
    if isinstance(model, Called):
        parameters = {f"model.{name}": p for name, p in parameters.items()}
    args, keywords = arguments(model, x)
    return output_tensor(functional_call(model, dict(parameters), args, keywords))


def output_of(model: nn.Module, x: Any) -> Any:
    """The output, as `output_tensor` reads it.

    Args:
        model: Maps ``x`` to it.
        x: Inputs.
    """
    args, keywords = arguments(model, x)
    return output_tensor(model(*args, **keywords))


def output_tensor(found: Any) -> Any:
    """The tensor that a model means by its output, in the precision of results.

    Args:
        found: A tensor; an object with ``logits``, or a mapping with a single tensor, as models
            of transformers give; or a tuple that begins with a tensor.

    Returns:
        The tensor; what was given, if it is none of these.
    """
    if isinstance(found, Tensor):
        return in_working(found)
    logits = found.get("logits") if isinstance(found, Mapping) else getattr(found, "logits", None)
    if isinstance(logits, Tensor):
        return in_working(logits)
    if isinstance(found, Mapping) and len(found) == 1:
        found = tuple(found.values())
    if isinstance(found, tuple) and found and isinstance(found[0], Tensor):
        return in_working(found[0])
    return found


def arguments(model: nn.Module, x: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs as arguments of a model: a mapping as keywords, if the model takes these.

    A model of a single argument gets the mapping as it is, whatever the argument is called.

    Args:
        model: The model.
        x: Its inputs.

    Returns:
        Arguments and keywords.
    """
    if isinstance(model, Called) or not isinstance(x, Mapping):
        return (x,), {}
    takes = signature(model.forward)
    kinds = [parameter.kind for parameter in takes.parameters.values()]
    if len(kinds) == 1 and kinds[0] is not Parameter.VAR_KEYWORD:
        return (x,), {}
    try:
        takes.bind(**x)
    except TypeError:
        return (x,), {}
    return (), dict(x)
