"""What pytest-benchmark's files say of the machine and the commit."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.records.environment import environment, machine


def pytest_benchmark_update_machine_info(config: object, machine_info: dict[str, Any]) -> None:
    """Add what the harness records, and leave out what identifies the host."""
    for name in ("node", "release"):  # of the host, and of its kernel's build
        machine_info.pop(name, None)
    machine_info["vivit"] = {**machine(), "torch": torch.__version__}


def pytest_benchmark_update_commit_info(config: object, commit_info: dict[str, Any]) -> None:
    """Tell uncommitted changes as the harness does: those of results do not count."""
    commit_info["dirty"] = environment("pytest")["dirty"]
