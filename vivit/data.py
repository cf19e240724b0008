"""What a user gives as data: a batch, or batches, of inputs and targets in one of many forms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import length_hint
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.data import Dataset, IterableDataset

from vivit.errors import InputError

LABELS = "labels"
"""Where batches that are mappings have their targets."""

Target = Callable[[Any], Any]
"""Maps a batch to what the loss takes as targets."""


class Batches:
    """The batches of what a user gave as data, which are checked as they come."""

    def __init__(self, data: Any, target: Target | None = None) -> None:
        """Wrap a batch, or an iterable of batches.

        Args:
            data: A batch ``(X, y)``, with any nest of targets if ``X`` is a tensor; a mapping with
                targets under ``"labels"``, whose other entries are the inputs; with `target`, any
                batch; or an iterable of these.
            target: Maps a batch to its targets. All of the batch counts as inputs then.

        Raises:
            InputError: The target is no function.
        """
        if target is not None and not callable(target):
            raise InputError(
                "target must map a batch to what the loss takes, such as "
                f"lambda batch: batch['label'], got {type(target).__name__}."
            )
        self._data, self._target = data, target

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Inputs and targets.

        Raises:
            InputError: The data are none of these, or a batch or the whole is empty.
        """
        data = self._data
        if self.is_one:
            yield self._read(data)
            return
        if isinstance(data, Tensor) or not isinstance(data, Iterable) or _is_indexed(data):
            raise InputError(
                "data must be a batch (X, y) of inputs and target tensor or an iterable of "
                f"batches, got {type(data).__name__}. Of a dataset, take DataLoader(dataset, "
                "batch_size=...); of any other batch, say where targets are, target=lambda "
                "batch: ..."
            )
        count = 0
        for count, batch in enumerate(data, start=1):
            if self._target is None and not self._is_batch(batch):
                raise InputError(
                    f"Batch {count - 1} of data must be (X, y), inputs and target tensor, got "
                    f"{type(batch).__name__}"
                    + (f" of length {len(batch)}." if isinstance(batch, (tuple, list)) else ".")
                    + " Of any other, say where the targets are: target=lambda batch: ..."
                )
            yield self._read(batch)
        if not count:
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
        is_nest = isinstance(data, tuple) and isinstance(data[0], Tensor)
        return is_nest or isinstance(data[1], (Tensor, np.ndarray))

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
    return isinstance(data, Dataset) and not isinstance(data, IterableDataset)


def _check(name: str, part: Any) -> None:
    """Refuse inputs or targets without samples, and what is no tensor but could be."""
    if isinstance(part, np.ndarray):
        raise InputError(f"{name} is a numpy array: give a tensor, torch.as_tensor({name}).")
    if not isinstance(part, Tensor) or part.is_nested:
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
