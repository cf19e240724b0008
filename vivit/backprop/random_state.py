"""Random state of torch's generators, so that every forward pass draws the same dropout masks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class RandomState:
    """State of the generators that a model may draw from.

    Attributes:
        cpu: Of the CPU's.
        cuda: Of the CUDA devices' on which the model has parameters.
    """

    cpu: Tensor
    cuda: dict[torch.device, Tensor]

    @classmethod
    def current(cls, model: nn.Module) -> RandomState:
        """The state as it is now."""
        if not torch.cuda.is_initialized():  # so no parameter can be there
            return cls._of([])
        return cls._of(list({p.device for p in model.parameters() if p.is_cuda}))

    @classmethod
    def _of(cls, devices: list[torch.device]) -> RandomState:
        return cls(torch.get_rng_state(), {d: torch.cuda.get_rng_state(d) for d in devices})

    def same_as(self, other: RandomState) -> bool:
        """Whether the generators would draw the same numbers."""
        return torch.equal(self.cpu, other.cpu) and all(
            torch.equal(state, other.cuda[device]) for device, state in self.cuda.items()
        )

    @contextmanager
    def restored(self) -> Iterator[list[RandomState]]:
        """Draw from this state, and put the global one back in the end.

        Yields:
            A list that receives the state after the draws when the context ends.
        """
        after: list[RandomState] = []
        with torch.random.fork_rng(devices=list(self.cuda)):
            torch.set_rng_state(self.cpu)
            for device, state in self.cuda.items():
                torch.cuda.set_rng_state(state, device)
            yield after
            after.append(self._of(list(self.cuda)))
