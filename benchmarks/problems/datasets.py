"""Images of data sets that torchvision reads, where it is to be had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor]
"""Inputs and targets."""


class DataError(ValueError):
    """A data set cannot be read; the message says what to do."""


def images(name: str, root: Path, train: bool = True, count: int | None = None) -> Batch:
    """The first images of a data set, as they are, with values in [0, 1].

    Nothing is downloaded.

    Args:
        name: Of the data set, as of the class in ``torchvision.datasets``.
        root: The folder that the class expects.
        train: Of the training set, or else of the test set.
        count: How many; None for all.

    Returns:
        Images ``[N, channels, height, width]`` and their classes ``[N]``.

    Raises:
        DataError: torchvision cannot be imported, the files are not there, or are too few.
    """
    try:
        from torchvision import datasets  # type: ignore[import-untyped]
    except (ImportError, RuntimeError) as error:  # a build for another torch ends in the latter
        raise DataError(
            f"Reading {name} needs a torchvision that fits torch {torch.__version__}, but it "
            f"cannot be imported ({error}). Install one, or leave --data-root out for synthetic "
            "data."
        ) from error
    try:
        data = getattr(datasets, name)(root, train=train, download=False)
    except RuntimeError as error:
        raise DataError(
            f"Expected {name} in {root}, as torchvision.datasets.{name}(root, download=True) puts "
            f"it there: {error}"
        ) from error
    if count is not None and count > len(data):
        kind = "training" if train else "test"
        raise DataError(f"{name} has {len(data)} {kind} images, but {count} were asked for.")
    return _scaled(data.data[:count]), torch.as_tensor(data.targets[:count])


def _scaled(pixels: Any) -> Tensor:
    """Bytes ``[N, height, width]`` or ``[N, height, width, channels]`` as images."""
    images = torch.as_tensor(pixels).float() / 255
    return images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
