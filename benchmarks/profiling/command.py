"""The command ``python -m benchmarks profile PROBLEM``: where does the time of a method go?

The method runs some times as it is, for its time, and once more with every operation counted.
Operations are timed one by one; what they do not take of the whole is Python and launching.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.grid import arguments as types
from benchmarks.grid.comparison import Comparison
from benchmarks.measure.time_and_memory import seconds_per_run
from benchmarks.methods import find_method
from benchmarks.methods.base import NotApplicableError
from benchmarks.problems.own import find_problem
from benchmarks.profiling.as_gpu import counted_as_gpu
from benchmarks.profiling.operations import Counts, by_operation, by_phase, counted, total
from benchmarks.profiling.phases import phase
from benchmarks.profiling.roofline import Roofline
from benchmarks.profiling.tables import milliseconds, table
from benchmarks.records.environment import command_line, environment
from benchmarks.records.record import Quantity, Record, RecordStore, Status
from benchmarks.records.settings import FIELD, split_method
from benchmarks.records.tasks import Computed, Task

SUITE = "profile"
"""Of the records."""

REPEATS = 3
"""Timed runs."""

BATCH_SIZE = 32

COUNTED = {
    Quantity.CALLS: "calls",
    Quantity.TRAFFIC: "bytes",
    Quantity.FLOPS: "flops",
    Quantity.WAITS: "waits",
}
"""What records hold, and the figure that it is."""


class ProfileError(ValueError):
    """What was asked for cannot be profiled."""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of the command."""
    command.add_argument("problem", type=types.problem, help="name, or path/to/file.py:function")
    command.add_argument(
        "--method", type=types.method, default="gram", metavar="NAME", help="default: gram"
    )
    command.add_argument(
        "--computed",
        type=types.choice(Computed),
        default=Computed.GRAM,
        metavar="WHAT",
        help=f"default: {Computed.GRAM.value}",
    )
    command.add_argument(
        "--directions", type=types.positive, default=10, metavar="K", help="if some; default: 10"
    )
    command.add_argument(
        "--batch-size", type=types.positive, default=BATCH_SIZE, metavar="N", help="default: 32"
    )
    command.add_argument(
        "--device", type=types.device, default="cpu", metavar="NAME", help="default: cpu"
    )
    command.add_argument("--threads", type=types.positive, metavar="N", help="default: all cores")
    command.add_argument("--seed", type=int, default=0, help="of weights and data")
    command.add_argument(
        "--as-gpu",
        action="store_true",
        help="count on the CPU what the library would do on a GPU; times mean nothing then",
    )
    command.add_argument(
        "--output", type=Path, metavar="FILE", help="of records, to which the counts are added"
    )
    command.set_defaults(run=run)


@dataclass(frozen=True)
class Profiled:
    """What was found.

    Attributes:
        counts: By phase and operation.
        samples: Seconds of runs without counting; none if times mean nothing.
        roofline: The limit of the machine; None likewise.
    """

    counts: Counts
    samples: tuple[float, ...] = ()
    roofline: Roofline | None = None

    def __str__(self) -> str:
        """For people."""
        by = [("phase", by_phase(self.counts)), ("operation", by_operation(self.counts))]
        parts = [table(title, counts, self.roofline) for title, counts in by]
        if self.roofline is None:
            return "\n\n".join(parts)
        whole, seconds = total(self.counts), median(self.samples)
        least, rest = self.roofline.seconds(whole), seconds - whole.seconds
        parts.append(
            f"A run takes {milliseconds(seconds)}, of which operations take "
            f"{milliseconds(whole.seconds)}; {milliseconds(max(rest, 0.0))} are Python and "
            "launching.\n"
            f"The limit of this machine, {self.roofline.flops / 1e9:.0f} Gflop/s and "
            f"{self.roofline.bandwidth / 1e9:.1f} GB/s, is {milliseconds(least)} for these flops "
            f"and bytes: a share of {least / seconds:.2f}."
        )
        return "\n\n".join(parts)


def run(options: argparse.Namespace) -> int:
    """Profile, show, and write records if a file is given.

    Args:
        options: As parsed.

    Returns:
        Exit code.
    """
    torch.set_num_threads(options.threads or torch.get_num_threads())
    if options.as_gpu and options.device != "cpu":
        raise ProfileError("--as-gpu counts on a CPU what a GPU would do: leave --device out.")
    comparison = _comparison(options)
    found = profiled(comparison, options.as_gpu)
    on = "a CPU, treated as a GPU" if options.as_gpu else comparison.device
    print(f"{comparison.title}, {options.method}, {on}, {comparison.threads} thread(s)\n\n{found}")
    if options.output is not None:
        RecordStore(options.output).append(_records(comparison, options, found))
        print(f"\nRecords: {options.output}")
    return 0


def profiled(comparison: Comparison, as_gpu: bool = False) -> Profiled:
    """Run its method, and count.

    Args:
        comparison: What runs.
        as_gpu: Whether only counts are wanted.

    Returns:
        Counts, and times if these mean something.
    """
    size, device = comparison.batch_size, torch.device(comparison.device)
    assert size is not None
    problem = find_problem(comparison.problem)
    instance = problem.make(size, comparison.device, torch.float32, comparison.seed, None)
    (name,) = comparison.methods
    prepare = partial(find_method(name).prepare, task=comparison.task)
    try:
        if as_gpu:
            return Profiled(counted_as_gpu(instance, prepare))
        run = prepare(instance)
    except NotApplicableError as error:
        raise ProfileError(str(error)) from error
    run()
    samples = tuple(seconds_per_run(run) for _ in range(REPEATS))
    with counted(phase, device) as counts:
        run()
    return Profiled(counts, samples, Roofline.measured(device))


def _comparison(options: argparse.Namespace) -> Comparison:
    computed = options.computed
    task = Task(computed, options.directions if computed.is_about_leading else None)
    return Comparison(
        suite=SUITE,
        problem=options.problem,
        methods=(options.method,),
        batch_size=options.batch_size,
        task=task,
        repeats=REPEATS,
        device=options.device,
        threads=torch.get_num_threads(),
        seed=options.seed,
    )


def _records(comparison: Comparison, options: argparse.Namespace, found: Profiled) -> list[Record]:
    """One for each figure, with those of the phases in its details."""
    conditions = environment(command_line())
    name, settings = split_method(options.method)
    parameters = {**comparison.parameters, "as_gpu": options.as_gpu}
    if settings:
        parameters[FIELD] = find_method(options.method).changed
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return [
        Record(
            suite=SUITE,
            problem=comparison.problem,
            method=name,
            quantity=quantity,
            parameters=parameters,
            status=Status.OK,
            samples=samples,
            unit=quantity.unit,
            details=details,
            environment=conditions,
            time=now,
        )
        for quantity, samples, details in _figures(found)
    ]


def _figures(found: Profiled) -> Iterator[tuple[Quantity, list[float], dict[str, Any]]]:
    """Each quantity with its samples, and with its details: figures of the phases."""
    whole, phases = total(found.counts), by_phase(found.counts)
    for quantity, figure in COUNTED.items():
        details = {name: getattr(count, figure) for name, count in phases.items()}
        yield quantity, [float(getattr(whole, figure))], details
    if found.roofline is None:
        return
    seconds = {name: count.seconds for name, count in phases.items()}
    yield Quantity.TIME, [*found.samples], seconds
    limits = {name: found.roofline.seconds(count) for name, count in phases.items()}
    yield Quantity.LIMIT, [found.roofline.seconds(whole)], {**limits, **vars(found.roofline)}
