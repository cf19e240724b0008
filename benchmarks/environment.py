"""Where a measurement was made: commit, machine and versions."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent

PACKAGES = (
    "vivit",
    "torch",
    "backpack-for-pytorch",
    "curvlinops-for-pytorch",
    "numpy",
    "scipy",
    "scikit-learn",
)


def environment(command: str) -> dict[str, Any]:
    """Facts that every record carries.

    Args:
        command: The command that makes the records.

    Returns:
        Commit, machine, versions and command, as plain JSON types.
    """
    commit = git("rev-parse", "HEAD")
    changes = _changes() if commit else None
    return {
        "commit": commit,
        "dirty": bool(changes),
        "changes": changes,
        "machine": machine(),
        "versions": {"python": platform.python_version(), **_versions()},
        "command": command,
    }


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


def _changes() -> str | None:
    """A hash of what differs from the commit, results aside; None if nothing does."""
    code = ("--", ".", ":(exclude,top)bench_results")
    status = git("status", "--porcelain", *code)
    if not status:
        return None
    untracked = (git("ls-files", "--others", "--exclude-standard", *code) or "").splitlines()
    contents = [hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in untracked]
    text = f"{status}\n{git('diff', 'HEAD', *code)}\n{contents}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
