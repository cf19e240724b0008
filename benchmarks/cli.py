"""Command line: ``python -m benchmarks list | run``."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.environment import command_line, environment, machine
from benchmarks.methods import METHODS
from benchmarks.problems import PROBLEMS
from benchmarks.process import PEER_PYTHON
from benchmarks.records import RecordError, RecordStore
from benchmarks.runner import Runner, failures, num_cells
from benchmarks.suites import PROFILES, SUITES, Comparison, select

DEFAULT_FOLDER = Path("bench_results/local")

MEMORY_FRACTION = 0.6
"""Share of the machine's memory beyond which a worker's allocations fail."""

UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
"""Of sizes in bytes."""

KINDS: dict[str, Mapping[str, Any]] = {
    "problems": PROBLEMS,
    "methods": METHODS,
    "suites": SUITES,
    "profiles": PROFILES,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Words of the command; by default the process's.

    Returns:
        Exit code: 0 when done, 2 for a wrong argument or file, 130 when interrupted.
    """
    options = _parser().parse_args(arguments)
    if options.command == "list":
        _list(KINDS if options.kind is None else {options.kind: KINDS[options.kind]})
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _run(options)
    except RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = "the same command goes on where this one stopped"
        print(f"\nInterrupted; all finished cells are kept, and {again}.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("list", help="show what can be measured")
    show.add_argument("kind", nargs="?", choices=KINDS, help="by default all")
    run = commands.add_parser("run", help="measure; goes on where an earlier run stopped")
    run.add_argument("--profile", choices=PROFILES, default="quick", help="default: quick")
    for what, choices in (("suite", SUITES), ("problem", PROBLEMS), ("method", METHODS)):
        run.add_argument(
            f"--{what}",
            action="append",
            choices=choices,
            help=f"only this {what} of the profile; may be repeated",
        )
    run.add_argument("--device", type=_device, default="cpu", help="cpu (default) or cuda")
    run.add_argument(
        "--threads", type=_positive, help="of torch; default: the profile's, or all cores"
    )
    run.add_argument("--repeats", type=_positive, help="timed runs; default: the profile's")
    run.add_argument(
        "--budget",
        type=_bytes,
        help="of searches for critical batch sizes, such as 4GiB; default: the profile's",
    )
    run.add_argument(
        "--peer-python",
        type=Path,
        default=PEER_PYTHON,
        help="interpreter with the original package; default: that of tox's environment peer",
    )
    run.add_argument(
        "--output",
        type=Path,
        help=f"file of records to append to; default: {DEFAULT_FOLDER}/PROFILE.jsonl",
    )
    return parser


def _list(kinds: Mapping[str, Mapping[str, Any]]) -> None:
    for kind, registry in kinds.items():
        print(f"{kind}:")
        for name, entry in registry.items():
            print(f"  {name:16} {entry.description}")


def _run(options: argparse.Namespace) -> int:
    profile = PROFILES[options.profile]
    comparisons = select(
        profile.comparisons(),
        options.suite,
        options.problem,
        options.method,
        options.budget,
        device=options.device,
        repeats=options.repeats,
        threads=options.threads or profile.threads or torch.get_num_threads(),
    )
    if not comparisons:
        print("error: nothing in the profile matches the selection.", file=sys.stderr)
        return 2
    memory = machine()["memory_bytes"]
    if options.device == "cpu" and not _budgets_tell(comparisons, memory):
        return 2
    output = options.output or DEFAULT_FOLDER / f"{profile.name}.jsonl"
    store = RecordStore(output)
    with tqdm(total=num_cells(comparisons), unit="cell", dynamic_ncols=True) as bar:

        def progress(what: str, finished: int) -> None:
            if what:
                bar.set_description_str(what)
            bar.update(finished)

        limit = int(MEMORY_FRACTION * memory)
        place = environment(command_line())
        runner = Runner(
            store,
            place,
            profile.timeout,
            profile.patience,
            limit,
            progress,
            options.peer_python.absolute(),
        )
        runner.run(comparisons)
        bar.set_description_str("done")
    _summarise(output, failures(runner.made))
    return 0


def _budgets_tell(comparisons: Iterable[Comparison], memory: int) -> bool:
    """Whether budgets are below the machine's memory, so that it is they that run out."""
    largest = max((c.limits.budget for c in comparisons if c.limits is not None), default=0)
    if largest > memory:
        print(
            f"error: a budget of {largest} bytes cannot be told from the memory of this machine, "
            f"{memory} bytes: choose a smaller one by --budget.",
            file=sys.stderr,
        )
    return largest <= memory


def _summarise(output: Path, failed: Iterable[str]) -> None:
    for line in failed:
        print(line)
    print(f"Records: {output}")
    print(f"Report:  python -m reports --input {output}")


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _device(text: str) -> str:
    kind = text.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"expected cpu or cuda, got {text!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError("torch sees no CUDA device on this machine")
    return text


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]iB|B)", text)
    size = int(float(found[1]) * UNITS[found[2]]) if found else 0
    if not size:
        raise argparse.ArgumentTypeError(f"expected a size such as 4GiB or 512MiB, got {text!r}")
    return size


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a positive whole number, got {text!r}")
    return int(text)
