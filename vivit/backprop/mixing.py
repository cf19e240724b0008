"""Where in a model samples are mixed: looked for once it is known that they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from vivit.backprop.sample_order import replacements, ways_to_take
from vivit.dtypes import HALF, loosened, working
from vivit.layers.uses import SampleOrder
from vivit.memory import available_bytes

Forward = Callable[[Any], Tensor]
"""Maps inputs to the model output."""

SHARE = 4
"""What is available in units of what copies of a forward pass may take."""


def mixing_module(
    model: nn.Module,
    forward: Forward,
    x: Any,
    num_samples: int,
    lowest: torch.dtype | None = None,
) -> str | None:
    """The module that mixes samples.

    The model is run on its inputs, and again with some samples kept and all others replaced. As
    long as samples are apart, those that were kept stay as they were; a module that has such
    inputs, but no such outputs, mixes them, unless it is a module within that does.

    Args:
        model: The model itself.
        forward: Runs it, in the same circumstances each time.
        x: Its inputs.
        num_samples: ``N``.
        lowest: The lowest precision in which the model computes, where it is lower than that of
            results.

    Returns:
        In words; None if it is not found.
    """
    try:
        before = _Watch(model).run(forward, x)
        for take in ways_to_take(x, num_samples)[:1]:
            for kept, index in replacements(num_samples):
                after = _Watch(model).run(forward, take(index))
                found = _Comparison(kept, num_samples, lowest).mixing(before, after)
                if found is not None:
                    return _named(model, found)
    except Exception:  # the refusal of the model must be told, whatever the model does here
        return None
    return None


@dataclass
class _Call:
    """A call of a module: copies of all tensors that go in and come out."""

    module: nn.Module
    inside: int | None
    inputs: list[Tensor]
    outputs: list[Tensor] = field(default_factory=list)


class _Watch:
    """The calls of modules in a forward pass, in the order in which they begin."""

    def __init__(self, model: nn.Module) -> None:
        self._model, self._bytes = model, 0
        self._calls: list[_Call] = []
        self._running: list[int] = []

    def run(self, forward: Forward, x: Any) -> list[_Call]:
        """Make the forward pass."""
        handles = []
        for module in self._model.modules():
            handles.append(module.register_forward_pre_hook(self._begin, with_kwargs=True))
            handles.append(module.register_forward_hook(self._end, with_kwargs=True))
        try:
            forward(x)
        finally:
            for handle in handles:
                handle.remove()
        return self._calls

    def _begin(self, module: nn.Module, args: Any, keywords: Any) -> None:
        inside = self._running[-1] if self._running else None
        self._running.append(len(self._calls))
        self._calls.append(_Call(module, inside, self._copies((args, keywords))))

    def _end(self, module: nn.Module, args: Any, keywords: Any, output: Any) -> None:
        self._calls[self._running.pop()].outputs = self._copies(output)

    def _copies(self, x: Any) -> list[Tensor]:
        tensors = [leaf for leaf in tree_leaves(x) if isinstance(leaf, Tensor)]
        self._bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        for device in {tensor.device for tensor in tensors}:
            available = available_bytes(device)
            if available is not None and self._bytes > available // SHARE:
                raise MemoryError("a message is not worth it")
        return [tensor.detach().clone() for tensor in tensors]


@dataclass(frozen=True)
class _Comparison:
    """Calls before and after all but some samples have been replaced.

    Attributes:
        kept: Indices of those that have not.
        num_samples: ``N``.
        lowest: As for `mixing_module`.
    """

    kept: Tensor
    num_samples: int
    lowest: torch.dtype | None

    def mixing(self, before: list[_Call], after: list[_Call]) -> nn.Module | None:
        """The module with separate inputs, but mixed outputs.

        The last one, as what looks mixed before may be a layout that is not known.
        """
        found: dict[int, nn.Module] = {}
        for i, (old, new) in enumerate(zip(before, after, strict=True)):
            if self._all_kept(old.inputs, new.inputs) and not self._all_kept(
                old.outputs, new.outputs
            ):
                found[i] = old.module
                inside = old.inside
                while inside is not None:  # a module within is the cause
                    found.pop(inside, None)
                    inside = before[inside].inside
        return found[max(found)] if found else None

    def _all_kept(self, old: list[Tensor], new: list[Tensor]) -> bool:
        return all(self._is_kept(a, b) for a, b in zip(old, new, strict=True))

    def _is_kept(self, old: Tensor, new: Tensor) -> bool:
        """Whether a tensor has not changed at the samples that were kept, along some axis."""
        if old.shape != new.shape:
            return False
        same = old == new
        if old.is_floating_point() and old.numel():
            precision = old.dtype if old.dtype in HALF else self.lowest
            relative = loosened(1e3 * torch.finfo(working(old.dtype)).eps, precision)
            same |= (old - new).abs() <= relative * old.abs().max()
        kept = self.kept.to(old.device)
        return bool(same.all()) or any(
            bool(order.split(same.movedim(axis, 0), self.num_samples)[kept].all())
            for axis, size in enumerate(old.shape)
            if size % self.num_samples == 0
            for order in SampleOrder
        )


def _named(model: nn.Module, module: nn.Module) -> str:
    """A module in words: one of others, or one that does the work itself."""
    name = next(name for name, x in model.named_modules() if x is module)
    shown = f"{type(module).__name__} {name!r}" if name else type(module).__name__
    if next(module.children(), None) is None:
        return f"in {shown}"
    return f"between modules, in the forward of {shown}"
