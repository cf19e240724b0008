"""What a user gives as data: a batch, or batches, of inputs and targets in one of many forms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import length_hint
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset, IterableDataset

from vivit.errors import InputError

LABELS = "labels"
"""Where batches that are mappings have their targets."""

SHOWN = 4
"""Parts of a batch that a message names."""

Target = Callable[[Any], Any]
"""Maps a batch to what the loss takes as targets."""


class Batches:
    """The batches of what a user gave as data, which are checked as they come."""

    def __init__(
        self, data: Any, target: Target | None = None, may_be_empty: bool = False
    ) -> None:
        """Wrap a batch, or an iterable of batches.

        Args:
            data: A batch ``(X, y)``, with any nest of targets if ``X`` is a tensor; a mapping with
                targets under ``"labels"``, whose other entries are the inputs; with `target`, any
                batch; or an iterable of these.
            target: Maps a batch to its targets. All of the batch counts as inputs then.
            may_be_empty: Whether there may be no batches, and batches without samples, which are
                left out.

        Raises:
            InputError: The target is no function.
        """
        if target is not None and not callable(target):
            raise InputError(
                "target must map a batch to what the loss takes, such as "
                f"lambda batch: batch['label'], got {type(target).__name__}."
            )
        self._data, self._target, self._may_be_empty = data, target, may_be_empty

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Inputs and targets.

        Raises:
            InputError: The data are none of these, or a batch or the whole is empty.
        """
        data = self._data
        if self.is_one:
            if not self._is_left_out(data):
                yield self._read(data)
            return
        if not isinstance(data, Iterable) or _is_indexed(data) or self._holds_tensors(data):
            raise InputError(
                "data must be a batch (X, y) of inputs and target tensor or an iterable of "
                f"batches, got {_shown(data)}. Of a dataset, take DataLoader(dataset, "
                "batch_size=...); targets of several parts are a nest, (X, (y, weight)); of any "
                "other batch, say where targets are, target=lambda batch: ..."
            )
        count = 0
        for count, batch in enumerate(data, start=1):
            if self._target is None and not self._is_batch(batch):
                raise InputError(
                    f"Batch {count - 1} of data must be (X, y), inputs and target tensor, got "
                    f"{_shown(batch)}. Of any other, say where the targets are: "
                    "target=lambda batch: ..."
                )
            if not self._is_left_out(batch):
                yield self._read(batch)
        if not count and not self._may_be_empty:
            raise InputError("data has no batches: is the iterable used up?")

    @property
    def is_one(self) -> bool:
        """Whether the data are a single batch, not several."""
        return self._is_batch(self._data)

    def __length_hint__(self) -> int:
        """How many there are; 0 if the data cannot tell."""
        return 1 if self.is_one else length_hint(self._data)

    def _is_batch(self, data: Any) -> bool:
        """Whether this is one batch, not several."""
        if isinstance(data, Mapping):
            return True
        if self._target is not None:
            if isinstance(data, tuple):
                is_named = hasattr(data, "_fields")
                return is_named or (bool(data) and isinstance(data[0], (Tensor, Mapping)))
            return isinstance(data, Tensor) or not isinstance(data, Iterable)
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            return False
        return isinstance(data[0], Tensor) or isinstance(data[1], (Tensor, np.ndarray))

    def _is_left_out(self, batch: Any) -> bool:
        """Whether a batch has no samples, which it may."""
        x = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
        parts = [*x.values()] if isinstance(x, Mapping) else [x]
        tensors = [part for part in parts if isinstance(part, Tensor) and part.ndim]
        return self._may_be_empty and bool(tensors) and not any(len(part) for part in tensors)

    def _holds_tensors(self, data: Any) -> bool:
        """Whether this looks like parts of one batch, not like several."""
        is_nest = isinstance(data, (tuple, list)) and self._target is None
        return is_nest and bool(data) and isinstance(data[0], (Tensor, np.ndarray))

    def _read(self, batch: Any) -> tuple[Any, Any]:
        if self._target is not None:
            x, y = batch, self._target(batch)
        elif isinstance(batch, Mapping):
            x, y = _split(batch)
        else:
            x, y = batch
        for name, part in (("X", x), ("y", y)):
            _check(name, part)
        return dict(x) if isinstance(x, Mapping) else x, y


def _is_indexed(data: Any) -> bool:
    """Whether these are samples, not batches."""
    is_map = isinstance(data, Dataset) and not isinstance(data, IterableDataset)
    return is_map or isinstance(data, (Tensor, np.ndarray, str, bytes))


def _shown(data: Any) -> str:
    """A type, and those of what is in it."""
    name = type(data).__name__
    if not isinstance(data, (tuple, list)):
        return name
    kinds = ", ".join(type(part).__name__ for part in data[:SHOWN])
    return f"{name} of length {len(data)} ({kinds}{', ...' if len(data) > SHOWN else ''})"


def check_inputs(name: str, x: Any) -> None:
    """Refuse what holds batches where the inputs of one are meant, and what is no tensor.

    Args:
        name: What they are called.
        x: Inputs of a model, in any form.

    Raises:
        InputError: They are of another kind.
    """
    if isinstance(x, (Dataset, DataLoader, Iterator)):
        raise InputError(
            f"{name} is a {type(x).__name__}, expected the inputs of one batch, as the model "
            f"takes them. Of a DataLoader, take {name}, y = next(iter(loader))."
        )
    _refuse_arrays(name, x)


def _refuse_arrays(name: str, part: Any) -> None:
    """Refuse what is no tensor but could be, and tensors that have no sizes."""
    if isinstance(part, np.ndarray):
        raise InputError(f"{name} is a numpy array: give a tensor, torch.as_tensor({name}).")
    if isinstance(part, Tensor) and part.is_nested and part.layout is torch.strided:
        raise InputError(
            f"{name} is a nested tensor of strided layout, which has no sizes: pad it, "
            f"{name}.to_padded_tensor(0.0), or use layout=torch.jagged."
        )


def _check(name: str, part: Any) -> None:
    """Refuse inputs or targets without samples, and of kinds that have none."""
    _refuse_arrays(name, part)
    if not isinstance(part, Tensor):
        return
    if part.ndim == 0:
        raise InputError(
            f"{name} has shape [], expected samples along the first axis. Is it a single sample? "
            "Give a batch of it, X[None] and y[None]."
        )
    if len(part) == 0:
        raise InputError(
            f"The batch is empty: {name} has shape {list(part.shape)}, expected samples along the "
            "first axis."
        )


def tensors_in(x: Any) -> Iterator[Tensor]:
    """All tensors of a batch: in nests, and in attributes of other objects.

    Args:
        x: Anything.
    """
    for leaf in tree_leaves(x):
        if isinstance(leaf, Tensor):
            yield leaf
        elif hasattr(leaf, "__dict__") and not isinstance(leaf, (type, nn.Module)):
            yield from (y for y in tree_leaves(vars(leaf)) if isinstance(y, Tensor))


def _split(batch: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Inputs and labels of a mapping."""
    if LABELS not in batch:
        raise InputError(
            f"The batch has no {LABELS!r}, but {', '.join(map(repr, batch))}. Say what the loss "
            "takes: target=lambda batch: batch[...]"
        )
    return {name: x for name, x in batch.items() if name != LABELS}, batch[LABELS]
