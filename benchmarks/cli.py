"""Command line: ``python -m benchmarks COMMAND``, such as ``run``; ``--help`` lists all."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.commits import check
from benchmarks.commits.check import PointsError
from benchmarks.commits.regressions import CommitError
from benchmarks.commits.verdicts import RulesError
from benchmarks.experiments import EXPERIMENTS
from benchmarks.experiments import command as experiment
from benchmarks.grid import arguments as types
from benchmarks.grid.comparison import Comparison
from benchmarks.grid.config_text import config_text
from benchmarks.grid.profiles import PROFILES, Profile
from benchmarks.grid.suites import SUITES
from benchmarks.grid.toml_file import ConfigError
from benchmarks.methods import METHODS
from benchmarks.problems import PROBLEMS
from benchmarks.problems.datasets import DataError
from benchmarks.problems.own import ProblemError
from benchmarks.profiling import command as profiling
from benchmarks.profiling.command import ProfileError
from benchmarks.records.environment import command_line, environment, machine
from benchmarks.records.names import Parser
from benchmarks.records.record import RecordError, RecordStore, merge
from benchmarks.run.cells import num_cells
from benchmarks.run.cluster import Cluster, JobsError, SettingError, collect, shard_files, submit
from benchmarks.run.estimate import Estimate
from benchmarks.run.process import ROOT
from benchmarks.run.progress import progress_bar
from benchmarks.run.runner import MEMORY_FRACTION, Runner, failures
from benchmarks.selection import (
    DEFAULT_FOLDER,
    SelectionError,
    add_options,
    profile_of,
    selected,
)
from benchmarks.selection import check as check_selection

PUBLISHED = ROOT / "bench_results" / "published"
"""Records from which times are estimated, besides those of earlier runs."""

WRONG = (
    RecordError,
    ProblemError,
    DataError,
    CommitError,
    RulesError,
    SettingError,
    SelectionError,
    PointsError,
    ConfigError,
    ProfileError,
    ImportError,
)
"""What users can mend."""

KINDS: dict[str, Mapping[str, Any]] = {
    "problems": PROBLEMS,
    "methods": METHODS,
    "suites": SUITES,
    "profiles": PROFILES,
    "experiments": EXPERIMENTS,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words of the command; by default the process's.

    Returns:
        Exit code: 0 when done, 1 if jobs failed or there is a regression, 2 for a wrong argument
        or file, 130 when interrupted.
    """
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return options.run(options)
    except WRONG as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except JobsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read the output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        again = "all finished cells are kept, and the same command goes on where this one stopped"
        kept = f"; {again}" if options.command in ("run", "experiment") else ""
        print(f"\nInterrupted{kept}.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = Parser("python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("list", help="show what can be measured")
    show.add_argument(
        "kind", nargs="?", choices=KINDS, metavar="KIND", help=f"{', '.join(KINDS)}; default: all"
    )
    show.add_argument("--profile", choices=PROFILES, metavar="NAME", help="with --toml: its grid")
    show.add_argument("--toml", action="store_true", help="as a file for run --config")
    show.set_defaults(run=_list)
    run = commands.add_parser(
        "run",
        usage="%(prog)s [options]",
        description="Measure. Names are shown by: python -m benchmarks list",
        help="measure; goes on where an earlier run stopped",
    )
    add_options(run)
    run.set_defaults(run=_run)
    published = commands.add_parser(
        "experiment",
        usage="%(prog)s {NAME | all | list} [options]",
        help="repeat a published experiment; goes on where an earlier run stopped",
    )
    experiment.add_arguments(published)
    published.set_defaults(run=experiment.run)
    jobs = commands.add_parser(
        "submit",
        help="run in shards, on a SLURM cluster or here; what follows -- are arguments of run",
    )
    _add_jobs(jobs)
    jobs.set_defaults(run=_submit)
    join = commands.add_parser("merge", help="add the records of some files to another, each once")
    join.add_argument("target", type=Path, help="file to append to; it need not exist")
    join.add_argument("sources", type=Path, nargs="+", help="files of records")
    join.set_defaults(run=_merge)
    compare = commands.add_parser(
        "check", help="compare the library with another commit's, in turns: is it slower?"
    )
    check.add_arguments(compare)
    profile = commands.add_parser(
        "profile", help="where the time of a method goes: phases, operations, the machine's limit"
    )
    profiling.add_arguments(profile)
    return parser


def _add_jobs(jobs: argparse.ArgumentParser) -> None:
    jobs.add_argument("--shards", type=types.positive, required=True, help="number of jobs")
    jobs.add_argument("--on", choices=["slurm", "local"], default="slurm", help="default: slurm")
    jobs.add_argument("--minutes", type=types.positive, default=240, help="of a job; default: 240")
    jobs.add_argument(
        "--set",
        action="append",
        type=types.setting,
        default=[],
        metavar="NAME=VALUE",
        help="of submitit, such as slurm_partition=gpu, cpus_per_task=8, mem_gb=64; repeatable",
    )
    jobs.add_argument("--output", type=Path, required=True, help="file of all records in the end")
    jobs.add_argument("--wait", action="store_true", help="until all are done, and merge")
    jobs.add_argument("rest", nargs="*", metavar="-- ARGUMENTS", help="of run")


def _list(options: argparse.Namespace) -> int:
    if options.toml and options.profile and not options.kind:
        print(config_text(PROFILES[options.profile]), end="")
        return 0
    if options.toml or options.profile:
        raise SelectionError("expected --profile NAME and --toml together, without a kind.")
    kinds = KINDS if options.kind is None else {options.kind: KINDS[options.kind]}
    for kind, registry in kinds.items():
        print(f"{kind}:")
        for name, entry in registry.items():
            print(f"  {name:26} {entry.description}{_settings(entry)}")
    return 0


def _settings(entry: Any) -> str:
    """What a method can be asked for, with the values that it has otherwise."""
    if getattr(entry, "settings", None) is None:
        return ""
    values = ", ".join(f"{name}={value}" for name, value in asdict(entry.settings).items())
    return f" [settings: {values}]"


def _merge(options: argparse.Namespace) -> int:
    added = merge(options.target, options.sources)
    print(f"Records: {options.target}, {added} added")
    return 0


def _submit(options: argparse.Namespace) -> int:
    profile_of(_parser().parse_args(["run", *options.rest]))  # what is wrong ends in no job
    cluster = Cluster(options.on, options.minutes, dict(options.set))
    jobs = submit(options.rest, options.shards, options.output, cluster)
    files = shard_files(options.output, options.shards)
    if options.wait:
        print(f"Records: {options.output}, {collect(options.output, len(files), jobs)} added")
        return 0
    print(f"{len(jobs)} jobs, the first is {jobs[0].job_id}. When they are done:")
    pattern = files[0].with_name(f"{options.output.stem}.*.jsonl")
    print(f"  python -m benchmarks merge {options.output} {pattern}")
    return 0


def _run(options: argparse.Namespace) -> int:
    profile = profile_of(options)
    comparisons = selected(options, profile)
    if not comparisons and options.shard[1] > 1:
        print("There is nothing in this shard: there are more shards than comparisons.")
        return 0
    if not comparisons:
        print("error: nothing in the grid matches the selection.", file=sys.stderr)
        return 2
    memory = machine()["memory_bytes"] // options.workers
    check_selection(comparisons, memory)
    output = options.output or DEFAULT_FOLDER / f"{profile.name}.jsonl"
    store = RecordStore(output)
    if options.dry_run:
        return _show(comparisons, profile, store)
    with progress_bar(num_cells(comparisons), "cell") as bar:

        def progress(what: str, finished: int) -> None:
            if what:
                bar.set_description_str(what)
            bar.update(finished)

        runner = Runner(
            store,
            environment(command_line()),
            profile.timeout,
            profile.patience,
            int(MEMORY_FRACTION * memory),
            progress,
            options.peer_python.absolute(),
            options.workers,
        )
        runner.run(comparisons)
        bar.set_description_str("done")
    _summarise(output, failures(runner.made))
    return 0


def _show(comparisons: list[Comparison], profile: Profile, store: RecordStore) -> int:
    """What would be measured, and how long it may take."""
    files = [*sorted(PUBLISHED.glob("*.jsonl")), store.path]
    known = Estimate([record for file in files for record in RecordStore(file).read()])
    for line in known.lines(comparisons, profile.patience):
        print(line)
    return 0


def _summarise(output: Path, failed: Iterable[str]) -> None:
    for line in failed:
        print(line)
    print(f"Records: {output}")
    print(f"Report:  python -m reports --input {output}")


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt
