"""Scikit-learn's bundled handwritten digits: real data without a download."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adam import adam

FILE = "datasets/data/digits.csv.gz"
"""Within scikit-learn."""

TRAIN_SAMPLES = 1437
"""The first four fifths of the 1797 images; the others are the test set."""

EPOCHS = 30


def digits() -> tuple[Tensor, Tensor]:
    """All images and labels, as ``sklearn.datasets.load_digits`` gives them.

    Its file is read here, for that module takes as long to load as torch, in each process.

    Returns:
        Images with pixels in [0, 1], shape ``[1797, 1, 8, 8]``, and classes, shape ``[1797]``.

    Raises:
        ModuleNotFoundError: Scikit-learn is not installed.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("scikit-learn has the digits: install the extra bench.")
    rows = torch.as_tensor(np.loadtxt(Path(package.origin).parent / FILE, delimiter=","))
    inputs = rows[:, :-1].to(torch.float32).reshape(-1, 1, 8, 8) / 16
    return inputs, rows[:, -1].to(torch.int64)


def digits_batch(batch_size: int) -> tuple[Tensor, Tensor]:
    """The first training images.

    Args:
        batch_size: At most the size of the training set.

    Returns:
        Images and labels.

    Raises:
        ValueError: There are not as many images.
    """
    if not 1 <= batch_size <= TRAIN_SAMPLES:
        raise ValueError(f"The digits offer batches of 1 to {TRAIN_SAMPLES}, got {batch_size}.")
    inputs, labels = digits()
    return inputs[:batch_size], labels[:batch_size]


def _adam(parameters: list[Tensor]) -> Callable[[Tensor], None]:
    """Steps of ``torch.optim.Adam``, whose class loads torch's compiler, as slow as torch."""
    means, squares = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    steps = [torch.zeros(()) for _ in parameters]

    def step(loss: Tensor) -> None:
        gradients = [*torch.autograd.grad(loss, parameters)]
        with torch.no_grad():
            adam(
                parameters,
                gradients,
                means,
                squares,
                [],
                steps,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=1e-2,
                weight_decay=0.0,
                eps=1e-8,
                maximize=False,
            )

    return step


def trained_on_digits(model: nn.Module, accuracy: float, seed: int) -> nn.Module:
    """Train: Adam, mean cross-entropy, a fixed number of epochs.

    Args:
        model: Maps ``[N, 1, 8, 8]`` to ``[N, 10]``; trained in place.
        accuracy: What the test set must show in the end.
        seed: Order of the batches.

    Returns:
        The model.

    Raises:
        RuntimeError: The accuracy was not reached.
    """
    inputs, labels = digits()
    generator = torch.Generator().manual_seed(seed)
    step = _adam([*model.parameters()])
    for _ in range(EPOCHS):
        for batch in torch.randperm(TRAIN_SAMPLES, generator=generator).split(128):
            step(nn.functional.cross_entropy(model(inputs[batch]), labels[batch]))
    with torch.no_grad():
        predicted = model(inputs[TRAIN_SAMPLES:]).argmax(dim=1)
    reached = (predicted == labels[TRAIN_SAMPLES:]).float().mean().item()
    if reached < accuracy:
        raise RuntimeError(f"Training reached a test accuracy of {reached:.3f} < {accuracy}.")
    return model
