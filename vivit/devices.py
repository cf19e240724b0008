"""What the engine does differently on a processor and on a GPU.

The figures were measured on 2 cores of an AMD EPYC and on an NVIDIA H200; that a GPU does not
shift follows from counts of operations and bytes. Accelerators of other kinds count as GPUs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Traits:
    """Of a kind of device.

    Attributes:
        workspace: Bytes for temporaries, by default and where memory is not scarce.
        cached: Elements of temporaries that stay in the caches between being written and being
            read; None if launching few operations counts more.
        windows: Elements of the windows of a convolution that are made at a time.
        shifts: Whether a convolution's columns are sums of a thin product for each entry of its
            kernel. Else windows are copied for a single product: few large operations.
        busy: Flops of a layer on average, in a pass of a single column, that keep the device busy:
            with fewer, launching operations takes longer than they do.
        overhead: Time of a product with the Gram matrix that does not depend on sizes, for each
            layer, in flops of a large matrix product: what it takes to launch operations.
        raises_index_errors: Whether an index out of range is an error, or the end of the process's
            use of the device: every later operation fails.
    """

    workspace: int
    cached: int | None
    windows: int
    shifts: bool
    busy: float
    overhead: float
    raises_index_errors: bool

    def workspace_within(self, available: int | None) -> int:
        """The default workspace.

        Args:
            available: Bytes of all that is to be allocated; None if unknown.

        Returns:
            Bytes: no more than a share of what is available, but at least a CPU's.
        """
        if available is None:
            return self.workspace
        return min(self.workspace, max(available // WORKSPACE_SHARE, CPU.workspace))

    def block_within(self, size: int) -> int:
        """Elements of which it is best to make a temporary at a time.

        Args:
            size: Elements that there is room for.

        Returns:
            No more than that.
        """
        return min(self.cached or size, size)


WORKSPACE_SHARE = 8
"""What is available in units of the largest default workspace."""

CPU = Traits(
    workspace=32 * 2**20,
    cached=2**20,
    windows=2**19,
    shifts=True,
    busy=1e7,
    overhead=5e7,
    raises_index_errors=True,
)

GPU = Traits(
    workspace=128 * 2**20,
    cached=None,
    windows=2**24,
    shifts=False,
    busy=math.inf,
    overhead=1e10,
    raises_index_errors=False,
)

KINDS = {"cpu": CPU}


def traits(device: torch.device) -> Traits:
    """What is special about a device.

    Args:
        device: Any.

    Returns:
        That of its kind, the GPU's for all but the CPU.
    """
    return KINDS.get(device.type, GPU)
