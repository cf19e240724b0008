"""The library as it is on a GPU, run on a CPU: what it calls does not depend on where it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.problems.problem import Instance
from benchmarks.profiling.operations import Counts, counted
from benchmarks.profiling.phases import phase

MEMORY = 64 * 2**30
"""Bytes that the library may count on, whatever this machine has."""


@contextmanager
def gpu_traits() -> Iterator[None]:
    """Let the library treat a CPU as a GPU.

    Raises:
        NotImplementedError: The library, of an older commit, does not tell devices apart so.
    """
    try:
        from vivit.devices import GPU, KINDS
    except ImportError as error:
        raise NotImplementedError("The library of this commit has no vivit.devices.") from error
    with patch.dict(KINDS, {"cpu": GPU}):
        yield


def counted_as_gpu(instance: Instance, prepare: Callable[[Instance], Callable[[], Any]]) -> Counts:
    """Operations of a run as on a GPU: the same in every run, on every machine.

    What goes from a GPU to the processor is not seen on a CPU, unless the program waits for a
    single number, or for a choice of entries.

    Args:
        instance: The problem, on the CPU.
        prepare: Makes the run.

    Returns:
        The counts.
    """
    with gpu_traits():
        run = prepare(replace(instance, memory=MEMORY))
        run()  # what is done once
        with counted(phase, torch.device("cpu")) as counts:
            run()
    return counts
