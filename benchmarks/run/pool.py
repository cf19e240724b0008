"""The processes of a run: which are open, and how all of them end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from types import MappingProxyType

from benchmarks.grid.comparison import Comparison
from benchmarks.run.process import YIELDING, WorkerProcess, open_worker


@dataclass
class Pool:
    """Opens processes, some of them side by side, and ends them together.

    Attributes:
        size: How many may run side by side, where they do not disturb each other.
        memory_limit: Bytes that a process may allocate; None for no limit.
        peer_python: The interpreter of peers.
        close: What else to do when all end at once, so that nothing more is recorded.
    """

    size: int
    memory_limit: int | None
    peer_python: Path
    close: Callable[[], None]
    _is_closed: bool = field(default=False, init=False)
    _open: set[WorkerProcess] = field(default_factory=set, init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    @property
    def at_the_side(self) -> dict[str, str]:
        """Settings of processes that are not timed, and may have others at their side."""
        return YIELDING if self.size > 1 else {}

    def run(self, jobs: Iterable[Callable[[], object]]) -> None:
        """Run jobs in as many threads as there may be processes; each waits for its own.

        Args:
            jobs: What to do; a failure of one ends all.
        """
        if self.size == 1:
            for job in jobs:
                job()
            return
        with ThreadPoolExecutor(self.size) as threads:
            try:
                for done in as_completed([threads.submit(job) for job in jobs]):
                    done.result()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                with self._lock:  # from now on, none is opened and nothing is recorded
                    self._is_closed = True
                    self.close()
                    for worker in self._open:
                        worker.kill()
                raise

    @contextlib.contextmanager
    def worker(
        self,
        comparison: Comparison,
        method: str,
        budget: int | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> Iterator[WorkerProcess]:
        """A process, known as long as it is open.

        Args:
            comparison: What is measured.
            method: Name of the method, and perhaps settings.
            budget: Bytes that it may allocate; None for what all may.
            settings: Environment variables to be set.

        Yields:
            The process.

        Raises:
            KeyboardInterrupt: All have been ended.
        """
        limit = self.memory_limit if budget is None else budget
        with self._lock:
            if self._is_closed:
                raise KeyboardInterrupt
            opened = open_worker(comparison, method, limit, self.peer_python, settings)
            self._open.add(opened)
        try:
            with opened as worker:
                yield worker
        finally:
            with self._lock:
                self._open.discard(opened)
