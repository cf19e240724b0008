"""Where a measurement was made: code, machine and versions."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.records.sources import fingerprint

ROOT = Path(__file__).resolve().parents[2]

CODE = ("vivit", "benchmarks", "constraints.txt")
"""What a measurement depends on, beside machine, versions and its parameters."""

PACKAGES = (
    "vivit",
    "torch",
    "backpack-for-pytorch",
    "curvlinops-for-pytorch",
    "hessian-eigenthings",
    "numpy",
    "scipy",
    "scikit-learn",
)


def environment(command: str) -> dict[str, Any]:
    """Facts that every record carries.

    Args:
        command: The command that makes the records.

    Returns:
        Code, machine and versions, on which measurements depend; and for people, commit, whether
        the code differs from it, and command. All are plain JSON types.
    """
    return {
        "code": code(),
        "commit": git("rev-parse", "HEAD"),
        "dirty": bool(git("status", "--porcelain", "--", *CODE)),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **_versions()},
        "command": command,
    }


def code() -> str:
    """A hash of library, harness and pins: of nothing else in this folder, and of no commit."""
    files = [file for part in CODE for file in _files(ROOT / part)]
    return fingerprint(files, ROOT)


def machine() -> dict[str, Any]:
    """Processor, cores, memory, graphics card and operating system."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "os": f"{platform.system()} {platform.machine()}",
    }


def command_line() -> str:
    """The running command, as a user would type it, without the places of this machine."""
    words = [word.replace(f"{ROOT}/", "").replace(str(Path.home()), "~") for word in sys.argv[1:]]
    return shlex.join(["python", "-m", "benchmarks", *words])


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _files(place: Path) -> list[Path]:
    files = [place] if place.is_file() else place.rglob("*.py")
    return [file for file in files if file.is_file()]  # an editor's lock is a broken link


def git(*arguments: str) -> str | None:
    """What git says in this repository.

    Args:
        *arguments: Of git.

    Returns:
        Its output; None if it fails or is not there.
    """
    try:
        return subprocess.run(
            ["git", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
