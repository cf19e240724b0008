"""What users write on the command line, as values; errors say what was expected."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from fractions import Fraction
from typing import TypeVar

import torch

from benchmarks.methods import find_method
from benchmarks.problems import PROBLEMS
from benchmarks.problems.own import SEPARATOR, OwnProblem, ProblemError
from benchmarks.records.names import Choice, did_you_mean, unknown

T = TypeVar("T", bound=Choice)

DEVICES = ("cpu", "cuda")

UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
"""Of sizes in bytes."""


def device(text: str) -> str:
    """``cpu``, or a CUDA device that is there."""
    kind, _, index = text.partition(":")
    if kind not in DEVICES or not re.fullmatch(r"(:\d+)?", text[len(kind) :]):
        guess = did_you_mean(text, DEVICES)
        raise argparse.ArgumentTypeError(
            f"expected cpu or cuda, or one of several such as cuda:1, got {text!r}{guess}"
        )
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise argparse.ArgumentTypeError(
            f"torch sees {torch.cuda.device_count() or 'no'} CUDA devices on this machine, got "
            f"{text!r}; they are counted from 0"
        )
    return text


def size_in_bytes(text: str) -> int:
    """A size such as 4GiB."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]iB|B)", text)
    size = int(Fraction(found[1]) * UNITS[found[2]]) if found else 0
    if not size:
        raise argparse.ArgumentTypeError(
            f"expected a positive size such as 4GiB or 512MiB, got {text!r}"
        )
    return size


def positive(text: str) -> int:
    """A whole number above zero."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a positive whole number, got {text!r}")
    return int(text)


def threshold(text: str) -> float:
    """A ratio above one."""
    try:
        ratio = float(text)
    except ValueError:
        ratio = math.nan
    if not 1 < ratio < math.inf:
        raise argparse.ArgumentTypeError(f"expected a ratio above 1 such as 1.1, got {text!r}")
    return ratio


def choice(kind: type[T]) -> Callable[[str], T]:
    """One of some values; argparse drops what their own error says."""

    def parse(text: str) -> T:
        try:
            return kind(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse


def shard(text: str) -> tuple[int, int]:
    """``i/n``, counted from 1."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    index, number = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= index <= number:
        raise argparse.ArgumentTypeError(
            f"expected i/n with i from 1 to n, such as 2/8, got {text!r}"
        )
    return index, number


def method(text: str) -> str:
    """A method's name, and perhaps settings."""
    try:
        return find_method(text).text
    except (KeyError, ValueError) as error:
        raise argparse.ArgumentTypeError(error.args[0]) from error


def problem(text: str) -> str:
    """A problem's name, or a user's own with the absolute path of its file."""
    if SEPARATOR in text:
        try:
            return OwnProblem.parse(text).spec
        except ProblemError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
    if text not in PROBLEMS:
        raise argparse.ArgumentTypeError(
            f"{unknown('problem', text, PROBLEMS)} Or give path/to/file.py:function."
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
