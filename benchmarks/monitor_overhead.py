"""How much longer a training takes with a monitor: ``python -m benchmarks.monitor_overhead``.

Trainings with and without, from the same start and on the same batches, take turns, so that all
see the same disturbances of the machine. That they end in the same parameters, bit by bit, is
checked.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.grid import arguments as types
from benchmarks.problems.deepobs import cifar10_3c3d
from benchmarks.problems.digits import TRAIN_SAMPLES, digits
from benchmarks.problems.digits_networks import digits_cnn

BATCH = 128
"""Of a step; as the published trainings have it."""

VARIANTS: Mapping[str, dict[str, Any] | None] = {
    "without": None,
    "all quantities": {},
    "all quantities, budget 5%": {"budget": 0.05},
    "leading eigenvalues": {"quantities": ["eigenvalues"]},
}
"""Trainings that take turns, and the options of their monitors."""


def _digits() -> tuple[Tensor, Tensor]:
    x, y = digits()
    return x[:TRAIN_SAMPLES], y[:TRAIN_SAMPLES]


def _synthetic() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    count = 8 * BATCH
    x = torch.randn(count, 3, 32, 32, generator=generator)
    return x, torch.randint(10, (count,), generator=generator)


PROBLEMS: Mapping[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Tensor, Tensor]]]] = {
    "digits_cnn": (digits_cnn, _digits),
    "cifar10_3c3d": (cifar10_3c3d, _synthetic),
}
"""Networks and their training data; that of CIFAR-10 is synthetic, which does not change times."""


@dataclass(frozen=True)
class Trial:
    """One training.

    Attributes:
        seconds: From the first step to the last, observations among them.
        share: What the monitor says that it took.
        observations: How many were made.
        parameters: In the end.
    """

    seconds: float
    share: float
    observations: int
    parameters: list[Tensor]


def train(
    name: str, options: dict[str, Any] | None, steps: int, samples: int, every: int
) -> Trial:
    """Train by SGD with momentum, from the same start and on the same batches each time.

    Args:
        name: Of the problem.
        options: Of the monitor; None for none.
        steps: Of the optimizer.
        samples: Of the held-out batch.
        every: Steps between observations.
    """
    from vivit import Monitor

    network, data = PROBLEMS[name]
    torch.manual_seed(0)
    model, (x, y), loss_func = network().train(), data(), nn.CrossEntropyLoss()
    held_out, x, y = (x[:samples], y[:samples]), x[samples:], y[samples:]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    with tempfile.TemporaryDirectory() as folder:
        monitor, observations = None, 0
        if options is not None:
            path = Path(folder) / "run.jsonl"
            monitor = Monitor(model, loss_func, held_out, every=every, path=path, **options)
        start = perf_counter()
        for step in range(steps):
            chosen = torch.randint(len(x), (BATCH,))
            optimizer.zero_grad()
            loss_func(model(x[chosen]), y[chosen]).backward()
            optimizer.step()
            if monitor is not None:
                observations += monitor(step) is not None
        seconds = perf_counter() - start
    share = 0.0 if monitor is None else monitor.seconds / seconds
    return Trial(seconds, share, observations, [p.detach() for p in model.parameters()])


def measured(name: str, options: argparse.Namespace) -> list[str]:
    """Rows of a table, one for each variant.

    Args:
        name: Of the problem.
        options: Steps, samples, every, rounds.

    Returns:
        Medians over the rounds, and of the ratios to the training without in the same round.

    Raises:
        RuntimeError: A monitor has changed the training.
    """
    names, rounds = [*VARIANTS], []
    for number in range(options.rounds + 1):
        order = names if number % 2 else names[::-1]
        found = {
            variant: train(name, VARIANTS[variant], options.steps, options.samples, options.every)
            for variant in order
        }
        expected = found["without"].parameters
        for variant, trial in found.items():
            if not all(map(torch.equal, trial.parameters, expected)):
                raise RuntimeError(f"The monitor changed the training: {name}, {variant}.")
        if number:  # the first round warms up
            rounds.append(found)
    rows = []
    for variant in names:
        trials = [found[variant] for found in rounds]
        ratios = [found[variant].seconds / found["without"].seconds for found in rounds]
        cells = [
            f"`{name}`",
            variant,
            f"{median(trial.observations for trial in trials):.0f}",
            f"{median(trial.seconds for trial in trials):.3g} s",
            f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
            f"{median(trial.share for trial in trials):.1%}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: Words of the command; by default the process's.
    """
    parser = argparse.ArgumentParser("python -m benchmarks.monitor_overhead", description=__doc__)
    parser.add_argument("--problem", choices=PROBLEMS, action="append", help="default: both")
    for name, default, what in (
        ("steps", 1000, "of a training"),
        ("samples", 64, "of the held-out batch"),
        ("every", 100, "steps between observations"),
        ("rounds", 5, "of trainings in turns, after one that does not count"),
    ):
        parser.add_argument(f"--{name}", type=types.positive, default=default, help=what)
    options = parser.parse_args(arguments)
    print("| problem | monitor | observations | time | ratio (range) | share as told |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in options.problem or PROBLEMS:
        print("\n".join(measured(name, options)), flush=True)


if __name__ == "__main__":
    main()
