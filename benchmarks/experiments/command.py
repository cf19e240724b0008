"""The command ``python -m benchmarks experiment``."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.experiments import EXPERIMENTS
from benchmarks.experiments.base import Experiment, Request, Scale
from benchmarks.experiments.run import Experiments
from benchmarks.grid import arguments as types
from benchmarks.records.names import unknown
from benchmarks.records.record import Record, Status
from benchmarks.run.runner import failures
from benchmarks.selection import DEFAULT_FOLDER, HOW, WHAT, SelectionError

ALL, LIST = "all", "list"

SHARED = {
    name: option
    for name, option in (WHAT | HOW).items()
    if name in ("problem", "data-root", "device", "budget", "workers", "peer-python")
}
"""Options that mean the same as those of ``run``."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to repeat, and how.

    Args:
        parser: Of the command.
    """
    parser.add_argument(
        "name", type=_name, metavar="NAME", help=f"of an experiment; {ALL} for each; {LIST}"
    )
    parser.add_argument(
        "--profile",
        type=types.choice(Scale),
        default=Scale.QUICK,
        metavar="NAME",
        help="smoke (3 minutes for all), quick (default; 2 hours for all) or paper (in full)",
    )
    for name, option in SHARED.items():
        parser.add_argument(f"--{name}", **option)
    parser.add_argument(
        "--threads",
        type=types.positive,
        metavar="N",
        help="of torch; default: all cores, or one for small networks",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--samples",
        type=types.positive,
        default=1000,
        metavar="N",
        help="of a problem of your own that is trained, a sixth of them to test; default: 1000",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="of records and checkpoints, in a folder of it for each profile; default: "
        f"{DEFAULT_FOLDER}/experiments",
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be done")


def _name(text: str) -> str:
    if text not in EXPERIMENTS and text not in (ALL, LIST):
        raise argparse.ArgumentTypeError(unknown("experiment", text, [*EXPERIMENTS, ALL, LIST]))
    return text


def run(options: argparse.Namespace) -> int:
    """Repeat one experiment, or all of them.

    Args:
        options: Of the command.

    Returns:
        Exit code: 0 when done, 1 if something failed.

    Raises:
        SelectionError: The experiment does not run on other problems, or a budget is larger than
            the memory of this machine.
        ProblemError: A user's problem does not do what is expected.
        DataError: A data set cannot be read.
    """
    if options.name == LIST:
        for experiment in EXPERIMENTS.values():
            print(f"{experiment.name:28} {experiment.description}")
        return 0
    folder = (options.output or DEFAULT_FOLDER / "experiments") / options.profile.value
    request, chosen = _request(options, folder), _chosen(options)
    settings = options.threads, options.budget, options.workers, options.peer_python
    runs = Experiments(request, folder, *settings)
    if options.dry_run:
        for experiment in chosen:
            print("\n".join(f"{experiment.name}: {title}" for title in runs.titles(experiment)))
        return 0
    runs.check(chosen)
    made: list[Record] = []
    for number, experiment in enumerate(chosen, start=1):
        made += runs.run(experiment, f"{number}/{len(chosen)}" if len(chosen) > 1 else "")
    for line in failures(made):
        print(line)
    print(f"Records: {folder}")
    print(f"Report:  python -m reports --input {folder}")
    return int(any(record.status is Status.ERROR for record in made))


def _request(options: argparse.Namespace, folder: Path) -> Request:
    return Request(
        options.profile,
        folder / "checkpoints",
        tuple(dict.fromkeys(options.problem)) if options.problem else None,
        options.device,
        seed=options.seed,
        data_root=None if options.data_root is None else options.data_root.resolve(),
        samples=options.samples,
    )


def _chosen(options: argparse.Namespace) -> list[Experiment]:
    """Those that are asked for; of all, those that run on the problems that are asked for."""
    if options.name == ALL:
        return [e for e in EXPERIMENTS.values() if e.on_own or not options.problem]
    experiment = EXPERIMENTS[options.name]
    if options.problem and not experiment.on_own:
        raise SelectionError(
            f"{experiment.name} runs on its own problem only: leave out --problem."
        )
    return [experiment]
