"""What users write on the command line, as values; errors say what was expected."""

from __future__ import annotations

import argparse
import re

import torch

from benchmarks.own_problem import SEPARATOR, OwnProblem, ProblemError
from benchmarks.problems import PROBLEMS

UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
"""Of sizes in bytes."""


def device(text: str) -> str:
    """``cpu``, or a CUDA device that is there."""
    kind = text.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"expected cpu or cuda, got {text!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError("torch sees no CUDA device on this machine")
    return text


def size_in_bytes(text: str) -> int:
    """A size such as 4GiB."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]iB|B)", text)
    size = int(float(found[1]) * UNITS[found[2]]) if found else 0
    if not size:
        raise argparse.ArgumentTypeError(f"expected a size such as 4GiB or 512MiB, got {text!r}")
    return size


def positive(text: str) -> int:
    """A whole number above zero."""
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a positive whole number, got {text!r}")
    return int(text)


def shard(text: str) -> tuple[int, int]:
    """``i/n``, counted from 1."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    index, number = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= index <= number:
        raise argparse.ArgumentTypeError(
            f"expected i/n with i from 1 to n, such as 2/8, got {text!r}"
        )
    return index, number


def problem(text: str) -> str:
    """A problem's name, or a user's own with the absolute path of its file."""
    if SEPARATOR in text:
        try:
            return OwnProblem.parse(text).spec
        except ProblemError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
    if text not in PROBLEMS:
        raise argparse.ArgumentTypeError(
            f"invalid choice: {text!r} (choose from {', '.join(PROBLEMS)}, or give "
            "path/to/file.py:function)"
        )
    return text


def setting(text: str) -> tuple[str, int | str]:
    """``name=value``, whose value may be a whole number."""
    name, separator, value = text.partition("=")
    if not name.isidentifier() or not separator:
        raise argparse.ArgumentTypeError(
            f"expected name=value, such as slurm_partition=gpu, got {text!r}"
        )
    return name, int(value) if value.isdigit() else value
