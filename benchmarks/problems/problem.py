"""Problems: a network, a loss and a batch, reproducible from a seed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from benchmarks.problems.datasets import images
from benchmarks.records.label import Label


@dataclass(frozen=True)
class Instance:
    """A problem at one batch size, ready to be measured.

    Attributes:
        model: In evaluation mode, on the device and of the dtype asked for.
        loss_func: A mean over the samples.
        inputs: Shape ``[N, *in]``; or dictionaries, lists and tuples of such tensors, nested.
        targets: Class indices, shape ``[N]`` or ``[N, *positions]``; for a square loss, values of
            the output's shape.
        memory: Bytes that a method which plans ahead may count on; None for what there is.
        pieces: Batches in which the samples come.
    """

    model: nn.Module
    loss_func: nn.Module
    inputs: Any
    targets: Tensor
    memory: int | None = None
    pieces: int = 1

    @property
    def batches(self) -> list[tuple[Any, Tensor]]:
        """Inputs and targets, in as many pieces as there are samples for."""
        size = -(-self.num_samples // self.pieces)
        parts = (self.samples(slice(n, n + size)) for n in range(0, self.num_samples, size))
        return [(part.inputs, part.targets) for part in parts]

    @property
    def num_parameters(self) -> int:
        """``D``, the number of parameters."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def num_samples(self) -> int:
        """``N``."""
        return len(self.targets)

    @property
    def like(self) -> Tensor:
        """A tensor of the dtype and device that all is computed in; inputs may be tokens."""
        return next(self.model.parameters())

    def first(self, count: int) -> Instance:
        """The same problem on its first samples only.

        Args:
            count: How many.

        Returns:
            An instance that shares the model.
        """
        return self.samples(slice(count))

    def samples(self, chosen: slice | Tensor) -> Instance:
        """The same problem on some of its samples only.

        Args:
            chosen: Which; or their indices, in any order.

        Returns:
            An instance that shares the model.
        """
        inputs = tree_map_only(Tensor, lambda x: x[chosen] if x.ndim else x, self.inputs)
        return replace(self, inputs=inputs, targets=self.targets[chosen])

    def double(self) -> Instance:
        """A copy in double precision."""
        model = copy.deepcopy(self.model).double()
        inputs, targets = tree_map_only(
            Tensor, lambda x: _in_precision(x, torch.float64), (self.inputs, self.targets)
        )
        return replace(self, model=model, inputs=inputs, targets=targets)


def _in_precision(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers in another precision; indices as they are."""
    return x.to(dtype) if x.is_floating_point() else x


Maker = Callable[..., tuple[nn.Module, Tensor, Tensor]]
"""Maps batch size and seed to model, inputs and targets, on the CPU in single precision. Where a
problem has a data set, ``batch`` may give inputs and targets in place of synthetic ones."""


@dataclass(frozen=True)
class Problem:
    """How to make the instances of a problem.

    Attributes:
        name: Short name, which records have.
        label: Its name in reports.
        description: One line for people.
        data: ``"real"`` or ``"synthetic"``, where no other is asked for.
        num_parameters: ``D``, asserted on every instance.
        maker: Makes model, inputs and targets.
        loss: Makes the loss.
        sizes: Other numbers that a family of problems varies, for records.
        dataset: Of torchvision, whose images may take the place of synthetic ones; None for none.
        pieces: Batches in which the samples come.
    """

    name: str
    label: Label
    description: str
    data: str
    num_parameters: int
    maker: Maker
    loss: Callable[[], nn.Module] = nn.CrossEntropyLoss
    sizes: Mapping[str, int] = field(default_factory=dict)
    dataset: str | None = None
    pieces: int = 1

    def kind_of_data(self, root: Path | None) -> str:
        """``"real"`` or ``"synthetic"``.

        Args:
            root: Where data sets are, if they are to be used.

        Returns:
            What `make` gives with this root.
        """
        return "real" if root is not None and self.dataset is not None else self.data

    def make(
        self,
        batch_size: int,
        device: str,
        dtype: torch.dtype,
        seed: int,
        root: Path | None = None,
    ) -> Instance:
        """Make an instance; the same arguments give the same one.

        Args:
            batch_size: ``N``.
            device: As torch names it.
            dtype: Of parameters and inputs.
            seed: For initial weights and synthetic data.
            root: Where data sets are, to be used instead of synthetic data.

        Returns:
            The instance.

        Raises:
            ValueError: The model does not have the stated number of parameters.
            DataError: A data set cannot be read.
        """
        maker = self.maker
        if root is not None and self.dataset is not None:
            maker = partial(maker, batch=images(self.dataset, root, count=batch_size))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, inputs, targets = maker(batch_size, seed)
        model = model.eval().to(device=device, dtype=dtype)
        inputs, targets = (_in_precision(x, dtype).to(device) for x in (inputs, targets))
        instance = Instance(model, self.loss(), inputs, targets, pieces=self.pieces)
        if instance.num_parameters != self.num_parameters:
            raise ValueError(
                f"Problem {self.name!r} has {instance.num_parameters} parameters, expected "
                f"{self.num_parameters}."
            )
        return instance
