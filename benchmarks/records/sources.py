"""Files of code that decide what is measured, and their fingerprint."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path


def fingerprint(files: Iterable[Path], root: Path) -> str:
    """A hash of names and contents.

    Args:
        files: In any order.
        root: Folder that names are relative to.

    Returns:
        Sixteen hexadecimal digits.
    """
    digest = hashlib.sha256()
    for file in sorted(files):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:16]


def with_local_modules(file: Path) -> set[Path]:
    """A file and all modules of its folder that it imports, directly or by way of others.

    Imports are read from the text, also those within functions; nothing is run. `modulefinder`
    does the same, but fails on packages without ``__init__.py``.

    Args:
        file: Of Python code.

    Returns:
        Files in the folder of the first, and below it.
    """
    folder, found, pending = file.parent, {file}, [file]
    while pending:
        new = set(_imported_from(pending.pop(), folder)) - found
        found |= new
        pending += new
    return found


def _imported_from(file: Path, folder: Path) -> Iterator[Path]:
    """Modules of a folder that a file imports, and the packages that they are in."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return  # it cannot be imported either, and whoever tries says why
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _modules(folder, alias.name)
        elif isinstance(node, ast.ImportFrom):
            bases = [folder, *file.parents]
            base = bases[min(node.level, len(bases) - 1)]
            module = f"{node.module}." if node.module else ""
            for alias in node.names if base.is_relative_to(folder) else ():
                yield from _modules(base, f"{module}{alias.name}")  # or an attribute of one


def _modules(folder: Path, name: str) -> Iterator[Path]:
    """Files of a dotted name: of packages on the way, and of the module."""
    place = folder
    for part in name.split("."):
        place = place / part
        for file in (place.with_name(f"{part}.py"), place / "__init__.py"):
            if file.is_file():
                yield file
