"""The file of observations: one line each, appended as they are made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from vivit.errors import InputError
from vivit.monitor.observation import Observation

BEGINNING = b'{"step": '
"""Of each line."""


def append(path: Path, observation: Observation) -> None:
    """Append an observation, in one write; what a killed run left of a line is removed.

    Args:
        path: The file; it is created, and so is its folder.
        observation: What to write.

    Raises:
        OSError: It cannot be written.
        InputError: The file is there, and no monitor has written it.
    """
    line = (observation.to_json() + "\n").encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    _mend_last_line(path)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)  # on Windows
    handle = os.open(path, flags, 0o644)
    try:
        written = os.write(handle, line)
    finally:
        os.close(handle)
    if written < len(line):  # the next call removes it
        raise OSError(f"{path}: {written} of {len(line)} bytes could be written: is it full?")


def read(path: Path | str) -> list[Observation]:
    """The observations of a file, by step.

    One replaces all before it that are of the same or a later step: a run that went on from a
    checkpoint, or began anew, is as it was the last time. A line without an end is one that is
    being written, or that a killed run left, and is left out.

    Args:
        path: The file.

    Returns:
        In ascending order of their steps.

    Raises:
        InputError: There is no such file, or a line is no observation; the message says which.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    kept: list[Observation] = []
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        observation = _parsed(path, number, line)
        while kept and kept[-1].step >= observation.step:
            kept.pop()
        kept.append(observation)
    return kept


def _parsed(path: Path | str, number: int, line: bytes) -> Observation:
    try:
        return Observation.from_json(line.decode())
    except ValueError as error:
        raise InputError(
            f"{path}, line {number}: not an observation of a monitor: {error}."
        ) from error


def _mend_last_line(path: Path) -> None:
    """Remove what follows the last end of a line, of a file that is a monitor's."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        _check_beginning(path, file.read(len(BEGINNING)))
        size = file.seek(0, os.SEEK_END)
        if not size or _at(file, size - 1, 1) == b"\n":
            return
        end = _at(file, 0, size).rfind(b"\n") + 1
        _check_beginning(path, _at(file, end, len(BEGINNING)))
        file.truncate(end)


def _at(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)


def _check_beginning(path: Path, head: bytes) -> None:
    """Refuse a line that a monitor has not begun; a killed run may have left less of it."""
    if not BEGINNING.startswith(head):
        raise InputError(
            f"{path} is there and is not a monitor's: a line begins with {head!r}. Choose another "
            "path, or remove the file."
        )
