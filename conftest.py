"""Which of the two sets of tests runs: the tests, or with ``--benchmark-only`` the benchmarks."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent / "tests"
BENCHMARKS = Path(__file__).parent / "benchmarks" / "pytest"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the other set; no test is collected only to be skipped."""
    other = TESTS if config.getoption("benchmark_only") else BENCHMARKS
    return True if collection_path.is_relative_to(other) else None
