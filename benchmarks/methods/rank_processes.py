"""Processes that share a batch, which stand by until they are told what to do."""

from __future__ import annotations

import io
import os
import pickle
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from typing import Any
from weakref import finalize

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure.time_and_memory import peak_bytes
from benchmarks.methods.base import NotApplicableError
from benchmarks.problems.problem import Instance
from benchmarks.records.tasks import Computed

PRELOADED = [
    "benchmarks.methods.rank_processes",
    "vivit",
    "torch._dynamo",
    "torch._decomp.decompositions_for_jvp",
]
"""What all processes import sooner or later: once for all of them."""


@dataclass(frozen=True)
class Told:
    """What a rank says of itself.

    Attributes:
        values: Of the first rank, what was computed.
        facts: By name.
    """

    values: Any = None
    facts: dict[str, int | float] | None = None


class RankProcesses:
    """Ranks of a gloo group within this machine, of one thread each.

    They meet by a file and talk over the loopback interface. They end with this object, and with
    the process that made them, however that ends.
    """

    def __init__(self, instance: Instance, computed: Computed, size: int) -> None:
        """Start them, with as many of the samples each as can be.

        Args:
            instance: The problem, as one batch.
            computed: Eigenvalues or the Gram matrix.
            size: How many.

        Raises:
            NotApplicableError: The problem cannot be sent to another process.
        """
        context = get_context("forkserver")  # a plain fork would lack the threads of torch
        context.set_forkserver_preload(PRELOADED)
        shares = _shares(instance, size)
        folder = tempfile.TemporaryDirectory()
        self._processes, self._pipes = [], []
        for rank in range(size):
            here, there = context.Pipe()
            arguments = (rank, size, f"{folder.name}/store", there, shares[rank], computed)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            there.close()
            self._processes.append(process)
            self._pipes.append(here)
        self._end = finalize(self, _end, self._processes, self._pipes, folder)
        self.ask("begin")

    @property
    def pids(self) -> list[int | None]:
        """Numbers of the processes."""
        return [process.pid for process in self._processes]

    def ask(self, command: str) -> list[Told]:
        """Have all do something, and wait for all.

        Args:
            command: A name among `COMMANDS`.

        Returns:
            What each says.

        Raises:
            RuntimeError: One has failed or ended.
        """
        found: list[Told] = []
        for pipe in self._pipes:
            with suppress(OSError):  # it has ended, which the answer will show
                pipe.send(command)
        for rank, pipe in enumerate(self._pipes):
            try:
                answer = pipe.recv()
            except (EOFError, OSError):
                raise RuntimeError(f"The process of rank {rank} ended at {command!r}.") from None
            if isinstance(answer, str):
                raise RuntimeError(f"Rank {rank} failed at {command!r}: {answer}")
            found.append(answer)
        return found

    def close(self) -> None:
        """End them now."""
        self._end()


def _shares(instance: Instance, size: int) -> list[bytes]:
    """Model, loss and samples of each rank; the first have one more, if some are left."""
    found = []
    for chosen in torch.arange(instance.num_samples).tensor_split(size):
        buffer = io.BytesIO()
        try:
            torch.save(instance.samples(chosen), buffer)
        except (AttributeError, TypeError, pickle.PicklingError) as error:
            raise NotApplicableError(
                f"ranks sends the problem to other processes, which pickle cannot: {error}"
            ) from error
        found.append(buffer.getvalue())
    return found


def _end(processes: list[Any], pipes: list[Connection], folder: Any) -> None:
    for pipe in pipes:
        pipe.close()
    for process in processes:
        process.kill()
        process.join()
    folder.cleanup()


def _serve(
    rank: int, size: int, store: str, pipe: Connection, share: bytes, computed: Computed
) -> None:
    """What a process does: wait for commands, until the one that gives them is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # nobody else is to reach it
    torch.set_num_threads(1)
    worker = None
    with suppress(EOFError):
        while True:
            command = pipe.recv()
            try:
                if worker is None:
                    dist.init_process_group(
                        "gloo", init_method=f"file://{store}", rank=rank, world_size=size
                    )
                    worker = _Rank(torch.load(io.BytesIO(share), weights_only=False), computed)
                pipe.send(COMMANDS[command](worker))
            except Exception as error:  # told to the one who asked
                pipe.send(f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    """Not even a computation goes on when nobody waits for it."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def flops_of(run: Callable[[], object]) -> int:
    """Flops of matrix products and convolutions, backward passes among them.

    Args:
        run: What is counted.

    Returns:
        As torch's `FlopCounterMode` counts them; decompositions have none.
    """
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


class _Rank:
    """The share of one process."""

    def __init__(self, instance: Instance, computed: Computed) -> None:
        self._instance, self._computed = instance, computed

    def begin(self) -> Told:
        return Told()

    def run(self) -> Told:
        """Compute; only the first rank says what."""
        ggn = self._curvature(self._instance)
        values = self._compute(ggn)
        traffic = ggn.ranks.traffic
        facts = {"sent_bytes": traffic.sent, "received_bytes": traffic.received}
        return Told(np.asarray(values) if ggn.ranks.rank == 0 else None, facts)

    def plan(self) -> Told:
        """Flops, as counted, and bytes on the way, as predicted."""
        ggn = self._curvature(self._instance)
        plan = ggn.plan()
        facts = {
            "num_columns": plan.num_columns,
            "flops": flops_of(lambda: self._compute(ggn)),
            "planned_sent_bytes": plan.travel.sent,
            "planned_received_bytes": plan.travel.received,
        }
        return Told(facts=facts)

    def peak(self) -> Told:
        """Peak memory of a run, after one of a single sample of each rank."""
        self._compute(self._curvature(self._instance.first(1)))
        peak = peak_bytes(lambda: self._compute(self._curvature(self._instance)), "cpu")
        return Told(facts={"peak_bytes": peak})

    def _curvature(self, instance: Instance) -> Any:
        import vivit  # here, since the name is the original's in the environment of peers

        data = [(instance.inputs, instance.targets)] if instance.num_samples else []
        group = dist.group.WORLD
        return vivit.GGN(instance.model, instance.loss_func, data, process_group=group)

    def _compute(self, ggn: Any) -> torch.Tensor:
        is_gram = self._computed is Computed.GRAM
        found: torch.Tensor = ggn.gram() if is_gram else ggn.eigvalsh()
        return found


COMMANDS: dict[str, Callable[[_Rank], Told]] = {
    "begin": _Rank.begin,
    "run": _Rank.run,
    "plan": _Rank.plan,
    "peak": _Rank.peak,
}
"""What ranks can be asked for."""
