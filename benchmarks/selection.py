"""The options of ``python -m benchmarks run``, and what they select."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks.grid import arguments as types
from benchmarks.grid.comparison import Comparison, Selection
from benchmarks.grid.config import DEFAULT, read_config
from benchmarks.grid.profiles import PROFILES, Profile
from benchmarks.grid.suites import SUITES
from benchmarks.measure.critical import BudgetMode
from benchmarks.problems.own import OwnProblem, find_problem
from benchmarks.records.settings import split_method
from benchmarks.run.process import PEER_PYTHON

DEFAULT_FOLDER = Path("bench_results/local")


class SelectionError(ValueError):
    """What was selected cannot be measured here."""


WHAT: dict[str, dict[str, Any]] = {
    "profile": {
        "choices": PROFILES,
        "metavar": "NAME",
        "help": f"default: {DEFAULT.name}",
    },
    "config": {
        "type": Path,
        "metavar": "FILE",
        "help": "a grid of your own, in TOML, in place of a profile",
    },
    "suite": {
        "action": "append",
        "choices": SUITES,
        "metavar": "NAME",
        "help": "only this suite; may be repeated, as the next two",
    },
    "method": {
        "action": "append",
        "type": types.method,
        "metavar": "NAME",
        "help": "only this method, or with settings: NAME:tolerance=1e-6",
    },
    "problem": {
        "action": "append",
        "type": types.problem,
        "metavar": "NAME",
        "help": "only this problem; or one of your own: "
        "path/to/file.py:function, in place of the profile's",
    },
    "batch-size": {
        "type": types.positive,
        "metavar": "N",
        "help": "default: those of the profile",
    },
    "data-root": {
        "type": Path,
        "metavar": "DIR",
        "help": "with torchvision's CIFAR or Fashion-MNIST, to be used",
    },
    "shard": {
        "type": types.shard,
        "default": (1, 1),
        "metavar": "I/N",
        "help": "only a part of the grid, such as 2/8; see merge",
    },
}
"""Options that say what is measured."""

HOW: dict[str, dict[str, Any]] = {
    "device": {
        "type": types.device,
        "default": "cpu",
        "metavar": "NAME",
        "help": "cpu (default) or cuda",
    },
    "threads": {
        "type": types.positive,
        "metavar": "N",
        "help": "of torch; default: the profile's, or all cores",
    },
    "repeats": {
        "type": types.positive,
        "metavar": "N",
        "help": "timed runs; default: the profile's",
    },
    "budget": {
        "type": types.size_in_bytes,
        "metavar": "SIZE",
        "help": "of searches for critical batch sizes, such as 4GiB",
    },
    "budget-mode": {
        "type": types.choice(BudgetMode),
        "metavar": "MODE",
        "help": "process (default): by the system; simulated: by a count",
    },
    "workers": {
        "type": types.positive,
        "default": 1,
        "metavar": "N",
        "help": "side by side for memory and searches; default: 1",
    },
    "peer-python": {
        "type": Path,
        "default": PEER_PYTHON,
        "metavar": "FILE",
        "help": "with the original package; default: tox's peer",
    },
    "output": {
        "type": Path,
        "metavar": "FILE",
        "help": f"of records; default: {DEFAULT_FOLDER}/PROFILE.jsonl",
    },
    "dry-run": {"action": "store_true", "help": "show the cells and what they take"},
}
"""Options that say how."""


def add_options(run: argparse.ArgumentParser) -> None:
    """What to measure, and how.

    Args:
        run: The parser of the command.
    """
    grid = run.add_mutually_exclusive_group()
    for name, option in (WHAT | HOW).items():
        (grid if name in ("profile", "config") else run).add_argument(f"--{name}", **option)


def profile_of(options: argparse.Namespace) -> Profile:
    """The grid that a command names.

    Args:
        options: Of the command.

    Returns:
        A profile, which may be a user's own.

    Raises:
        ConfigError: The user's file cannot be used.
    """
    if options.config is not None:
        return read_config(options.config)
    return DEFAULT if options.profile is None else PROFILES[options.profile]


def selected(options: argparse.Namespace, profile: Profile) -> list[Comparison]:
    """What of a profile is to be measured, and with which settings.

    Args:
        options: Of the command.
        profile: Whose grid is narrowed down.

    Returns:
        Comparisons; none if nothing matches.
    """
    settings = {
        "device": options.device,
        "repeats": options.repeats,
        "threads": options.threads or profile.threads or torch.get_num_threads(),
        "data_root": None if options.data_root is None else options.data_root.resolve(),
    }
    answered = {split_method(m)[0] for suite in SUITES.values() for m in suite.methods}
    methods = options.method or []
    selection = Selection(
        options.suite,
        options.problem,
        options.method,
        [m for m in methods if split_method(m)[0] not in answered],
        options.budget,
        options.budget_mode,
        options.batch_size,
        options.shard,
        settings,
    )
    return selection.of(profile.comparisons())


def check(comparisons: Iterable[Comparison], memory: int) -> None:
    """Find what is wrong before anything is measured.

    Args:
        comparisons: What is to be measured.
        memory: Bytes that this machine has for each worker.

    Raises:
        ProblemError: A user's problem does not do what is expected.
        DataError: A data set cannot be read.
        SelectionError: A budget is larger than that memory, so that it would not run out.
    """
    chosen = {(c.source or c.problem, c.device, c.seed, c.data_root) for c in comparisons}
    for name, device, seed, root in sorted(chosen, key=str):
        problem = find_problem(name)
        if isinstance(problem, OwnProblem):
            problem.check(device, seed)
        elif root is not None:
            problem.make(2, device, torch.float32, seed, root)
    real = [(c.limits, c.device) for c in comparisons if c.limits is not None]
    budgets = [x.budget for x, on in real if x.mode is BudgetMode.PROCESS and on == "cpu"]
    largest = max(budgets, default=0)
    if largest > memory:
        raise SelectionError(
            f"a budget of {largest} bytes cannot be told from the memory that this machine has "
            f"for a worker, {memory} bytes: choose a smaller one by --budget, or fewer --workers."
        )
